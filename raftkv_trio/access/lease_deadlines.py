"""When each lease expires, by the clock of one node.

Each node keeps a deadline for each lease: the lease's whole time after this node has applied the grant or the
last renewal. So none is early, as the client asked before that. When a node begins to lead, or sees another
term, each lease has its whole time again from that moment, because its client may have had nobody to renew it
with. If the store has a checkpoint of the lease (`CheckpointLeases`), the whole time is what that has left.

Nothing here is done for all leases at once. That they have their whole time again is one number, which counts
when a deadline is looked at. And the store names the leases that it has granted, renewed or restored.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from math import ceil
from typing import NamedTuple

from raftkv_trio.kv import CheckpointedLease, Lease, RenewedLease, Store

#: A lease is looked at once in this time, at least, so that one that is gone is forgotten here too.
HORIZON_S = 60.0
#: A lease whose expiry has had no effect, or that another node is to end, is looked at again after this time.
RETRY_S = 2.0


class Due(NamedTuple):
    """What a leader is to tell the store.

    Attributes:
        expired: leases that have not been renewed in time.
        checkpoints: leases that have lived for long, and live on.
    """

    expired: tuple[RenewedLease, ...]
    checkpoints: tuple[CheckpointedLease, ...]


class LeaseDeadlines:
    """The deadlines of the leases of one store. No method may be called while the store is being restored.

    Args:
        store: whose leases; its `Leases.touched` is taken from.
        checkpoint_interval_s: a lease that has lived for so long, and lives on for as long, gets a
            checkpoint; None: none does.
    """

    def __init__(self, store: Store, checkpoint_interval_s: float | None = None) -> None:
        self._store = store
        self._checkpoint_interval_s = checkpoint_interval_s
        self._deadlines: dict[int, float] = {}
        self._queue: list[tuple[float, int]] = []  # a heap of times at which leases are looked at
        self._queued: dict[int, float] = {}  # of each lease, which item of the heap counts
        self._reign: tuple[int, bool] | None = None
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._deadlines)

    def see_reign(self, now_s: float, term: int, is_leader: bool) -> None:
        """Note the node's term, and whether it leads; each time before anything is due."""
        if (term, is_leader) != self._reign:
            self._reign, self._since = (term, is_leader), now_s

    def take_touched(self, now_s: float, most: int) -> bool:
        """Take so many of the leases that the store has touched; returns whether there may be more."""
        touched = self._store.leases.touched
        for _ in range(min(most, len(touched))):
            lease_id, _ = touched.popitem()
            self._touch(lease_id, now_s)
        return bool(touched)

    def _touch(self, lease_id: int, now_s: float) -> None:
        lease = self._store.leases.get(lease_id)
        if lease is not None:
            self._deadlines[lease_id] = deadline = now_s + _whole_time_s(lease)
            # One that is later now is found to be so when it is looked at.
            if deadline < self._queued.get(lease_id, deadline + 1):
                self._put(lease_id, min(deadline, now_s + HORIZON_S))

    def _put(self, lease_id: int, at_s: float) -> None:
        self._queued[lease_id] = at_s
        heappush(self._queue, (at_s, lease_id))

    def deadline(self, lease: Lease, now_s: float) -> float:
        """When a lease of the store expires here, in seconds of the clock."""
        if lease.id in self._store.leases.touched:
            del self._store.leases.touched[lease.id]
            self._touch(lease.id, now_s)
        whole_s = _whole_time_s(lease)
        return max(self._deadlines.get(lease.id, now_s + whole_s), self._since + whole_s)

    def look(self, now_s: float, most: int, most_expired: int, most_keys: int) -> tuple[Due, bool]:
        """What is due now, of so many leases at most; and whether more of them may be due.

        Call `take_touched` before, until there are no more.

        Args:
            most: how many leases are looked at.
            most_expired, most_keys: how many may have expired, and how many keys these may have, apart from
                those of the last one.
        """
        expired: list[RenewedLease] = []
        checkpoints: list[CheckpointedLease] = []
        keys = 0
        for lease in self._looked_at(now_s, most):
            deadline = self.deadline(lease, now_s)
            if deadline <= now_s:
                expired.append(RenewedLease(lease.id, lease.renewal))
                keys += self._store.leases.key_count(lease.id)
                self._put(lease.id, now_s + RETRY_S)
                if len(expired) >= most_expired or keys >= most_keys:
                    break
                continue
            if self._needs_checkpoint(lease, deadline, now_s):
                checkpoints.append(CheckpointedLease(lease.id, lease.renewal, ceil(deadline - now_s)))
            self._put(lease.id, min(deadline, now_s + HORIZON_S))
        return Due(tuple(expired), tuple(checkpoints)), bool(self._queue) and self._queue[0][0] <= now_s

    def _looked_at(self, now_s: float, most: int) -> Iterator[Lease]:
        for _ in range(most):
            if not self._queue or self._queue[0][0] > now_s:
                return
            at_s, lease_id = heappop(self._queue)
            if self._queued.get(lease_id) != at_s:
                continue
            lease = self._store.leases.get(lease_id)
            if lease is None:
                del self._queued[lease_id], self._deadlines[lease_id]
            else:
                yield lease

    def _needs_checkpoint(self, lease: Lease, deadline: float, now_s: float) -> bool:
        interval_s = self._checkpoint_interval_s
        if interval_s is None or deadline - now_s < interval_s:
            return False
        return now_s - (deadline - _whole_time_s(lease)) >= interval_s


def _whole_time_s(lease: Lease) -> int:
    return lease.remaining_s or lease.ttl_s
