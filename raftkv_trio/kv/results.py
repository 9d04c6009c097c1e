"""What the store's commands result in, and the errors that its methods raise."""

from enum import Enum
from typing import NamedTuple

from raftkv_trio.errors import RaftKVError
from raftkv_trio.kv.record import KeyValue, unpack


class Failure(Enum):
    """Why a valid command could not be run in the state that the store had."""

    FUTURE_REVISION = "future_revision"
    COMPACTED = "compacted"
    LEASE_NOT_FOUND = "lease_not_found"
    KEY_NOT_FOUND = "key_not_found"
    LEASE_EXISTS = "lease_exists"
    TOO_MANY_KEYS = "too_many_keys"
    USER_EMPTY = "user_empty"
    AUTH_OLD_REVISION = "auth_old_revision"
    PERMISSION_DENIED = "permission_denied"
    AUTH_NOT_ENABLED = "auth_not_enabled"
    USER_EXISTS = "user_exists"
    USER_NOT_FOUND = "user_not_found"
    NO_PASSWORD_USER = "no_password_user"
    ROLE_EXISTS = "role_exists"
    ROLE_NOT_FOUND = "role_not_found"
    ROLE_EMPTY = "role_empty"
    ROLE_NOT_GRANTED = "role_not_granted"
    PERMISSION_NOT_GRANTED = "permission_not_granted"
    ROOT_USER_NOT_FOUND = "root_user_not_found"
    ROOT_ROLE_NOT_GRANTED = "root_role_not_granted"
    INVALID_AUTH_MANAGEMENT = "invalid_auth_management"


class CommandFailed(RaftKVError):
    """A command or a read that is valid, but not in the state of the store. Nothing was changed.

    Attributes:
        failure: why.
    """

    failure: Failure


class FutureRevision(CommandFailed):
    """A revision that the store has not reached yet was to be read, or compacted."""

    failure = Failure.FUTURE_REVISION

    def __init__(self, revision: int, present: int) -> None:
        super().__init__(f"the store is at revision {present}, and has not reached {revision} yet")


class CompactedRevision(CommandFailed):
    """A revision was to be read, or compacted, that a compaction has dropped.

    Attributes:
        compacted_revision: of that compaction.
    """

    failure = Failure.COMPACTED

    def __init__(self, revision: int, compacted_revision: int) -> None:
        super().__init__(f"revision {revision} has been compacted, at {compacted_revision}")
        self.compacted_revision = compacted_revision


class LeaseNotFound(CommandFailed):
    """A put, or a revocation, names a lease that does not exist."""

    failure = Failure.LEASE_NOT_FOUND

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is no lease {lease}")


class LeaseExists(CommandFailed):
    """A lease is to be granted that exists."""

    failure = Failure.LEASE_EXISTS

    def __init__(self, lease: int) -> None:
        super().__init__(f"there is a lease {lease} already")


class TooManyKeys(CommandFailed):
    """The ranges of a txn, or the keys of a lease, are more than one piece of work may have."""

    failure = Failure.TOO_MANY_KEYS

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the ranges of a txn, or a lease, reach more than {most} keys; to be deleted counts four times"
        )


class KeyNotFound(CommandFailed):
    """A put is to keep the value or the lease of a key that does not exist."""

    failure = Failure.KEY_NOT_FOUND

    def __init__(self) -> None:
        super().__init__("a put keeps the value or the lease of a key, and the key does not exist")


