"""How often something may happen."""

import pytest
import trio
import trio.testing

from raftkv_trio.pace import Pace, Paces
from raftkv_trio.world import TrioClock


async def test_turns_come_at_the_rate_and_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Some at once, then one after the other; whoever is cancelled takes none."""
    pace, came = Pace(TrioClock(), rate=10, burst=5), []

    async def come(name: int, patience_s: float) -> None:
        with trio.move_on_after(patience_s):
            await pace.wait_turn()
            came.append((name, round(trio.current_time() - began_at, 1)))

    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in range(10):
            nursery.start_soon(come, name, 0.05 if name in (7, 8) else 100.0)
            await trio.testing.wait_all_tasks_blocked()
    assert [name for name, _ in came] == [0, 1, 2, 3, 4, 5, 6, 9]
    assert [at for _, at in came] == pytest.approx([0.0] * 6 + [0.1, 0.2], abs=0.05)


async def test_a_turn_is_taken_at_once_if_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    """And not otherwise."""
    pace = Pace(TrioClock(), rate=10, burst=2)
    assert [pace.take_turn() for _ in range(4)] == [True, True, True, False]
    await trio.sleep(0.11)
    assert pace.take_turn()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pace.wait_turn)
        await trio.testing.wait_all_tasks_blocked()
        assert not pace.take_turn()


async def test_what_was_not_asked_for_is_paid_for_later(autojump_clock: trio.testing.MockClock) -> None:
    """Also by those who wait already."""
    pace = Pace(TrioClock(), rate=10, burst=5)
    began_at = trio.current_time()
    pace.charge(5)
    assert not pace.is_spent
    pace.charge(10)
    assert pace.is_spent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pace.wait_turn)
        await trio.sleep(0.5)
        pace.charge(20)
    assert trio.current_time() - began_at == pytest.approx(3.0)
    assert pace.is_spent


async def test_who_has_given_up_keeps_nobody_waiting(autojump_clock: trio.testing.MockClock) -> None:
    """Of many who wait, those are passed over for whom it is over, and take no turn."""
    pace, came = Pace(TrioClock(), rate=10, burst=0), []
    began_at = trio.current_time()

    async def come(number: int) -> None:
        has_turn = await pace.wait_turn_unless(lambda: number % 100 > 0)
        came.append((has_turn, round(trio.current_time() - began_at, 3)))

    pace.charge(10)
    async with trio.open_nursery() as nursery:
        for number in range(301):
            nursery.start_soon(come, number)
            await trio.lowlevel.checkpoint()
    assert [at for has_turn, at in came if has_turn] == pytest.approx([1.0, 1.1, 1.2, 1.3])
    assert max(at for has_turn, at in came if not has_turn) == pytest.approx(1.2)


async def test_who_is_cancelled_in_the_second_queue_keeps_nobody_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first one, one in the middle, and one that was passed over at the same moment."""
    pace, came = Pace(TrioClock(), rate=10, burst=0), list[int]()
    has_given_up = set[int]()

    async def come(number: int, scope: trio.CancelScope) -> None:
        with scope:
            if await pace.wait_turn_unless(lambda: number in has_given_up):
                came.append(number)

    pace.charge(5)
    scopes = [trio.CancelScope() for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(come, number, scope)
            await trio.testing.wait_all_tasks_blocked()
        has_given_up.add(1)
        scopes[3].cancel()
        scopes[0].cancel()
        await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
    assert came == [2, 4, 5]
    await pace.wait_turn()


async def test_those_who_may_give_up_have_every_other_turn(autojump_clock: trio.testing.MockClock) -> None:
    """However many of the others have come before."""
    pace, came = Pace(TrioClock(), rate=10, burst=0), list[str]()

    async def wait() -> None:
        await pace.wait_turn()
        came.append("waits")

    async def may_give_up() -> None:
        assert await pace.wait_turn_unless(lambda: False)
        came.append("may give up")

    pace.charge(1)
    async with trio.open_nursery() as nursery:
        for task in [wait] * 20 + [may_give_up] * 3:
            nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
    assert came[:7] == ["waits", "may give up"] * 3 + ["waits"]


async def test_debts_have_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    """Who comes next does not wait longer; turns that were asked for do count."""
    pace = Pace(TrioClock(), rate=10, burst=5, max_debt=20)
    began_at = trio.current_time()
    for _ in range(10):
        pace.charge(100)
    await pace.wait_turn()
    assert trio.current_time() - began_at == pytest.approx(2.0)
    await pace.wait_turn()
    assert trio.current_time() - began_at == pytest.approx(2.1)


async def test_who_comes_no_more_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is kept for each of many hosts; a host that is known keeps its pace."""
    paces = Paces(TrioClock(), rate=10, burst=2)
    for number in range(10_000):
        assert paces.of(str(number)).take_turn()
        while paces.of("often").take_turn():
            pass
        await trio.sleep(0.01)
    assert len(paces) < 1000
    await trio.sleep(10)
    assert [paces.of("often").take_turn() for _ in range(4)] == [True, True, True, False]
