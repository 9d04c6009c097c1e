"""Which txns no store runs, whatever its state: etcd's checks, in its order: the first one counts."""

from bisect import bisect_right
from enum import Enum
from operator import itemgetter

from raftkv_trio.errors import RaftKVError
from raftkv_trio.kv.txn import TO_THE_LAST, Delete, Get, Operation, Put, Txn, in_range

#: The most compares of a txn, and the most operations in each of its two lists (etcd's `--max-txn-ops`). An
#: inner txn may have so many less the number of the txn around it, as in etcd.
MAX_OPERATIONS = 128
#: How deep txns may stand in txns: the outermost is at 1. etcd's rule above ends at 128, which nobody needs.
MAX_NESTING = 16
#: The most compares and operations of a txn together, those of all its inner txns included. etcd has no such
#: limit apart from that of a request's bytes; ours bounds how long a command is decoded.
MAX_PARTS = 8192
#: How many keys the ranges of a txn may reach, all together; and a lease has as many as may be deleted. A txn
#: is applied in one piece, on every node, and meanwhile nobody sends heartbeats: so it must take less than an
#: election timeout. To look at a key takes up to 5 µs, to delete it four times as long.
MAX_REACH = 200_000
DELETE_REACH = 4

_START = itemgetter(0)


class Fault(Enum):
    """What is wrong with a txn that no store runs."""

    MALFORMED = "malformed"
    EMPTY_KEY = "empty key"
    TOO_MANY_OPERATIONS = "too many operations"
    DUPLICATE_KEY = "duplicate key"
    VALUE_PROVIDED = "value provided"
    LEASE_PROVIDED = "lease provided"


class InvalidTxn(RaftKVError):
    """A txn, or another command, that no store runs; the text says what is wrong with it.

    Attributes:
        fault: the same for programs.
    """

    def __init__(self, text: str, fault: Fault = Fault.MALFORMED) -> None:
        super().__init__(text)
        self.fault = fault


def check_txn(txn: Txn) -> None:
    """Raise InvalidTxn for what etcd refuses too: an empty key, too many parts, a put key changed twice."""
    if _count_parts(txn, MAX_OPERATIONS, 1) > MAX_PARTS:
        raise InvalidTxn(
            f"a txn has more than {MAX_PARTS} compares and operations", Fault.TOO_MANY_OPERATIONS
        )
    for operations in (txn.success, txn.failure):
        if len(operations) > 1 or (operations and isinstance(operations[0], Txn)):
            _Changes().add_all(operations)


def has_strict_puts(txn: Txn) -> bool:
    """Whether no list of a txn without inner txns puts a key twice, or puts and deletes it.

    It is what versions 1 and 2 of the command ask for. etcd, and so `check_txn`, overlooks deletes to the
    last key. A command must have the same result in all versions of this program, so both rules stay.
    """
    return _are_strict(txn.success) and _are_strict(txn.failure)


def _are_strict(operations: tuple[Operation, ...]) -> bool:
    if len(operations) < 2:
        return True
    put = [operation.key for operation in operations if isinstance(operation, Put)]
    if len(set(put)) < len(put):
        return False
    deletes = [operation for operation in operations if isinstance(operation, Delete)]
    return not any(in_range(key, delete.key, delete.range_end) for delete in deletes for key in put)


def _count_parts(txn: Txn, most: int, depth: int) -> int:
    """Check each compare and operation alone; returns how many there are, those of inner txns included."""
    longest = max(len(txn.compares), len(txn.success), len(txn.failure))
    if longest > most:
        raise InvalidTxn(
            f"a txn has more than {MAX_OPERATIONS} compares, or operations in one list",
            Fault.TOO_MANY_OPERATIONS,
        )
    if depth > MAX_NESTING:
        raise InvalidTxn(f"txns are nested more than {MAX_NESTING} deep", Fault.TOO_MANY_OPERATIONS)
    for compare in txn.compares:
        if not compare.key:
            raise InvalidTxn("a txn has an empty key", Fault.EMPTY_KEY)
    parts = len(txn.compares) + len(txn.success) + len(txn.failure)
    for operations in (txn.success, txn.failure):
        for operation in operations:
            if isinstance(operation, Txn):
                if operation.quota_bytes is not None:
                    raise InvalidTxn("an inner txn has a quota")
                parts += _count_parts(operation, most - longest, depth + 1)
            else:
                _check_operation(operation)
    return parts


