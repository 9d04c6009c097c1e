"""The store's words, after etcd's v3 API: key-values, and the txn, its one kind of command.

Everything here is immutable. A *range* is `key` alone where `range_end` is None, else the keys from `key` up
to and without `range_end`; the range end `TO_THE_LAST` (etcd's zero byte) means that it has no end.
"""

from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.errors import RaftKVError

#: A range end that is no key: the range goes on to the last key.
TO_THE_LAST = b"\0"
#: Most compares of a txn, and most operations in each of its two lists (etcd's `--max-txn-ops`).
MAX_OPERATIONS = 128


class InvalidTxn(RaftKVError):
    """A txn that no store would run; the text says what is wrong with it."""


class KeyValue(NamedTuple):
    """A key as it stands at some revision.

    Attributes:
        create_revision: the revision that created it, after it was last absent.
        mod_revision: the revision that last changed it.
        version: how many times it was put since it was created, that put included.
        lease: None until leases come.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int | None = None


class Target(IntEnum):
    """What of a key a compare looks at; the numbers stand in logs."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3


class Relation(IntEnum):
    """How the key's side must stand to the compare's `operand`; the numbers stand in logs."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER = 2
    LESS = 3


class Compare(NamedTuple):
    """Holds where `target` of `key` stands in `relation` to `operand`: bytes for VALUE, else an integer.

    An absent key has 0 for version and revisions, so `CREATE_REVISION EQUAL 0` means that it does not exist.
    It has no value: a compare of VALUE with an absent key never holds, NOT_EQUAL included.
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
    """Set a key, creating it where it does not exist."""

    key: bytes
    value: bytes
    lease: int | None = None


class Delete(NamedTuple):
    """Remove the keys of a range; one that is absent already is no error."""

    key: bytes
    range_end: bytes | None = None


class Get(NamedTuple):
    """Read the first `limit` keys of a range (None: all), as the operations before it left them."""

    key: bytes
    range_end: bytes | None = None
    limit: int | None = None


Operation = Put | Delete | Get


class Txn(NamedTuple):
    """If all `compares` hold then `success`, else `failure`: atomically, in order, at one revision."""

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()


class PutResult(NamedTuple):
    """The key as the put left it."""

    key_value: KeyValue


class DeleteResult(NamedTuple):
    """How many keys were there to be removed."""

    deleted: int


class GetResult(NamedTuple):
    """The keys found, in order, and how many the range holds whatever the limit."""

    key_values: tuple[KeyValue, ...]
    in_range: int


OperationResult = PutResult | DeleteResult | GetResult


class TxnResult(NamedTuple):
    """What became of a txn.

    Attributes:
        succeeded: whether the compares held, and so which list was run.
        revision: the store's revision after it.
        results: one an operation of that list.
    """

    succeeded: bool
    revision: int
    results: tuple[OperationResult, ...]


class Rejected(NamedTuple):
    """The result of a command that is no valid txn: nothing was changed, on any node."""

    reason: str


def check_txn(txn: Txn) -> None:
    """Raise InvalidTxn for what etcd refuses too: an empty key, too many parts, a put key changed twice."""
    for part in txn:
        if len(part) > MAX_OPERATIONS:
            raise InvalidTxn(f"a txn has more than {MAX_OPERATIONS} compares or operations in a list")
        if not all(item.key for item in part):
            raise InvalidTxn("a txn names an empty key")
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
        raise InvalidTxn("a txn both puts and deletes a key")


def in_range(key: bytes, start: bytes, range_end: bytes | None) -> bool:
    """Whether `key` is in the range that begins with `start`."""
    if range_end is None:
        return key == start
    return key >= start and (range_end == TO_THE_LAST or key < range_end)


def prefix_end(prefix: bytes) -> bytes:
    """The range end of all keys that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else TO_THE_LAST
