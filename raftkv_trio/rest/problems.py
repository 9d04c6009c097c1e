"""The one table from errors to status codes."""

from raftkv_trio.errors import (
    DiskFull,
    MalformedRequest,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    RaftKVError,
    TooLarge,
)

_STATUS: tuple[tuple[type[RaftKVError], int], ...] = (
    (MalformedRequest, 400),
    (NoLeader, 503),
    (Overloaded, 429),
    (TooLarge, 413),
    (DiskFull, 507),
    (OutcomeUnknown, 504),
)
RETRY_AFTER_S = 1


def status_of(error: RaftKVError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def retry_headers(status: int) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
