"""What a txn does to the keys of a store: all compares and checks come before the first change."""

from typing import NamedTuple

from raftkv_trio.kv.checks import DELETE_REACH, MAX_REACH
from raftkv_trio.kv.compares import holds
from raftkv_trio.kv.keyspace import Keyspace
from raftkv_trio.kv.record import lease_of, size_of, unpack
from raftkv_trio.kv.results import (
    KeyNotFound,
    LeaseNotFound,
    OperationResult,
    QuotaExceeded,
    TooManyKeys,
    TxnResult,
)
from raftkv_trio.kv.txn import Compare, Delete, Get, Operation, Put, Txn


def run_txn(space: Keyspace, txn: Txn) -> TxnResult:
    """Run one txn.

    Raises InvalidTxn if a compare's operand does not fit its target, QuotaExceeded, and CommandFailed;
    nothing has changed then. Apart from that, the txn must be one that `encode_command` accepts.
    """
    if not txn.compares and len(txn.success) == 1 and type(txn.success[0]) is Put:
        return _run_put(space, txn.success[0], txn.quota_bytes)
    return TxnRun(space).run(txn)


def _run_put(space: Keyspace, put: Put, quota_bytes: int | None) -> TxnResult:
    """Run a txn that puts one key, as nearly all do: a start does this for each entry of the log."""
    if put.lease or put.keeps_value or put.keeps_lease:
        TxnRun(space).check_puts(_Path(True, (put,), ()))
    if quota_bytes is not None and space.size_bytes + len(put.key) + len(put.value) > quota_bytes:
        TxnRun(space).check_quota(_Path(True, (put,), ()), quota_bytes)
    changed: list[bytes] = []
    revision = space.revision + 1
    result = space.put(put, revision, changed)
    space.finish(revision, changed)
    return TxnResult(True, revision, (result,))


class _Path(NamedTuple):
    """What of a txn is run: one of its two lists, and of each inner txn in it in turn."""

    succeeded: bool
    operations: tuple[Operation, ...]
    inner: "tuple[_Path, ...]"


class TxnRun:
    """One run of a txn, which may not reach too many keys."""

    __slots__ = ("_reached", "_space")

    def __init__(self, space: Keyspace) -> None:
        self._space = space
        self._reached = 0

    def run(self, txn: Txn) -> TxnResult:
        """Run the txn; raises as `run_txn`."""
        path = self.choose(txn)
        self.check_puts(path)
        self.check_ranges(path)
        if txn.quota_bytes is not None:
            self.check_quota(path, txn.quota_bytes)
        changed: list[bytes] = []
        revision = self._space.revision + 1
        result = self.run_path(path, revision, changed)
        if changed:
            self._space.finish(revision, changed)
        return result

    def choose(self, txn: Txn) -> _Path:
        """Which lists of operations the compares choose."""
        succeeded = not txn.compares or all(map(self._holds, txn.compares))
        operations = txn.success if succeeded else txn.failure
        inner = [self.choose(operation) for operation in operations if type(operation) is Txn]
        return _Path(succeeded, operations, tuple(inner))

    def _holds(self, compare: Compare) -> bool:
        space = self._space
        if compare.range_end is None:
            record = space.get(compare.key)
            return holds(compare, () if record is None else (record,))
        self._reach(compare.key, compare.range_end)
        first, last = space.bounds(compare.key, compare.range_end)
        return holds(compare, (unpack(key, space.records[key]) for key in space.records.islice(first, last)))

    def check_puts(self, path: _Path) -> None:
        """Raise KeyNotFound or LeaseNotFound for a put that lacks what it names, and TooManyKeys."""
        space = self._space
        if space.history is None:
            return  # at feature level 1 a put may name any lease
        inner = iter(path.inner)
        for operation in path.operations:
            if type(operation) is Put:
                if (operation.keeps_value or operation.keeps_lease) and operation.key not in space.records:
                    raise KeyNotFound
                if operation.lease:
                    self._check_lease(operation.key, operation.lease)
            elif type(operation) is Txn:
                self.check_puts(next(inner))

    def _check_lease(self, key: bytes, lease: int) -> None:
        """Raise LeaseNotFound, or TooManyKeys for one more key of a lease that has as many as it may have."""
        space = self._space
        if space.leases is None or lease not in space.leases:
            raise LeaseNotFound(lease)
        # They are deleted in one piece when the lease ends. Puts of one txn may go beyond: that is little.
        if space.leases.key_count(lease) >= MAX_REACH // DELETE_REACH:
            old = space.records.get(key)
            if old is None or lease_of(old) != lease:
                raise TooManyKeys(MAX_REACH)

    def check_ranges(self, path: _Path) -> None:
        """Raise what a get of a past revision raises, and TooManyKeys."""
        inner = iter(path.inner)
        for operation in path.operations:
            if type(operation) is Get:
                if operation.revision is not None:
                    self._space.check_revision(operation.revision)
                if operation.range_end is not None:
                    self._reach(operation.key, operation.range_end, past=operation.revision is not None)
            elif type(operation) is Delete:
                if operation.range_end is not None:
                    self._reach(operation.key, operation.range_end, DELETE_REACH)
            elif type(operation) is Txn:
                self.check_ranges(next(inner))

    def _reach(self, start: bytes, end: bytes, weight: int = 1, *, past: bool = False) -> None:
        """Count the keys of a range; raises TooManyKeys."""
        if self._space.leases is None:
            return  # before feature level 3 there was no bound
        self._reached += weight * self._space.reach(start, end, past=past)
        if self._reached > MAX_REACH:
            raise TooManyKeys(MAX_REACH)

    def check_quota(self, path: _Path, quota_bytes: int) -> None:
        """Raise QuotaExceeded if the puts on the path make the store larger, and too large."""
        size_bytes = self._space.size_bytes
        # As a rule there is room even if all is new. Only if not it is looked up what is replaced.
        if size_bytes + _put_bytes(path) <= quota_bytes:
            return
        grown_bytes = self._growth_bytes(path)
        if grown_bytes > 0 and size_bytes + grown_bytes > quota_bytes:
            raise QuotaExceeded(size_bytes, quota_bytes)

    def _growth_bytes(self, path: _Path) -> int:
        grown_bytes = 0
        for operation in path.operations:
            if type(operation) is Put and not operation.keeps_value:
                old = self._space.records.get(operation.key)
                old_bytes = size_of(operation.key, old) if old is not None else 0
                grown_bytes += len(operation.key) + len(operation.value) - old_bytes
        return grown_bytes + sum(map(self._growth_bytes, path.inner))

    def run_path(self, path: _Path, revision: int, changed: list[bytes]) -> TxnResult:
        """Run what is chosen and checked; adds the keys that change to `changed`, in order."""
        inner = iter(path.inner)
        results: list[OperationResult] = []
        space = self._space
        for operation in path.operations:
            if type(operation) is Put:
                results.append(space.put(operation, revision, changed))
            elif type(operation) is Get:
                results.append(space.read(operation, revision if changed else space.revision))
            elif type(operation) is Delete:
                results.append(space.delete(operation.key, operation.range_end, revision, changed))
            else:
                results.append(self.run_path(next(inner), revision, changed))
        return TxnResult(path.succeeded, revision if changed else space.revision, tuple(results))


def _put_bytes(path: _Path) -> int:
    """The bytes of all that is put on the path."""
    puts = [operation for operation in path.operations if type(operation) is Put]
    return sum([len(put.key) + len(put.value) for put in puts]) + sum(map(_put_bytes, path.inner))
