"""The store as plainly as it can be said: a dict a revision, sorted on every read. Slow, easy to believe."""

from collections.abc import Iterator

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compact,
    CompactResult,
    Compare,
    Delete,
    DeleteResult,
    Failed,
    Failure,
    Get,
    GetResult,
    KeyValue,
    Operation,
    OperationResult,
    OverQuota,
    Put,
    PutResult,
    Relation,
    Result,
    Target,
    Txn,
    TxnResult,
)
from raftkv_trio.kv.record import pack

Records = dict[bytes, KeyValue]


class Model:
    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.records: Records = {}
        self.states: dict[int, Records] = {0: {}, 1: {}}  # revision -> what it left
        self.changes: dict[int, tuple[bytes, ...]] = {}

    @property
    def size_bytes(self) -> int:
        return sum(len(record.key + record.value) for record in self.records.values())

    def run_command(self, command: Txn | Compact) -> Result:
        return self.run(command) if isinstance(command, Txn) else self.compact(command.revision)

    def compact(self, revision: int) -> CompactResult | Failed:
        failure = self._failure_at(revision)
        if failure or revision == self.compacted:
            return failure or Failed(Failure.COMPACTED)
        self.compacted = revision
        return CompactResult(self.revision)

    def run(self, txn: Txn) -> TxnResult | OverQuota | Failed:
        before = dict(self.records)
        chosen = list(self._chosen(txn))
        puts = [operation for operation in chosen if isinstance(operation, Put)]
        for put in puts:
            if (put.keeps_value or put.keeps_lease) and put.key not in self.records:
                return Failed(Failure.KEY_NOT_FOUND)
            if put.lease:
                return Failed(Failure.LEASE_NOT_FOUND)
        for operation in chosen:
            if isinstance(operation, Get) and (failure := self._failure_at(operation.revision)):
                return failure
        if txn.quota_bytes is not None:
            after = {key: record.value for key, record in self.records.items()}
            after |= {put.key: put.value for put in puts if not put.keeps_value}
            size_then = sum(len(key + value) for key, value in after.items())
            if size_then > max(self.size_bytes, txn.quota_bytes):
                return OverQuota(self.size_bytes, txn.quota_bytes)
        changed: list[bytes] = []
        result = self._run(txn, before, changed)
        if changed:
            self.revision += 1
            self.states[self.revision] = dict(self.records)
            self.changes[self.revision] = tuple(dict.fromkeys(changed))
        return result

    def _failure_at(self, revision: int | None) -> Failed | None:
        if revision is None or self.compacted <= revision <= self.revision:
            return None
        return Failed(Failure.FUTURE_REVISION if revision > self.revision else Failure.COMPACTED)

    def _chosen(self, txn: Txn) -> Iterator[Operation]:
        """The operations that are run, in order, those of inner txns in their place."""
        for operation in txn.success if self._succeeds(txn, self.records) else txn.failure:
            if isinstance(operation, Txn):
                yield from self._chosen(operation)
            else:
                yield operation

    def _succeeds(self, txn: Txn, before: Records) -> bool:
        return all(self._holds(compare, before) for compare in txn.compares)

    def _run(self, txn: Txn, before: Records, changed: list[bytes]) -> TxnResult:
        succeeded = self._succeeds(txn, before)
        results: list[OperationResult] = []
        for operation in txn.success if succeeded else txn.failure:
            if isinstance(operation, Put):
                results.append(self._put(operation))
                changed.append(operation.key)
            elif isinstance(operation, Delete):
                doomed = _range(self.records, operation.key, operation.range_end)
                for record in doomed:
                    del self.records[record.key]
                    changed.append(record.key)
                results.append(_deleted(doomed))
            elif isinstance(operation, Get):
                state = self.records if operation.revision is None else self.states[operation.revision]
                results.append(self._get(state, operation, self.revision + bool(changed)))
            else:
                results.append(self._run(operation, before, changed))
        return TxnResult(succeeded, self.revision + bool(changed), tuple(results))

    def _put(self, put: Put) -> PutResult:
        old = self.records.get(put.key)
        value = old.value if old and put.keeps_value else put.value
        lease = old.lease if old and put.keeps_lease else put.lease
        created = old.create_revision if old else self.revision + 1
        version = old.version + 1 if old else 1
        new = KeyValue(put.key, value, created, self.revision + 1, version, lease)
        self.records[put.key] = new
        return PutResult(new, _packed(old) if old else None)

    def read(self, get: Get) -> GetResult | Failed:
        failure = self._failure_at(get.revision)
        state = self.records if get.revision is None else self.states.get(get.revision, {})
        return failure or self._get(state, get, self.revision)

    def _get(self, state: Records, get: Get, revision: int) -> GetResult:
        found = _range(state, get.key, get.range_end)
        return GetResult(tuple(found[: get.limit]), len(found), revision)

    def _holds(self, compare: Compare, before: Records) -> bool:
        found = _range(before, compare.key, compare.range_end)
        if compare.target is Target.VALUE and not found:
            return False
        return all(_compares(compare, record) for record in found or [KeyValue(compare.key, b"", 0, 0, 0)])


def _deleted(doomed: list[KeyValue]) -> DeleteResult:
    return DeleteResult(len(doomed), tuple(r.key for r in doomed), tuple(map(_packed, doomed)))


def _packed(record: KeyValue) -> bytes:
    return pack(*record[1:])


def _range(records: Records, start: bytes, end: bytes | None) -> list[KeyValue]:
    if end is None:
        return [records[start]] if start in records else []
    inside = [k for k in sorted(records) if k >= start and (end == TO_THE_LAST or k < end)]
    return [records[key] for key in inside]


def _compares(compare: Compare, record: KeyValue) -> bool:
    numbers = {
        Target.VERSION: record.version,
        Target.CREATE_REVISION: record.create_revision,
        Target.MOD_REVISION: record.mod_revision,
        Target.LEASE: record.lease or 0,
    }
    if isinstance(compare.operand, bytes):
        order = (record.value > compare.operand) - (record.value < compare.operand)
    else:
        number = numbers[compare.target]
        order = (number > compare.operand) - (number < compare.operand)
    return {
        Relation.EQUAL: order == 0,
        Relation.NOT_EQUAL: order != 0,
        Relation.GREATER: order > 0,
        Relation.LESS: order < 0,
    }[compare.relation]