class AuthFailed(CommandFailed):
    """Who asks may not do that, or a command about users and roles does not fit those that there are."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(_AUTH_FAILURES[failure])
        self.failure = failure


_AUTH_FAILURES = {
    Failure.USER_EMPTY: "no user is named, and authentication is enabled; or the name of a user is empty",
    Failure.AUTH_OLD_REVISION: "the user was deleted or changed after proving who it is; authenticate again",
    Failure.PERMISSION_DENIED: "the user has no permission for that",
    Failure.AUTH_NOT_ENABLED: "authentication is not enabled",
    Failure.USER_EXISTS: "there is a user of this name already",
    Failure.USER_NOT_FOUND: "there is no user of this name",
    Failure.NO_PASSWORD_USER: "the user was added without a password, and cannot have one",
    Failure.ROLE_EXISTS: "there is a role of this name already",
    Failure.ROLE_NOT_FOUND: "there is no role of this name",
    Failure.ROLE_EMPTY: "the name of a role is empty",
    Failure.ROLE_NOT_GRANTED: "the user does not have this role",
    Failure.PERMISSION_NOT_GRANTED: "the role has no permission for exactly this range",
    Failure.ROOT_USER_NOT_FOUND: "authentication needs the user root; add it first",
    Failure.ROOT_ROLE_NOT_GRANTED: "authentication needs the user root to have the role root; grant it first",
    Failure.INVALID_AUTH_MANAGEMENT: "the user root, its role root and that role stay as long as"
    " authentication is enabled; and a permission needs a key, and a range end behind it",
}


class QuotaExceeded(RaftKVError):
    """A txn was not run, because the store would have become larger than the quota of the txn.

    Attributes:
        size_bytes: what the store holds.
        quota_bytes: the quota.
    """

    def __init__(self, size_bytes: int, quota_bytes: int) -> None:
        super().__init__(
            f"the store holds {size_bytes} bytes of keys and values, and its quota is {quota_bytes}"
        )
        self.size_bytes = size_bytes
        self.quota_bytes = quota_bytes


class PutResult(NamedTuple):
    """The result of a put.

    Attributes:
        key: which it put.
        record, previous_record: what it made, and what it replaced, in the form of `record.py`. Reading
            `key_value` and `previous` unpacks them: most of the nodes that apply a put are not asked.
    """

    key: bytes
    record: bytes
    previous_record: bytes | None = None

    @property
    def key_value(self) -> KeyValue:
        """What the put made."""
        return unpack(self.key, self.record)

    @property
    def previous(self) -> KeyValue | None:
        """What the put replaced; None if the key did not exist."""
        record = self.previous_record
        return None if record is None else unpack(self.key, record)


class DeleteResult(NamedTuple):
    """The result of a delete.

    Attributes:
        deleted: how many keys it deleted.
        keys, records: these keys, in order, and their records in the form of `record.py`.
    """

    deleted: int
    keys: tuple[bytes, ...] = ()
    records: tuple[bytes, ...] = ()

    @property
    def previous(self) -> tuple[KeyValue, ...]:
        """The key-values that were deleted, in order of their keys."""
        return tuple(map(unpack, self.keys, self.records))


class GetResult(NamedTuple):
    """The result of a get.

    Attributes:
        key_values: in order of their keys.
        in_range: how many the range has without the limit.
        revision: the store's when this was read. In a txn: the revision before the txn, or, after its first
            change, the one that the txn makes.
    """

    key_values: tuple[KeyValue, ...]
    in_range: int
    revision: int


class TxnResult(NamedTuple):
    """The result of a txn.

    Attributes:
        succeeded: whether all compares held, so that `Txn.success` was run.
        revision: the store's revision after the txn; of an inner txn, after its operations.
        results: one result for each operation that was run.
    """

    succeeded: bool
    revision: int
    results: "tuple[OperationResult, ...]"


OperationResult = PutResult | DeleteResult | GetResult | TxnResult


class CompactResult(NamedTuple):
    """The result of a compaction.

    Attributes:
        revision: the store's, which a compaction does not change.
    """

    revision: int


class LeaseGranted(NamedTuple):
    """The result of a grant.

    Attributes:
        revision: the store's, which a grant does not change.
    """

    id: int
    ttl_s: int
    revision: int


class LeaseRevoked(NamedTuple):
    """The result of a revocation.

    Attributes:
        revision: the store's after it, which is a new one if it has deleted keys.
        deleted: how many.
    """

    revision: int
    deleted: int


class LeasesRenewed(NamedTuple):
    """The result of renewals.

    Attributes:
        ttls_s: the whole time of each lease, in the order of the command; 0 if it does not exist.
        revision: the store's, which a renewal does not change.
    """

    ttls_s: tuple[int, ...]
    revision: int


class LeasesExpired(NamedTuple):
    """The result of an expiry.

    Attributes:
        ids: of the leases that it has ended.
        revision: the store's after it.
    """

    ids: tuple[int, ...]
    revision: int


class LeasesCheckpointed(NamedTuple):
    """The result of a checkpoint.

    Attributes:
        ids: of the leases that it had an effect on, in the order of the command.
        revision: the store's, which a checkpoint does not change.
    """

    ids: tuple[int, ...]
    revision: int


class AuthChanged(NamedTuple):
    """The result of a command about users, roles and permissions.

    Attributes:
        auth_revision: `Auth.revision` after it.
        revision: the store's, which such a command does not change.
    """

    auth_revision: int
    revision: int


class Failed(NamedTuple):
    """The result of a command that is valid, but not in the state of the store. Nothing was changed."""

    failure: Failure

    @property
    def refused_as(self) -> str:
        """Counted under the name of the failure."""
        return self.failure.value


class Rejected(NamedTuple):
    """The result of a command that no store runs. Nothing was changed, on any node."""

    reason: str

    @property
    def refused_as(self) -> str:
        """Counted as an invalid command."""
        return "invalid"


class OverQuota(NamedTuple):
    """The result of a txn that met its quota (`Txn.quota_bytes`). Nothing was changed, on any node.

    Attributes:
        size_bytes: what the store holds.
        quota_bytes: the quota.
    """

    size_bytes: int
    quota_bytes: int

    @property
    def refused_as(self) -> str:
        """Counted as the error that clients get for it, StoreFull."""
        return "store_full"


class RequestReused(NamedTuple):
    """The result of a command under a request id that another command has had. Nothing was changed."""

    @property
    def refused_as(self) -> str:
        """Counted under its own name."""
        return "request_id_reused"


class ResultForgotten(NamedTuple):
    """The result of a request that was run before, and whose result is not kept. It is not run again.

    Or it was run on behalf of another user, or of nobody, to whom the result belongs.

    Attributes:
        revision: the store's after it was run.
    """

    revision: int


LeaseResult = LeaseGranted | LeaseRevoked | LeasesRenewed | LeasesExpired | LeasesCheckpointed
Result = (
    TxnResult
    | CompactResult
    | LeaseResult
    | AuthChanged
    | Failed
    | Rejected
    | OverQuota
    | RequestReused
    | ResultForgotten
)
