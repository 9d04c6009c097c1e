"""The deadlines of leases, by a clock that the test moves, on a store without a node."""

from random import Random

import pytest

from raftkv_trio.access.lease_deadlines import HORIZON_S, RETRY_S, Due, LeaseDeadlines
from raftkv_trio.access.leases import MAX_EXPIRED, MAX_EXPIRED_KEYS, STEP_LEASES
from raftkv_trio.kv import (
    CheckpointedLease,
    CheckpointLeases,
    ExpireLeases,
    GrantLease,
    LeaseCommand,
    Put,
    RenewedLease,
    RenewLeases,
    RevokeLease,
    Store,
    Txn,
)

NOTHING = Due((), ())
TERM = 1


class Watched:
    """A store of a leader, its deadlines, and a clock.

    Attributes:
        steps: how often something was looked at, without a pause.
    """

    def __init__(self, checkpoint_interval_s: float | None = None) -> None:
        self.store = Store()
        self.deadlines = LeaseDeadlines(self.store, checkpoint_interval_s)
        self.now_s = 1000.0
        self.steps = 0
        self.see(TERM)

    def see(self, term: int, is_leader: bool = True) -> None:
        self.deadlines.see_reign(self.now_s, term, is_leader)

    def run(self, command: LeaseCommand) -> None:
        self.store.run_lease_command(command, TERM)

    def due(self, after_s: float = 0.0) -> Due:
        """What is due so much later, as the lessor asks for it."""
        self.now_s += after_s
        expired: list[RenewedLease] = []
        checkpoints: list[CheckpointedLease] = []
        has_more = True
        while has_more:
            self.steps += 1
            if not self.deadlines.take_touched(self.now_s, STEP_LEASES):
                due, has_more = self.deadlines.look(self.now_s, STEP_LEASES, MAX_EXPIRED, MAX_EXPIRED_KEYS)
                expired += due.expired
                checkpoints += due.checkpoints
        return Due(tuple(expired), tuple(checkpoints))

    def left_s(self, lease_id: int) -> float:
        lease = self.store.leases.get(lease_id)
        assert lease is not None
        return self.deadlines.deadline(lease, self.now_s) - self.now_s


def test_a_lease_expires_after_its_time() -> None:
    """And not before; a renewal gives it its whole time again, and it is named as of that renewal."""
    watched = Watched()
    watched.run(GrantLease(7, 10))
    assert watched.due() == NOTHING
    assert watched.due(9.9) == NOTHING
    watched.run(RenewLeases((7,)))
    assert watched.left_s(7) == 10
    assert watched.due(9.9) == NOTHING
    assert watched.due(0.2) == Due((RenewedLease(7, 2),), ())
    assert watched.left_s(7) < 0


def test_what_has_not_expired_is_told_again() -> None:
    """The entry may be lost. A lease that is gone is forgotten."""
    watched = Watched()
    watched.run(GrantLease(7, 10))
    expired = Due((RenewedLease(7, 1),), ())
    watched.due()
    assert watched.due(10) == expired
    assert watched.due(RETRY_S / 2) == NOTHING
    assert watched.due(RETRY_S) == expired
    watched.run(ExpireLeases(TERM, expired.expired))
    assert watched.due(2 * RETRY_S) == NOTHING
    assert len(watched.deadlines) == 0


def test_a_renewal_that_is_applied_and_not_taken_counts() -> None:
    """Between two looks of the lessor the log goes on."""
    watched = Watched()
    watched.run(GrantLease(7, 10))
    watched.due()
    watched.now_s += 10
    watched.run(RenewLeases((7,)))
    due, _ = watched.deadlines.look(watched.now_s, STEP_LEASES, MAX_EXPIRED, MAX_EXPIRED_KEYS)
    assert due == NOTHING
    assert watched.left_s(7) == 10


