"""The one table from errors to status codes, and the statuses that come with `Retry-After`."""

from http import HTTPStatus

from raftkv_trio.errors import (
    ChangeRefused,
    CommandRefused,
    DiskFull,
    MalformedRequest,
    NoLeader,
    NoSuchMember,
    OutcomeUnknown,
    Overloaded,
    RaftKVError,
    SlowRequest,
    SnapshotNotTaken,
    StoreFull,
    TooLarge,
    TransferFailed,
)

#: What a client is told if the fault is ours.
BUG = "The request failed because of a bug in raftkv-trio; see the node's log"

# The first class that fits counts, so a subclass stands above its base.
_STATUS_OF: dict[type[RaftKVError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    SlowRequest: HTTPStatus.REQUEST_TIMEOUT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    NoLeader: HTTPStatus.SERVICE_UNAVAILABLE,
    CommandRefused: HTTPStatus.SERVICE_UNAVAILABLE,  # an upgraded node takes it
    TransferFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    OutcomeUnknown: HTTPStatus.GATEWAY_TIMEOUT,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,  # 507
    StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
    SnapshotNotTaken: HTTPStatus.INSUFFICIENT_STORAGE,
    NoSuchMember: HTTPStatus.NOT_FOUND,
    ChangeRefused: HTTPStatus.CONFLICT,
}
RETRY_AFTER_S = 1
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def status_of(error: RaftKVError) -> HTTPStatus | None:
    """The status for `error`; None if the error reaches a client only because of a bug of ours."""
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)


def retry_after(status: int) -> dict[str, str]:
    """The field `Retry-After`, in seconds, if a response of this status has it."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in _RETRIED else {}
