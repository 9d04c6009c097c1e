"""The store's commands, after etcd's v3 API: the txn and the compaction, and what a txn is made of.

Everything here is immutable. A *range* is a `key` alone if `range_end` is None. Otherwise it is all keys from
`key` up to, but not including, `range_end`. The range end `TO_THE_LAST` (etcd's zero byte) stands for no end.

Results are in `results.py`; which txns a store refuses, and why, is in `checks.py`.
"""

from enum import IntEnum
from typing import NamedTuple

#: The range end of a range that goes on to the last key. It is not a key.
TO_THE_LAST = b"\0"


class Target(IntEnum):
    """The part of a key-value that a compare looks at. The numbers are part of the log format."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3
    LEASE = 4


class Relation(IntEnum):
    """The relation that a compare asks for. The numbers are part of the log format."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER = 2
    LESS = 3


class Compare(NamedTuple):
    """Holds if the `target` of `key` is in this `relation` to `operand`: bytes for VALUE, else an integer.

    With a `range_end` it holds if it holds for each key of the range. What does not exist, a key as well as
    all keys of a range, has version, revisions and lease of 0: CREATE_REVISION EQUAL 0 means that the key
    does not exist. It has no value: a compare of its VALUE never holds, not even NOT_EQUAL.
    """

    key: bytes
    target: Target
    relation: Relation
    operand: int | bytes
    range_end: bytes | None = None

    @classmethod
    def exists(cls, key: bytes) -> "Compare":
        """A compare that holds if the key exists."""
        return cls(key, Target.CREATE_REVISION, Relation.GREATER, 0)

    @classmethod
    def absent(cls, key: bytes) -> "Compare":
        """A compare that holds if the key does not exist."""
        return cls(key, Target.CREATE_REVISION, Relation.EQUAL, 0)


class Put(NamedTuple):
    """Set a key; creates it if it does not exist.

    Attributes:
        lease: None and 0 are no lease.
        keeps_value: the key keeps the value that it has, and `value` is empty. The key must exist.
        keeps_lease: the key keeps the lease that it has, and `lease` is None. The key must exist.
    """

    key: bytes
    value: bytes
    lease: int | None = None
    keeps_value: bool = False
    keeps_lease: bool = False


class Delete(NamedTuple):
    """Delete the keys of a range. It is no error if there are none."""

    key: bytes
    range_end: bytes | None = None


class Get(NamedTuple):
    """Read the first `limit` keys of a range (None: all).

    Attributes:
        limit: 0 reads no key-values, and still counts them.
        revision: read the keys as this revision left them. None: as they are now, which in a txn is after the
            operations before this one.
    """

    key: bytes
    range_end: bytes | None = None
    limit: int | None = None
    revision: int | None = None


class Txn(NamedTuple):
    """If all `compares` hold, run `success`, else `failure`: atomically, in order, at one revision.

    A txn may be an operation of another. All compares, those of the inner txns too, look at the state before
    the outermost txn.

    Attributes:
        quota_bytes: the most bytes of keys and values that the store may have. If the puts of the list that
            is to be run would make it larger than that, nothing is done. Puts that make nothing larger, and
            deletes, have no quota. None: the txn has none, and an inner txn cannot have one.
    """

    compares: "tuple[Compare, ...]" = ()
    success: "tuple[Operation, ...]" = ()
    failure: "tuple[Operation, ...]" = ()
    quota_bytes: int | None = None


Operation = Put | Delete | Get | Txn


class Compact(NamedTuple):
    """Forget all that no read at this or a later revision can see.

    Attributes:
        revision: from 0 to the store's; larger than that of the compaction before it.
    """

    revision: int


def in_range(key: bytes, start: bytes, range_end: bytes | None) -> bool:
    """Whether `key` is in the range from `start` to `range_end`."""
    if range_end is None:
        return key == start
    return key >= start and (range_end == TO_THE_LAST or key < range_end)


def prefix_end(prefix: bytes) -> bytes:
    """The range end of all keys that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else TO_THE_LAST


def is_read_only(txn: Txn) -> bool:
    """Whether the txn has neither puts nor deletes, in whatever list, so that it needs no command."""
    return all(
        isinstance(operation, Get) or (isinstance(operation, Txn) and is_read_only(operation))
        for operation in (*txn.success, *txn.failure)
    )