def test_another_reign_gives_the_whole_time_again() -> None:
    """When a node begins to lead, and when it sees another term; without one, time goes on."""
    watched = Watched()
    for lease_id in (7, 8):
        watched.run(GrantLease(lease_id, 10))
    watched.due()
    watched.see(TERM, is_leader=False)
    assert watched.due(9) == NOTHING
    watched.see(TERM + 1, is_leader=False)
    assert watched.left_s(7) == 10
    assert watched.due(9) == NOTHING
    watched.see(TERM + 1)
    assert watched.due(9) == NOTHING
    watched.see(TERM + 1)
    assert watched.left_s(8) == 1
    watched.run(RenewLeases((8,)))
    assert watched.due(1) == Due((RenewedLease(7, 1),), ())


def test_a_lease_of_years_is_forgotten_soon_after_it_is_gone() -> None:
    """So clients who grant and revoke such leases for ever take no more memory."""
    watched = Watched()
    for lease_id in range(1, 101):
        watched.run(GrantLease(lease_id, 9_000_000_000))
        watched.due()
        watched.run(RevokeLease(lease_id))
        watched.due()
    watched.run(GrantLease(7, 9_000_000_000))
    assert watched.due(HORIZON_S) == NOTHING
    assert watched.due(HORIZON_S) == NOTHING
    assert len(watched.deadlines) == len(watched.deadlines._queue) == 1


def test_checkpoints() -> None:
    """Of leases that have lived for the interval, and have as much left; a new leader counts from there."""
    watched = Watched(checkpoint_interval_s=300)
    watched.run(GrantLease(7, 1000))
    watched.run(GrantLease(8, 500))
    watched.due()
    checkpoints: list[CheckpointedLease] = []
    for _ in range(400):
        due = watched.due(1)
        assert not due.expired
        checkpoints += due.checkpoints
        watched.run(CheckpointLeases(TERM, due.checkpoints))
        watched.due()
    [checkpoint] = checkpoints
    assert checkpoint.id == 7
    assert 600 <= checkpoint.remaining_s <= 700
    assert watched.left_s(7) == pytest.approx(600, abs=1)
    watched.see(TERM + 1)
    assert watched.left_s(7) == checkpoint.remaining_s
    assert watched.left_s(8) == 500
    watched.run(RenewLeases((7,)))
    assert watched.left_s(7) == 1000


def test_many_keys_are_not_deleted_at_once() -> None:
    """Leases with keys expire in entries of bounded work, though a lease is never divided."""
    watched = Watched()
    for lease_id in (1, 2, 3):
        watched.run(GrantLease(lease_id, 10))
        for number in range(MAX_EXPIRED_KEYS // 2 + 1):
            put = Put(b"%d %d" % (lease_id, number), b"", lease_id)
            watched.store.run(Txn(success=(put,)))
    watched.due()
    watched.now_s += 10
    parts = [
        watched.deadlines.look(watched.now_s, STEP_LEASES, MAX_EXPIRED, MAX_EXPIRED_KEYS) for _ in range(2)
    ]
    assert [(len(due.expired), has_more) for due, has_more in parts] == [(2, True), (1, False)]


@pytest.mark.parametrize("are_restored", [False, True])
def test_many_leases(are_restored: bool) -> None:
    """Whatever happens, the node's other tasks have their turns: no step looks at more than a bounded number.

    How long a step takes depends on the machine: about 2 ms, with 100,000 leases as with 10,000.
    """
    watched, random = Watched(), Random(1)
    count = 10_000
    for lease_id in range(1, count + 1):
        watched.run(GrantLease(lease_id, random.randrange(10, 100)))
    if are_restored:
        chunks = list(watched.store.snapshot())
        watched.store.restore(chunks)
    assert watched.due() == NOTHING
    assert watched.steps >= count / STEP_LEASES
    watched.see(TERM + 1)
    expired: set[int] = set()
    for _ in range(110):
        steps = watched.steps
        due = watched.due(1)
        assert watched.steps - steps >= len(due.expired) / MAX_EXPIRED
        expired |= {lease.id for lease in due.expired}
        for start in range(0, len(due.expired), MAX_EXPIRED):
            watched.run(ExpireLeases(TERM, due.expired[start : start + MAX_EXPIRED]))
    assert len(expired) == count
    assert len(watched.store.leases) == 0
    watched.due(2 * HORIZON_S)
    assert len(watched.deadlines) == 0
