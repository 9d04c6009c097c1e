"""The store as plainly as it can be said: one dict, sorted on every read. Slow, and easy to believe."""

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compare,
    Delete,
    DeleteResult,
    GetResult,
    KeyValue,
    OverQuota,
    Put,
    PutResult,
    Relation,
    Target,
    Txn,
    TxnResult,
)


class Model:
    def __init__(self) -> None:
        self.revision = 1
        self.records: dict[bytes, KeyValue] = {}

    @property
    def size_bytes(self) -> int:
        return sum(len(record.key + record.value) for record in self.records.values())

    def run(self, txn: Txn) -> TxnResult | OverQuota:
        succeeded = all(self._holds(compare) for compare in txn.compares)
        before = dict(self.records)
        if txn.quota_bytes is not None:
            after = {key: record.value for key, record in self.records.items()}
            for operation in txn.success if succeeded else txn.failure:
                if isinstance(operation, Put):
                    after[operation.key] = operation.value
            size_then = sum(len(key + value) for key, value in after.items())
            if size_then > max(self.size_bytes, txn.quota_bytes):
                return OverQuota(self.size_bytes, txn.quota_bytes)
        wrote = False
        results: list[PutResult | DeleteResult | GetResult] = []
        for operation in txn.success if succeeded else txn.failure:
            if isinstance(operation, Put):
                wrote = True
                old = self.records.get(operation.key)
                created = old.create_revision if old else self.revision + 1
                version = old.version + 1 if old else 1
                new = KeyValue(
                    operation.key, operation.value, created, self.revision + 1, version, operation.lease
                )
                self.records[operation.key] = new
                results.append(PutResult(new))
            elif isinstance(operation, Delete):
                doomed = self._range(operation.key, operation.range_end)
                for record in doomed:
                    del self.records[record.key]
                results.append(DeleteResult(len(doomed)))
            else:
                found = self._range(operation.key, operation.range_end)
                shown = (
                    found
                    if operation.limit is None or operation.range_end is None
                    else found[: operation.limit]
                )
                results.append(GetResult(tuple(shown), len(found)))
        if wrote or self.records != before:
            self.revision += 1
        return TxnResult(succeeded, self.revision, tuple(results))

    def _range(self, start: bytes, end: bytes | None) -> list[KeyValue]:
        if end is None:
            return [self.records[start]] if start in self.records else []
        inside = [k for k in sorted(self.records) if k >= start and (end == TO_THE_LAST or k < end)]
        return [self.records[key] for key in inside]

    def _holds(self, compare: Compare) -> bool:
        record = self.records.get(compare.key, KeyValue(compare.key, b"", 0, 0, 0))
        if compare.target is Target.VALUE and compare.key not in self.records:
            return False
        numbers = {
            Target.VERSION: record.version,
            Target.CREATE_REVISION: record.create_revision,
            Target.MOD_REVISION: record.mod_revision,
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
