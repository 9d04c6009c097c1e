"""What an error says about a call: whether it was executed, and what its caller is told.

The source is etcd 3.4.23, and docs/etcd.md for raftkv-trio. A text that is not known here may mean that the
call was executed: to say so is right of both.
"""

import re
from enum import Enum

from raftkv_trio.errors import (
    CommandRefused,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalError,
    StoreFull,
    TooLarge,
)
from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc import CallLost, CallNotExecuted, Code, RpcError
from raftkv_trio.kv import Failure

CallError = RpcError | CallLost | CallNotExecuted


class CallRefused(CommandRefused):
    """The server refused the call; certainly nothing was done.

    Attributes:
        code: the status code of gRPC, such as 3 for an invalid argument.
        text: the server's, such as "etcdserver: key is not provided".
        failure: why, if the call is valid, but not in the state that the store had.
    """

    def __init__(self, code: int, text: str, failure: Failure | None = None) -> None:
        super().__init__(printable(text))
        self.code = code
        self.text = text
        self.failure = failure


class PermissionDenied(CallRefused):
    """The user may not do this with these keys, or is no root user."""


class NotAuthenticated(CallRefused):
    """The cluster checks users, and does not know who this is: there is no user, or the password is wrong."""

    def __init__(self, code: int, text: str, failure: Failure | None = None) -> None:
        super().__init__(code, text, failure)
        if text == USER_EMPTY:  # which says too little
            self.args = (f"{text}: the cluster checks who asks, and no user was given",)


class WatchCompacted(CallRefused):
    """Events that a watch has not been told yet are compacted: read the keys, and watch from there on.

    Attributes:
        compact_revision: the least revision that a watch may begin from.
    """

    def __init__(self, compact_revision: int) -> None:
        super().__init__(int(Code.OUT_OF_RANGE), _COMPACTED, Failure.COMPACTED)
        self.compact_revision = compact_revision


class Outcome(Enum):
    """What is known of a call that has ended with an error."""

    REFUSED = "refused; it would be refused again"
    NOT_EXECUTED = "certainly not executed; it may be made again"
    UNKNOWN = "executed or not"


USER_EMPTY = "etcdserver: user name is empty"
NOT_ENABLED = "etcdserver: authentication is not enabled"
_OLD_REVISION = "etcdserver: revision of auth store is old"
_PERMISSION_DENIED = "etcdserver: permission denied"
_AUTHENTICATION_FAILED = "etcdserver: authentication failed, invalid user ID or password"
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"
_TOO_MANY_KEYS = "etcdserver: too many keys in the ranges of a txn, or of a lease; divide them"
_FAILURES = {
    _TOO_MANY_KEYS: Failure.TOO_MANY_KEYS,
    _COMPACTED: Failure.COMPACTED,
    "etcdserver: mvcc: required revision is a future revision": Failure.FUTURE_REVISION,
    "etcdserver: requested lease not found": Failure.LEASE_NOT_FOUND,
    "etcdserver: key not found": Failure.KEY_NOT_FOUND,
    USER_EMPTY: Failure.USER_EMPTY,
    _OLD_REVISION: Failure.AUTH_OLD_REVISION,
    _PERMISSION_DENIED: Failure.PERMISSION_DENIED,
    NOT_ENABLED: Failure.AUTH_NOT_ENABLED,
    "etcdserver: user name already exists": Failure.USER_EXISTS,
    "etcdserver: user name not found": Failure.USER_NOT_FOUND,
    "etcdserver: role name already exists": Failure.ROLE_EXISTS,
    "etcdserver: role name not found": Failure.ROLE_NOT_FOUND,
    "etcdserver: role name is empty": Failure.ROLE_EMPTY,
    "etcdserver: role is not granted to the user": Failure.ROLE_NOT_GRANTED,
    "etcdserver: permission is not granted to the role": Failure.PERMISSION_NOT_GRANTED,
    "etcdserver: root user does not exist": Failure.ROOT_USER_NOT_FOUND,
    "etcdserver: root user does not have root role": Failure.ROOT_ROLE_NOT_GRANTED,
    "etcdserver: invalid auth management": Failure.INVALID_AUTH_MANAGEMENT,
}
_REASON = re.compile("rpc error: code = (\\w+) desc = (.*)", re.DOTALL)
_CODES_OF_GO = {code.name.title().replace("_", ""): code for code in Code}
_TOO_MANY = "etcdserver: too many requests"
_NO_SPACE = "etcdserver: mvcc: database space exceeded"
_TOO_LARGE = "etcdserver: request is too large"
_NOT_CAPABLE = "etcdserver: not capable"
_NO_LEADER = "etcdserver: no leader"
#: What gRPC says to a request above the size that the server receives.
_GRPC_TOO_LARGE = "grpc: received message larger than max"
#: What the server decides by looking at the call, before it does anything.
_REFUSALS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.PERMISSION_DENIED,
    Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE,
    Code.UNIMPLEMENTED,
    Code.UNAUTHENTICATED,
}


