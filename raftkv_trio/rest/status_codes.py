"""The one table from errors to status codes."""

from http import HTTPStatus

from raftkv_trio.access.credentials import NotAuthenticated
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
    RequestIdReused,
    SlowRequest,
    SnapshotNotTaken,
    StoreFull,
    TooLarge,
    TransferFailed,
)
from raftkv_trio.kv import AuthFailed, Failure

# The first class that fits counts, so a subclass stands above its base.
_STATUS_OF: dict[type[RaftKVError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
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
    RequestIdReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ChangeRefused: HTTPStatus.CONFLICT,
}
# Of AuthFailed; no other failure of the store comes from a request of this API.
_STATUS_OF_FAILURE = {
    Failure.USER_EMPTY: HTTPStatus.UNAUTHORIZED,
    Failure.AUTH_OLD_REVISION: HTTPStatus.UNAUTHORIZED,
    Failure.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="raftkv-trio", charset="UTF-8"'}


def status_of(error: RaftKVError) -> HTTPStatus | None:
    """The status for `error`; None if the error reaches a client only because of a bug of ours."""
    if isinstance(error, AuthFailed):
        return _STATUS_OF_FAILURE.get(error.failure)
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)


def challenge(status: int) -> dict[str, str]:
    """The field that asks for a user and a password, if a response of this status has it."""
    return _CHALLENGE if status == HTTPStatus.UNAUTHORIZED else {}


def sentence_of(error: RaftKVError) -> str:
    """What a client is told of an error that has a status."""
    if isinstance(error, AuthFailed) and error.failure is Failure.USER_EMPTY:
        return "Authentication is enabled, and the request does not say who asks"
    if isinstance(error, AuthFailed) and error.failure is Failure.PERMISSION_DENIED:
        return "The user has no permission for that; a user with the role root can give one"
    return str(error)
