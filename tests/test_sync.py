"""Bells and lanes: nothing rung or queued is lost, and a full lane holds every producer up."""

import pytest
import trio
import trio.testing

from raftkv_trio.sync import Bell, Lane


async def test_a_bell_rung_before_the_wait_is_heard_once(autojump_clock: trio.abc.Clock) -> None:
    """Any number of rings before a wait end one wait, not two."""
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    with trio.move_on_after(1) as second:
        await bell.wait()
    assert second.cancelled_caught


async def test_a_full_lane_wakes_all_its_producers_when_it_is_drained() -> None:
    """Two producers that wait for room both get in, one after the other's item is drained."""
    lane: Lane[str] = Lane(Bell(), 10)
    assert lane.try_put("first", 10)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.put, "second", 10)
            nursery.start_soon(lane.put, "third", 10)
            got: list[str] = []
            while len(got) < 3:
                await trio.testing.wait_all_tasks_blocked()
                drained = lane.drain()
                assert len(drained) == 1, "the bound holds"
                got.extend(drained)
    assert got[0] == "first"
    assert sorted(got[1:]) == ["second", "third"]


async def test_an_item_over_the_whole_bound_gets_in_alone() -> None:
    """A lane never blocks for ever: an oversized item is taken once the lane is empty, and only then."""
    lane: Lane[str] = Lane(Bell(), 10)
    assert lane.try_put("small", 1)
    assert not lane.try_put("huge", 100)
    lane.drain()
    assert lane.try_put("huge", 100)


async def test_a_cancelled_put_queues_nothing() -> None:
    """A producer that gave up while it waited has left nothing behind."""
    lane: Lane[str] = Lane(Bell(), 10)
    lane.try_put("first", 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane.put, "second", 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert list(lane.drain()) == ["first"]
    assert not lane.drain()


@pytest.mark.parametrize("items", [0, 1, 3])
async def test_a_put_rings_the_bell(items: int, autojump_clock: trio.abc.Clock) -> None:
    """The task behind the bell is woken if and only if something was queued."""
    bell = Bell()
    lane: Lane[int] = Lane(bell, 10)
    for item in range(items):
        await lane.put(item, 1)
    with trio.move_on_after(1) as heard:
        await bell.wait()
    assert heard.cancelled_caught == (items == 0)