def refuses_token(error: CallError) -> bool:
    """Whether a call was refused for what it has shown of its user: another token may do."""
    if not isinstance(error, RpcError):
        return False
    return error.code is Code.UNAUTHENTICATED or error.text == _OLD_REVISION or shows_nobody(error.text)


def shows_nobody(text: str) -> bool:
    """Whether a call was refused because it is from no user: without a token, by a certificate of none."""
    return text == USER_EMPTY or text.startswith(f"{_PERMISSION_DENIED}: ")


def outcome_of(error: CallError, *, is_ours: bool) -> Outcome:
    """What the error of a call says about it.

    Args:
        is_ours: whether the server is raftkv-trio. etcd may execute a put and say that the space is exceeded.
    """
    if isinstance(error, CallNotExecuted):
        return Outcome.NOT_EXECUTED
    if isinstance(error, CallLost):
        return Outcome.UNKNOWN
    if error.code in _REFUSALS:
        return Outcome.REFUSED
    match error.code, error.text:
        case (Code.RESOURCE_EXHAUSTED, text) if text == _TOO_MANY:
            return Outcome.NOT_EXECUTED
        case (Code.RESOURCE_EXHAUSTED, text) if text == _NO_SPACE:
            return Outcome.REFUSED if is_ours else Outcome.UNKNOWN
        case (Code.RESOURCE_EXHAUSTED, text) if text == _TOO_MANY_KEYS or text.startswith(_GRPC_TOO_LARGE):
            return Outcome.REFUSED
        case (Code.UNAVAILABLE, text) if text == _NO_LEADER:
            return Outcome.NOT_EXECUTED
        case (Code.UNAVAILABLE, text) if text == _NOT_CAPABLE:
            return Outcome.REFUSED
    return Outcome.UNKNOWN


def refusal_of(error: CallError) -> ProposalError:
    """What a caller is told of a call that was refused."""
    assert isinstance(error, RpcError)
    text = error.text
    if text == _NO_SPACE:
        return StoreFull(text)
    if text == _TOO_LARGE or text.startswith(_GRPC_TOO_LARGE):
        return TooLarge(printable(text))
    kind = CallRefused
    if text == _PERMISSION_DENIED:
        kind = PermissionDenied
    elif refuses_token(error) or text == _AUTHENTICATION_FAILED:
        kind = NotAuthenticated
    return kind(int(error.code), text, _FAILURES.get(text))


def error_of_reason(reason: str) -> RpcError | None:
    """The error of which the reason of a cancelled watch is Go's text; None if it is none."""
    found = _REASON.fullmatch(reason)
    if found is None or found[1] not in _CODES_OF_GO:
        return None
    return RpcError(_CODES_OF_GO[found[1]], found[2])


def not_executed(error: CallError | None, reason: str = "") -> ProposalError:
    """What a caller is told who has given up a call that was certainly not executed."""
    if isinstance(error, RpcError) and error.text == _TOO_MANY:
        return Overloaded(_TOO_MANY)
    return NoLeader(f"certainly not executed: {reason or sentence_of(error)}")


def unknown(error: CallError | None, reason: str = "") -> ProposalError:
    """What a caller is told of a write that may have been executed."""
    return OutcomeUnknown(f"the write may or may not have been executed: {reason or sentence_of(error)}")


def sentence_of(error: BaseException | None) -> str:
    """The text of an error, fit for a line."""
    return printable(str(error))
