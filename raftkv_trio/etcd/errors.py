"""The errors of etcd's API: its codes and texts, which clients compare, and which of our errors means which.

The source is what etcd 3.4.23 answers. What may have been done, and what certainly was not, have different
texts; docs/etcd.md says so to users:

- "request timed out": a write may or may not have happened; a read has no answer.
- "this request was applied before": it was done, once, under the same Idempotency-Key.
- all other texts: certainly not done.
"""

from enum import Enum

from raftkv_trio.access.credentials import NoSuchCertifiedUser, TokenRefused, WrongPassword
from raftkv_trio.access.watching import TooManyWatchers
from raftkv_trio.errors import (
    ChangeRefused,
    CommandRefused,
    DiskFull,
    NoLeader,
    NoSuchMember,
    OutcomeUnknown,
    Overloaded,
    RaftKVError,
    RequestIdReused,
    SnapshotNotTaken,
    StoreFull,
    TooLarge,
    TransferFailed,
)
from raftkv_trio.foreign_text import in_a_line
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.kv import CommandFailed, Failure, InvalidTxn
from raftkv_trio.kv import Fault as InvalidFault


class Fault(Enum):
    """Code and text of an error, without the "etcdserver: " that all texts begin with."""

    EMPTY_KEY = Code.INVALID_ARGUMENT, "key is not provided"
    KEY_NOT_FOUND = Code.INVALID_ARGUMENT, "key not found"
    VALUE_PROVIDED = Code.INVALID_ARGUMENT, "value is provided"
    LEASE_PROVIDED = Code.INVALID_ARGUMENT, "lease is provided"
    TOO_MANY_OPERATIONS = Code.INVALID_ARGUMENT, "too many operations in txn request"
    DUPLICATE_KEY = Code.INVALID_ARGUMENT, "duplicate key given in txn request"
    COMPACTED = Code.OUT_OF_RANGE, "mvcc: required revision has been compacted"
    FUTURE_REVISION = Code.OUT_OF_RANGE, "mvcc: required revision is a future revision"
    NO_SPACE = Code.RESOURCE_EXHAUSTED, "mvcc: database space exceeded"
    LEASE_NOT_FOUND = Code.NOT_FOUND, "requested lease not found"
    LEASE_EXISTS = Code.FAILED_PRECONDITION, "lease already exists"
    LEASE_TTL_TOO_LARGE = Code.OUT_OF_RANGE, "too large lease TTL"
    TOO_LARGE = Code.INVALID_ARGUMENT, "request is too large"
    TOO_MANY_REQUESTS = Code.RESOURCE_EXHAUSTED, "too many requests"
    NO_LEADER = Code.UNAVAILABLE, "no leader"
    NOT_LEADER = Code.FAILED_PRECONDITION, "not leader"
    BAD_TRANSFEREE = Code.FAILED_PRECONDITION, "bad leader transferee"
    TIMED_OUT = Code.UNAVAILABLE, "request timed out"
    TRANSFER_TIMED_OUT = Code.UNAVAILABLE, "request timed out, leader transfer took too long"
    NOT_CAPABLE = Code.UNAVAILABLE, "not capable"
    MEMBER_NOT_FOUND = Code.NOT_FOUND, "member not found"
    URL_EXISTS = Code.FAILED_PRECONDITION, "Peer URLs already exists"
    BAD_URLS = Code.INVALID_ARGUMENT, "given member URLs are invalid"
    NOT_A_LEARNER = Code.FAILED_PRECONDITION, "can only promote a learner member"
    LEARNER_NOT_READY = (
        Code.FAILED_PRECONDITION,
        "can only promote a learner member which is in sync with leader",
    )
    TOO_MANY_KEYS = (
        Code.RESOURCE_EXHAUSTED,
        "too many keys in the ranges of a txn, or of a lease; divide them",
    )
    UNHEALTHY = Code.UNAVAILABLE, "unhealthy cluster"
    USER_EMPTY = Code.INVALID_ARGUMENT, "user name is empty"
    AUTH_OLD_REVISION = Code.INVALID_ARGUMENT, "revision of auth store is old"
    PERMISSION_DENIED = Code.PERMISSION_DENIED, "permission denied"
    AUTH_NOT_ENABLED = Code.FAILED_PRECONDITION, "authentication is not enabled"
    AUTH_FAILED = Code.INVALID_ARGUMENT, "authentication failed, invalid user ID or password"
    INVALID_AUTH_TOKEN = Code.UNAUTHENTICATED, "invalid auth token"
    USER_EXISTS = Code.FAILED_PRECONDITION, "user name already exists"
    USER_NOT_FOUND = Code.FAILED_PRECONDITION, "user name not found"
    NO_PASSWORD_USER = (
        Code.FAILED_PRECONDITION,
        "authentication failed, password was given for no password user",
    )
    ROLE_EXISTS = Code.FAILED_PRECONDITION, "role name already exists"
    ROLE_NOT_FOUND = Code.FAILED_PRECONDITION, "role name not found"
    ROLE_EMPTY = Code.INVALID_ARGUMENT, "role name is empty"
    ROLE_NOT_GRANTED = Code.FAILED_PRECONDITION, "role is not granted to the user"
    PERMISSION_NOT_GRANTED = Code.FAILED_PRECONDITION, "permission is not granted to the role"
    ROOT_USER_NOT_FOUND = Code.FAILED_PRECONDITION, "root user does not exist"
    ROOT_ROLE_NOT_GRANTED = Code.FAILED_PRECONDITION, "root user does not have root role"
    INVALID_AUTH_MANAGEMENT = Code.INVALID_ARGUMENT, "invalid auth management"

    def error(self) -> RpcError:
        """The error to raise."""
        code, words = self.value
        return RpcError(code, f"etcdserver: {words}")


