"""The one table from errors to status codes."""

from http import HTTPStatus

from raftkv_trio.errors import (
    DiskFull,
    MalformedRequest,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    RaftKVError,
    TooLarge,
)

#: What a client is told where the fault is ours.
BUG = "The request failed because of a bug in raftkv-trio; the node's log says more"
MEMBERSHIP_IS_FIXED = "The members of a cluster cannot be changed yet; that comes with a later version"

_STATUS_OF: dict[type[RaftKVError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    NoLeader: HTTPStatus.SERVICE_UNAVAILABLE,
    OutcomeUnknown: HTTPStatus.GATEWAY_TIMEOUT,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
}


def status_of(error: RaftKVError) -> HTTPStatus | None:
    """The status that tells of `error`, or None where only a bug of ours lets it get as far as a client."""
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)
