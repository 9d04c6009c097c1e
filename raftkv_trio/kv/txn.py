"""The store's types, after etcd's v3 API: key-values, and the txn, the only kind of command.

Everything here is immutable. A *range* is a `key` alone if `range_end` is None. Otherwise it is all keys from
`key` up to, but not including, `range_end`. The range end `TO_THE_LAST` (etcd's zero byte) stands for no end.
"""

from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.errors import RaftKVError

#: The range end of a range that goes on to the last key. It is not a key.
TO_THE_LAST = b"\0"
#: The most compares of a txn, and the most operations in each of its two lists (etcd's `--max-txn-ops`).
MAX_OPERATIONS = 128


class InvalidTxn(RaftKVError):
    """A txn that no store runs; the text says what is wrong with it."""


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


class KeyValue(NamedTuple):
    """A key with its value at some revision.

    Attributes:
        create_revision: the revision at which the key came into existence the last time.
        mod_revision: the revision that changed it last.
        version: the number of puts since the key came into existence, including the first.
        lease: None; leases do not exist yet.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int | None = None


class Target(IntEnum):
    """The part of a key-value that a compare looks at. The numbers are part of the log format."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3


class Relation(IntEnum):
    """The relation that a compare asks for. The numbers are part of the log format."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER = 2
    LESS = 3


class Compare(NamedTuple):
    """Holds if the `target` of `key` is in this `relation` to `operand`: bytes for VALUE, else an integer.

    A key that does not exist has version and revisions of 0, so CREATE_REVISION EQUAL 0 means that the key
    does not exist. It has no value: a compare of its VALUE never holds, not even NOT_EQUAL.
    """

    key: bytes
    target: Target
    relation: Relation
    operand: int | bytes

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """A compare that holds if the key exists."""
        return cls(key, Target.CREATE_REVISION, Relation.GREATER, 0)

    @classmethod
    def absent(cls, key: bytes) -> "Compare":
        """A compare that holds if the key does not exist."""
        return cls(key, Target.CREATE_REVISION, Relation.EQUAL, 0)


class Put(NamedTuple):
    """Set a key; creates it if it does not exist."""

    key: bytes
    value: bytes
    lease: int | None = None


class Delete(NamedTuple):
    """Delete the keys of a range. It is no error if there are none."""

    key: bytes
    range_end: bytes | None = None


class Get(NamedTuple):
    """Read the first `limit` keys of a range (None: all), after the operations before this one."""

    key: bytes
    range_end: bytes | None = None
    limit: int | None = None


Operation = Put | Delete | Get


class Txn(NamedTuple):
    """If all `compares` hold, run `success`, else `failure`: atomically, in order, at one revision.

    Attributes:
        quota_bytes: the most bytes of keys and values that the store may have. If the puts of the list that
            is to be run would make it larger than that, nothing is done. Puts that make nothing larger, and
            deletes, have no quota. None: the txn has none.
    """

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()
    quota_bytes: int | None = None


class PutResult(NamedTuple):
    """The result of a put: the key-value that it made."""

    key_value: KeyValue


class DeleteResult(NamedTuple):
    """The result of a delete: how many keys it deleted."""

    deleted: int


class GetResult(NamedTuple):
    """The result of a get: the key-values in order, and how many the range has without the limit."""

    key_values: tuple[KeyValue, ...]
    in_range: int


OperationResult = PutResult | DeleteResult | GetResult


class TxnResult(NamedTuple):
    """The result of a txn.

    Attributes:
        succeeded: whether all compares held, so that `Txn.success` was run.
        revision: the store's revision after the txn.
        results: one result for each operation that was run.
    """

    succeeded: bool
    revision: int
    results: tuple[OperationResult, ...]


class Rejected(NamedTuple):
    """The result of a command that is not a valid txn. Nothing was changed, on any node."""

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


def check_txn(txn: Txn) -> None:
    """Raise InvalidTxn for what etcd refuses too: an empty key, too many parts, a put key changed twice."""
    for part in (txn.compares, txn.success, txn.failure):
        if len(part) > MAX_OPERATIONS:
            raise InvalidTxn(f"a txn has more than {MAX_OPERATIONS} compares, or operations in one list")
        for item in part:
            if not item.key:
                raise InvalidTxn("a txn has an empty key")
    _check_puts(txn.success)
    _check_puts(txn.failure)


def _check_puts(operations: tuple[Operation, ...]) -> None:
    if len(operations) < 2:
        return
    put = [operation.key for operation in operations if isinstance(operation, Put)]
    if len(set(put)) < len(put):
        raise InvalidTxn("a txn puts the same key twice")
    deletes = [operation for operation in operations if isinstance(operation, Delete)]
    if any(in_range(key, delete.key, delete.range_end) for delete in deletes for key in put):
        raise InvalidTxn("a txn puts and deletes the same key")


def in_range(key: bytes, start: bytes, range_end: bytes | None) -> bool:
    """Whether `key` is in the range from `start` to `range_end`."""
    if range_end is None:
        return key == start
    return key >= start and (range_end == TO_THE_LAST or key < range_end)


def prefix_end(prefix: bytes) -> bytes:
    """The range end of all keys that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else TO_THE_LAST