# The first class that fits counts, so a subclass stands above its base.
_FAULT_OF: dict[type[RaftKVError], Fault] = {
    TooLarge: Fault.TOO_LARGE,
    Overloaded: Fault.TOO_MANY_REQUESTS,
    TooManyWatchers: Fault.TOO_MANY_REQUESTS,
    NoLeader: Fault.NO_LEADER,
    CommandRefused: Fault.NOT_CAPABLE,  # an upgraded node takes it
    OutcomeUnknown: Fault.TIMED_OUT,
    DiskFull: Fault.NO_SPACE,
    StoreFull: Fault.NO_SPACE,
    SnapshotNotTaken: Fault.NO_SPACE,
    NoSuchMember: Fault.MEMBER_NOT_FOUND,
    TransferFailed: Fault.TRANSFER_TIMED_OUT,
    WrongPassword: Fault.AUTH_FAILED,
    TokenRefused: Fault.INVALID_AUTH_TOKEN,
}


_FAULT_OF_INVALID = {
    InvalidFault.EMPTY_KEY: Fault.EMPTY_KEY,
    InvalidFault.TOO_MANY_OPERATIONS: Fault.TOO_MANY_OPERATIONS,
    InvalidFault.DUPLICATE_KEY: Fault.DUPLICATE_KEY,
    InvalidFault.VALUE_PROVIDED: Fault.VALUE_PROVIDED,
    InvalidFault.LEASE_PROVIDED: Fault.LEASE_PROVIDED,
}
_FAULT_OF_FAILURE = {
    Failure.FUTURE_REVISION: Fault.FUTURE_REVISION,
    Failure.COMPACTED: Fault.COMPACTED,
    Failure.LEASE_NOT_FOUND: Fault.LEASE_NOT_FOUND,
    Failure.KEY_NOT_FOUND: Fault.KEY_NOT_FOUND,
    Failure.LEASE_EXISTS: Fault.LEASE_EXISTS,
    Failure.TOO_MANY_KEYS: Fault.TOO_MANY_KEYS,
    Failure.USER_EMPTY: Fault.USER_EMPTY,
    Failure.AUTH_OLD_REVISION: Fault.AUTH_OLD_REVISION,
    Failure.PERMISSION_DENIED: Fault.PERMISSION_DENIED,
    Failure.AUTH_NOT_ENABLED: Fault.AUTH_NOT_ENABLED,
    Failure.USER_EXISTS: Fault.USER_EXISTS,
    Failure.USER_NOT_FOUND: Fault.USER_NOT_FOUND,
    Failure.NO_PASSWORD_USER: Fault.NO_PASSWORD_USER,
    Failure.ROLE_EXISTS: Fault.ROLE_EXISTS,
    Failure.ROLE_NOT_FOUND: Fault.ROLE_NOT_FOUND,
    Failure.ROLE_EMPTY: Fault.ROLE_EMPTY,
    Failure.ROLE_NOT_GRANTED: Fault.ROLE_NOT_GRANTED,
    Failure.PERMISSION_NOT_GRANTED: Fault.PERMISSION_NOT_GRANTED,
    Failure.ROOT_USER_NOT_FOUND: Fault.ROOT_USER_NOT_FOUND,
    Failure.ROOT_ROLE_NOT_GRANTED: Fault.ROOT_ROLE_NOT_GRANTED,
    Failure.INVALID_AUTH_MANAGEMENT: Fault.INVALID_AUTH_MANAGEMENT,
}


def error_of_failure(failure: Failure) -> RpcError:
    """What a client is told of a command that could not be run."""
    return _FAULT_OF_FAILURE[failure].error()


def rpc_error_of(error: RaftKVError) -> RpcError | None:
    """What a client is told of `error`; None if it reaches a client only because of a bug of ours."""
    if isinstance(error, ChangeRefused) and not isinstance(error, NoSuchMember):
        # etcd has no text for most of our reasons, and clients compare none of its own.
        return RpcError(Code.FAILED_PRECONDITION, f"etcdserver: {error}")
    if isinstance(error, RequestIdReused):
        return RpcError(Code.INVALID_ARGUMENT, f"etcdserver: {in_a_line(str(error))}")
    if isinstance(error, NoSuchCertifiedUser):
        code, words = Fault.PERMISSION_DENIED.value
        return RpcError(code, f"etcdserver: {words}: {in_a_line(str(error))}")
    if isinstance(error, CommandFailed):
        return error_of_failure(error.failure)
    if isinstance(error, InvalidTxn):
        known = _FAULT_OF_INVALID.get(error.fault)
        return RpcError(Code.INVALID_ARGUMENT, f"etcdserver: {error}") if known is None else known.error()
    fault = next((fault for kind, fault in _FAULT_OF.items() if isinstance(error, kind)), None)
    return None if fault is None else fault.error()
