"""The store as plainly as it can be said: a dict a revision, sorted on every read. Slow, easy to believe."""

from collections.abc import Iterator

from raftkv_trio.kv import (
    LEASE_BYTES,
    TO_THE_LAST,
    CheckpointLeases,
    Compact,
    CompactResult,
    Compare,
    Delete,
    DeleteResult,
    ExpireLeases,
    Failed,
    Failure,
    Get,
    GetResult,
    GrantLease,
    KeyValue,
    Lease,
    LeaseCommand,
    LeaseGranted,
    LeaseRevoked,
    LeasesCheckpointed,
    LeasesExpired,
    LeasesRenewed,
    Operation,
    OperationResult,
    OverQuota,
    Put,
    PutResult,
    Relation,
    RenewLeases,
    Result,
    RevokeLease,
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
        self.leases: dict[int, Lease] = {}
        self.renewals = 0

    @property
    def size_bytes(self) -> int:
        return sum(len(record.key + record.value) for record in self.records.values())

    def run_command(self, command: Txn | Compact | LeaseCommand, term: int = 1) -> Result:
        match command:
            case Txn():
                return self.run(command)
            case Compact(revision):
                return self.compact(revision)
            case GrantLease(lease_id, ttl_s, quota):
                if lease_id in self.leases:
                    return Failed(Failure.LEASE_EXISTS)
                if quota is not None and self.size_bytes + LEASE_BYTES * (len(self.leases) + 1) > quota:
                    return OverQuota(self.size_bytes, quota)
                self.renewals += 1
                self.leases[lease_id] = Lease(lease_id, ttl_s, self.revision, self.renewals)
                return LeaseGranted(lease_id, ttl_s, self.revision)
            case RevokeLease(lease_id):
                if lease_id not in self.leases:
                    return Failed(Failure.LEASE_NOT_FOUND)
                deleted = self._revoke(lease_id)
                return LeaseRevoked(self.revision, deleted)
            case RenewLeases(ids):
                return LeasesRenewed(tuple(map(self._renew, ids)), self.revision)
            case ExpireLeases():
                expired = [i for i, n in command.leases if self._is_as_seen(i, n, command, term)]
                for lease_id in dict.fromkeys(expired):
                    self._revoke(lease_id)
                return LeasesExpired(tuple(dict.fromkeys(expired)), self.revision)
            case CheckpointLeases():
                noted = [c for c in command.leases if self._is_as_seen(c.id, c.renewal, command, term)]
                for lease_id, _, remaining_s in noted:
                    lease = self.leases[lease_id]
                    left_s = min(remaining_s, lease.ttl_s)
                    self.leases[lease_id] = lease._replace(remaining_s=left_s)
                return LeasesCheckpointed(tuple(c.id for c in noted), self.revision)

    def keys_of(self, lease_id: int) -> list[bytes]:
        """All keys whose records name the lease, of those that were put since it was granted."""
        granted = self.leases[lease_id].granted_revision
        found = [r for r in self.records.values() if r.lease == lease_id and r.mod_revision > granted]
        return sorted(record.key for record in found)

    def _revoke(self, lease_id: int) -> int:
        keys = self.keys_of(lease_id)
        del self.leases[lease_id]
        for key in keys:
            del self.records[key]
        if keys:
            self._finish(keys)
        return len(keys)

    def _renew(self, lease_id: int) -> int:
        lease = self.leases.get(lease_id)
        if lease is None:
            return 0
        self.renewals += 1
        self.leases[lease_id] = lease._replace(renewal=self.renewals, remaining_s=0)
        return lease.ttl_s

    def _is_as_seen(
        self, lease_id: int, renewal: int, command: ExpireLeases | CheckpointLeases, term: int
    ) -> bool:
        lease = self.leases.get(lease_id)
        return command.term == term and lease is not None and lease.renewal == renewal

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
            if put.lease and put.lease not in self.leases:
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
            self._finish(changed)
        return result

    def _finish(self, changed: list[bytes]) -> None:
        self.revision += 1
        self.states[self.revision] = dict(self.records)
        self.changes[self.revision] = tuple(dict.fromkeys(changed))

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
        return PutResult(put.key, _packed(new), _packed(old) if old else None)

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
