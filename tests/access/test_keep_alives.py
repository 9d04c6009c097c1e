"""Keep-alives that share log entries, on a store without a node."""

import pytest
import trio
import trio.testing

from raftkv_trio.access.keep_alives import MAX_RENEWED, KeepAlives
from raftkv_trio.errors import NoLeader, OutcomeUnknown, ProposalError
from raftkv_trio.kv import GrantLease, RenewLeases, Store, decode_command
from raftkv_trio.node.proposals import Applied
from raftkv_trio.state_machine import Committed


class Log:
    """Stands for a `ReplicatedStore` whose entries take as long as the test likes.

    Attributes:
        written: the leases of each entry so far.
        fails: what writes raise.
    """

    def __init__(self, *lease_ids: int) -> None:
        self.store = Store()
        self.written: list[tuple[int, ...]] = []
        self.fails: ProposalError | None = None
        self._may_go_on = trio.Semaphore(0)
        for lease_id in lease_ids:
            self.store.run_lease_command(GrantLease(lease_id, 10 + lease_id), 1)

    def let(self, count: int) -> None:
        """Let so many entries be applied."""
        for _ in range(count):
            self._may_go_on.release()

    async def write(self, command: bytes) -> Applied:
        decoded = decode_command(command)
        assert isinstance(decoded, RenewLeases)
        self.written.append(decoded.ids)
        await self._may_go_on.acquire()
        if self.fails is not None:
            raise self.fails
        return Applied(1, 1, *self.store.apply([Committed(1, 1, command)]))


async def test_those_that_arrive_meanwhile_share_an_entry(autojump_clock: trio.testing.MockClock) -> None:
    """However many clients ask, one entry is under way; a lease that is asked for twice is in it once."""
    log = Log(1, 2, 3)
    keep_alives = KeepAlives(log)  # type: ignore[arg-type]
    told: list[tuple[int, int]] = []

    async def renew(lease_id: int) -> None:
        told.append((lease_id, await keep_alives.join(lease_id).ttl_s(lease_id)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alives.run)
        async with trio.open_nursery() as clients:
            clients.start_soon(renew, 1)
            await trio.testing.wait_all_tasks_blocked()
            for lease_id in (1, 2, 9, 3, 2):
                clients.start_soon(renew, lease_id)
                await trio.testing.wait_all_tasks_blocked()
            assert log.written == [(1,)]
            log.let(2)
        nursery.cancel_scope.cancel()
    assert log.written == [(1,), (1, 2, 9, 3)]
    assert sorted(told) == [(1, 11), (1, 11), (2, 12), (2, 12), (3, 13), (9, 0)]


async def test_an_entry_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """It is applied in one piece, so the rest goes into the next."""
    log = Log()
    keep_alives = KeepAlives(log)  # type: ignore[arg-type]
    waiting = [(i, keep_alives.join(i)) for i in range(1, MAX_RENEWED + 3)]
    log.let(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alives.run)
        for lease_id, keep_alive in waiting:
            assert await keep_alive.ttl_s(lease_id) == 0
        nursery.cancel_scope.cancel()
    assert [len(ids) for ids in log.written] == [MAX_RENEWED, 2]


async def test_all_of_an_entry_are_told_when_it_fails(autojump_clock: trio.testing.MockClock) -> None:
    """And the next one is tried."""
    log = Log(1, 2)
    keep_alives = KeepAlives(log)  # type: ignore[arg-type]
    first = keep_alives.join(1)
    assert keep_alives.join(2) is first
    log.fails = OutcomeUnknown("leadership was lost")
    log.let(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alives.run)
        for lease_id in (1, 2):
            with pytest.raises(OutcomeUnknown, match="leadership was lost"):
                await first.ttl_s(lease_id)
        log.fails = None
        log.let(1)
        assert await keep_alives.join(2).ttl_s(2) == 12
        nursery.cancel_scope.cancel()


async def test_a_stop_ends_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    """What is under way, what waits behind it, and what comes later."""
    log = Log(1, 2)
    keep_alives = KeepAlives(log)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alives.run)
        under_way = keep_alives.join(1)
        await trio.testing.wait_all_tasks_blocked()
        behind = keep_alives.join(2)
        nursery.cancel_scope.cancel()
    for lease_id, keep_alive in ((1, under_way), (2, behind)):
        with pytest.raises(NoLeader, match="stopping"):
            await keep_alive.ttl_s(lease_id)
    with pytest.raises(NoLeader, match="stopping"):
        keep_alives.join(1)
