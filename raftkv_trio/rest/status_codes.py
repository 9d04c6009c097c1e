"""The one table from errors to status codes, and which of these say `Retry-After`."""

from http import HTTPStatus

import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import (
    ChangeRefused,
    DiskFull,
    MalformedRequest,
    NoLeader,
    NoSuchMember,
    OutcomeUnknown,
    Overloaded,
    RaftKVError,
    SlowRequest,
    TooLarge,
)
from raftkv_trio.node.proposals import Applied, Proposal

#: What a client is told where the fault is ours.
BUG = "The request failed because of a bug in raftkv-trio; the node's log says more"

_STATUS_OF: dict[type[RaftKVError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    SlowRequest: HTTPStatus.REQUEST_TIMEOUT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    NoLeader: HTTPStatus.SERVICE_UNAVAILABLE,
    OutcomeUnknown: HTTPStatus.GATEWAY_TIMEOUT,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    NoSuchMember: HTTPStatus.NOT_FOUND,
    ChangeRefused: HTTPStatus.CONFLICT,
}
RETRY_AFTER_S = 1
_TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def status_of(error: RaftKVError) -> HTTPStatus | None:
    """The status that tells of `error`, or None where only a bug of ours lets it get as far as a client."""
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)


def retry_after(status: int) -> dict[str, str]:
    """The field that says when to try again, where that makes sense."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in _TRY_AGAIN else {}


async def wait_settled(proposal: Proposal, config: RestConfig) -> Applied:
    """Wait until a proposal is applied here, for as long as a request may.

    Raises ProposalError; where the time is up, that which says whether it may still be applied. Cancelled,
    since the client is gone or we stop, it gives the proposal up.
    """
    try:
        with trio.move_on_after(config.request_timeout_s):
            return await proposal.wait()
    except trio.Cancelled:
        proposal.give_up()
        raise
    raise proposal.give_up()
