"""A revisioned store as a sequential object, with all states that it ever was in: what etcd promises.

It is written from etcd's documents and not from `kv/`, forgets nothing, and is slow. Compactions are not its
matter: they change no state, only which states can still be read.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator

from raftkv_trio.testing.histories.store_requests import (
    StoreCompare,
    StoreDelete,
    StoreDeleteAnswer,
    StoreFailure,
    StoreGet,
    StoreGetAnswer,
    StoreOperation,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreResult,
    StoreTxn,
    StoreTxnAnswer,
)

FIRST_REVISION = 1
_TO_THE_LAST = b"\0"
_NOTHING = StoreRecord(b"", b"", 0, 0, 0)

Changes = dict[bytes, StoreRecord | None]
"""What a txn leaves of each key that it changed; None: it is deleted."""


class StoreModel:
    """The store, and all its past.

    Attributes:
        revision: of the newest state; all from 1 on can be read.
    """

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self._keys: list[bytes] = []  # all that ever existed, in order
        self._revisions: dict[bytes, list[int]] = {}  # at which the key changed, ascending
        self._records: dict[bytes, list[StoreRecord | None]] = {}  # and what it was then
        self._changed: list[tuple[bytes, ...]] = []  # by revision, from the second on

    def at(self, key: bytes, revision: int) -> StoreRecord | None:
        """The key as that revision left it; None if it did not exist."""
        revisions = self._revisions.get(key)
        if not revisions:
            return None
        position = bisect_right(revisions, revision)
        return self._records[key][position - 1] if position else None

    def keys_in(self, key: bytes, range_end: bytes | None) -> Iterator[bytes]:
        """The keys of a range that ever existed, in order."""
        if range_end is None:
            return iter((key,))
        return (k for k in self._keys if k >= key and (range_end == _TO_THE_LAST or k < range_end))

    def run(self, txn: StoreTxn, at: int) -> tuple[StoreTxnAnswer | StoreFailure, Changes]:
        """The answer to a txn in the state of revision `at`, and what it changes there; nothing is kept."""
        run = _Run(self, at)
        if (failure := next(run.failures(txn, 0), None)) is not None:
            return failure, {}
        return run.txn(txn), run.changes

    def failures(self, txn: StoreTxn, at: int, compacted: int) -> set[StoreFailure]:
        """Why the txn may fail in the state of revision `at`, if reads below `compacted` do."""
        return set(_Run(self, at).failures(txn, compacted))

    def commit(self, changes: Changes) -> None:
        """Go on to the next revision, which makes these changes."""
        self.revision += 1
        for key, record in changes.items():
            if key not in self._revisions:
                insort(self._keys, key)
                self._revisions[key], self._records[key] = [], []
            self._revisions[key].append(self.revision)
            self._records[key].append(record)
        self._changed.append(tuple(changes))

    def undo(self) -> None:
        """Go back to the revision before the newest."""
        for key in self._changed.pop():
            self._revisions[key].pop()
            self._records[key].pop()
        self.revision -= 1


class _Run:
    """One txn in one state."""

    def __init__(self, model: StoreModel, base: int) -> None:
        self.changes: Changes = {}
        self._model = model
        self._base = base

    @property
    def _revision(self) -> int:
        return self._base + bool(self.changes)

    def failures(self, txn: StoreTxn, compacted: int) -> Iterator[StoreFailure]:
        """Why the list to be run cannot be; etcd checks all of it before it runs any."""
        for operation in self._chosen(txn)[1]:
            match operation:
                case StoreTxn():
                    yield from self.failures(operation, compacted)
                case StoreGet(revision=int(revision)):
                    if revision > self._base:
                        yield StoreFailure.FUTURE_REVISION
                    elif revision < compacted:
                        yield StoreFailure.COMPACTED
                case StorePut(key, keeps_value=True) if self._model.at(key, self._base) is None:
                    yield StoreFailure.KEY_NOT_FOUND

    def txn(self, txn: StoreTxn) -> StoreTxnAnswer:
        succeeded, operations = self._chosen(txn)
        results = tuple([self._operate(operation) for operation in operations])
        return StoreTxnAnswer(succeeded, self._revision, results)

    def _chosen(self, txn: StoreTxn) -> tuple[bool, tuple[StoreOperation, ...]]:
        succeeded = all(map(self._holds, txn.compares))
        return succeeded, txn.success if succeeded else txn.failure

    def _holds(self, compare: StoreCompare) -> bool:
        # An inner txn's compares too look at the state before the outermost txn.
        keys = self._model.keys_in(compare.key, compare.range_end)
        found = [record for key in keys if (record := self._model.at(key, self._base)) is not None]
        if not found:
            return compare.compared != "value" and _stands(compare, _NOTHING)
        return all(_stands(compare, record) for record in found)

    def _operate(self, operation: StoreOperation) -> StoreResult:
        match operation:
            case StorePut():
                return self._put(operation)
            case StoreDelete(key, range_end):
                previous = tuple(self._range(key, range_end))
                self.changes.update((record.key, None) for record in previous)
                return StoreDeleteAnswer(len(previous), previous)
            case StoreGet(key, range_end, limit, revision):
                records = tuple(self._range(key, range_end, revision))
                return StoreGetAnswer(records[:limit], len(records), self._revision)
            case StoreTxn():
                return self.txn(operation)

    def _put(self, put: StorePut) -> StorePutAnswer:
        old = self._now(put.key)
        revision = self._base + 1
        value = old.value if old is not None and put.keeps_value else put.value
        if old is None:
            record = StoreRecord(put.key, value, revision, revision, 1)
        else:
            record = StoreRecord(put.key, value, old.created, revision, old.version + 1)
        self.changes[put.key] = record
        return StorePutAnswer(record, old)

    def _range(
        self, key: bytes, range_end: bytes | None, revision: int | None = None
    ) -> Iterator[StoreRecord]:
        keys = set(self._model.keys_in(key, range_end))
        keys.update(k for k in self.changes if _is_in(k, key, range_end))
        for k in sorted(keys):
            record = self._now(k) if revision is None else self._model.at(k, revision)
            if record is not None:
                yield record

    def _now(self, key: bytes) -> StoreRecord | None:
        return self.changes[key] if key in self.changes else self._model.at(key, self._base)


def _is_in(key: bytes, start: bytes, range_end: bytes | None) -> bool:
    if range_end is None:
        return key == start
    return key >= start and (range_end == _TO_THE_LAST or key < range_end)


def _stands(compare: StoreCompare, record: StoreRecord) -> bool:
    actual: int | bytes = getattr(record, compare.compared)
    operand = compare.operand
    if isinstance(actual, int):
        assert isinstance(operand, int), compare
        order = (actual > operand) - (actual < operand)
    else:
        assert isinstance(operand, bytes), compare
        order = (actual > operand) - (actual < operand)
    return {"=": order == 0, "!=": order != 0, ">": order > 0, "<": order < 0}[compare.relation]
