"""Random commands over a few keys, drawn by a seed: in far less time than hypothesis takes for each."""

from random import Random

from raftkv_trio.kv import (
    TO_THE_LAST,
    CheckpointedLease,
    CheckpointLeases,
    Compact,
    Compare,
    Delete,
    ExpireLeases,
    Get,
    GrantLease,
    InvalidTxn,
    LeaseCommand,
    Operation,
    Put,
    Relation,
    RenewedLease,
    RenewLeases,
    RevokeLease,
    Target,
    Txn,
    check_txn,
)
from tests.kv.strategies import KEYS

LEASES = (7, 8)


class Drawing:
    """Draws commands that `check_txn` accepts.

    Attributes:
        revision: about the store's; revisions are drawn near it and before it.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.revision = 1
        self._renewals = 0  # about the store's

    def command(self) -> Txn | Compact | LeaseCommand:
        """A txn, and now and then a compaction, or a command about leases."""
        draw = self._random.random()
        if draw < 0.1:
            return Compact(self._past_revision())
        if draw < 0.4:
            return self._lease_command()
        while True:
            txn = self._txn(depth=1)
            quota = self._random.choice([None, None, None, 15])
            try:
                check_txn(txn)
            except InvalidTxn:
                continue
            return txn._replace(quota_bytes=quota)

    def _lease_command(self) -> LeaseCommand:
        draw = self._random.random()
        lease_id = self._random.choice(LEASES)
        if draw < 0.4:
            self._renewals += 1
            return GrantLease(lease_id, self._random.choice([1, 60]), self._random.choice([None, 600]))
        if draw < 0.55:
            return RevokeLease(lease_id)
        ids = self._random.choices([*LEASES, 9], k=2)
        if draw < 0.7:
            self._renewals += 1
            return RenewLeases(tuple(ids))
        term = self._random.choice([1, 1, 1, 2])
        renewals = [self._random.randint(max(0, self._renewals - 4), self._renewals) for _ in ids]
        if draw < 0.85:
            return ExpireLeases(term, tuple(map(RenewedLease, ids, renewals)))
        return CheckpointLeases(term, tuple(map(CheckpointedLease, ids, renewals, (1, 80))))

    def _txn(self, depth: int) -> Txn:
        return Txn(
            tuple(self._compare() for _ in range(self._random.choice([0, 0, 0, 1, 2]))),
            tuple(self._operation(depth) for _ in range(self._random.choice([0, 1, 1, 2, 3]))),
            tuple(self._operation(depth) for _ in range(self._random.choice([0, 0, 1, 2]))),
        )

    def _operation(self, depth: int) -> Operation:
        draw = self._random.random()
        if draw < 0.5:
            return self._put()
        if draw < 0.7:
            return Delete(self._key(), self._range_end())
        if draw < 0.85 or depth == 4:
            revision = self._past_revision() if self._random.random() < 0.4 else None
            return Get(self._key(), self._range_end(), self._random.choice([None, 0, 1, 3]), revision)
        return self._txn(depth + 1)

    def _put(self) -> Put:
        draw = self._random.random()
        value = self._random.choice([b"", b"1", b"22", b"333"])
        if draw < 0.05:
            return Put(self._key(), b"", None, keeps_value=True, keeps_lease=self._random.random() < 0.5)
        if draw < 0.1:
            return Put(self._key(), value, None, keeps_lease=True)
        return Put(self._key(), value, self._random.choice([None] * 5 + [0] * 2 + [*LEASES, 9]))

    def _compare(self) -> Compare:
        target = self._random.choice(list(Target))
        operand: int | bytes = self._random.choice([b"", b"1", b"22"])
        if target is not Target.VALUE:
            operand = self._random.choice([-1, 0, 0, 1, 2, self._past_revision()])
        relation = self._random.choice(list(Relation))
        return Compare(self._key(), target, relation, operand, self._range_end())

    def _key(self) -> bytes:
        return self._random.choice(KEYS)

    def _range_end(self) -> bytes | None:
        return self._random.choice([None, None, TO_THE_LAST, self._key()])

    def _past_revision(self) -> int:
        return max(0, self.revision + 1 - min(int(self._random.expovariate(0.3)), 20))