def _check_operation(operation: Put | Delete | Get) -> None:
    if not operation.key:
        raise InvalidTxn("a txn has an empty key", Fault.EMPTY_KEY)
    if isinstance(operation, Put):
        if operation.keeps_value and operation.value:
            raise InvalidTxn("a put that keeps the value brings one", Fault.VALUE_PROVIDED)
        if operation.keeps_lease and operation.lease:
            raise InvalidTxn("a put that keeps the lease brings one", Fault.LEASE_PROVIDED)


class _Changes:
    """What a list of operations puts and deletes.

    The rule is etcd's, with its gaps (checked against 3.4): a delete to the last key may stand beside puts,
    and so may a delete in an inner txn behind the inner txn that puts the key. But a put that keeps a value
    or a lease needs its key, so before it even a delete to the last key counts.
    """

    def __init__(self) -> None:
        self.put: dict[bytes, bool] = {}  # key -> whether the put keeps a value or a lease
        self.deleted: list[tuple[bytes, bytes]] = []
        self.deleted_to_the_last: list[bytes] = []  # from here
        self._joined: list[tuple[bytes, bytes]] | None = None

    def add_all(self, operations: tuple[Operation, ...]) -> None:
        """Add a list of operations; raises InvalidTxn if a key is changed twice."""
        for operation in operations:
            if isinstance(operation, Delete):
                self._delete(operation.key, operation.range_end)
        for operation in operations:
            if isinstance(operation, Txn):
                self._add_inner(operation)
        for operation in operations:
            if isinstance(operation, Put):
                self._check_put(operation.key, operation.keeps_value or operation.keeps_lease)
                self.put[operation.key] = operation.keeps_value or operation.keeps_lease

    def _add_inner(self, txn: Txn) -> None:
        # Only one of the two lists is run, so each may change what the other changes.
        both = []
        for operations in (txn.success, txn.failure):
            changes = _Changes()
            changes.add_all(operations)
            for key, keeps in changes.put.items():
                self._check_put(key, keeps)
            both.append(changes)
        for changes in both:
            self.put |= changes.put
            self.deleted += changes.deleted
            self.deleted_to_the_last += changes.deleted_to_the_last
        self._joined = None

    def _delete(self, start: bytes, end: bytes | None) -> None:
        if end == TO_THE_LAST:
            self.deleted_to_the_last.append(start)
        elif end is None or start < end:
            self.deleted.append((start, start + b"\0" if end is None else end))

    def _check_put(self, key: bytes, keeps: bool) -> None:
        if key in self.put:
            raise InvalidTxn("a txn puts the same key twice", Fault.DUPLICATE_KEY)
        if self._has_deleted(key) or (keeps and any(key >= start for start in self.deleted_to_the_last)):
            raise InvalidTxn("a txn puts and deletes the same key", Fault.DUPLICATE_KEY)

    def _has_deleted(self, key: bytes) -> bool:
        if not self.deleted:
            return False
        # Ranges joined where they overlap: thousands of deletes and puts are no thousands squared.
        if self._joined is None:
            self._joined = []
            for start, end in sorted(self.deleted):
                if self._joined and start <= self._joined[-1][1]:
                    start, before = self._joined.pop()
                    end = max(end, before)
                self._joined.append((start, end))
        at = bisect_right(self._joined, key, key=_START)
        return at > 0 and key < self._joined[at - 1][1]
