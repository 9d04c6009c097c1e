"""Wakeups, bounded queues, and blocks that an event ends.

No wakeup and no item is lost, and a full queue holds back every producer.
"""

import pytest
import trio
import trio.testing

from raftkv_trio.sync import ByteBoundedQueue, TimedEvent, Wakeup, cancelled_when, wait_any


async def test_a_bell_rung_before_the_wait_is_heard_once(autojump_clock: trio.abc.Clock) -> None:
    """Any number of calls of `set` before a wait end one wait, not two."""
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    await wakeup.wait()
    with trio.move_on_after(1) as second:
        await wakeup.wait()
    assert second.cancelled_caught


async def test_a_timed_event_ends_each_wait_once() -> None:
    """A wait that is overdue, cancelled or set ends as such, and the event forgets it."""
    event = TimedEvent()
    ended: list[bool] = []

    async def wait(deadline: float) -> None:
        ended.append(await event.wait(deadline))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(wait, 1.0)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        nursery.start_soon(wait, 1.0)
        nursery.start_soon(wait, 2.0)
        await trio.testing.wait_all_tasks_blocked()
        event.end_overdue(1.0)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [False]
        event.set()
        event.end_overdue(3.0)
    assert ended == [False, True]
    assert event.is_set()
    assert await event.wait(0.0)


async def test_a_full_lane_wakes_all_its_producers_when_it_is_drained() -> None:
    """Two producers that wait for room both get in, one after the other's item is drained."""
    queue: ByteBoundedQueue[str] = ByteBoundedQueue(Wakeup(), 10)
    assert queue.try_put("first", 10)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.put, "second", 10)
            nursery.start_soon(queue.put, "third", 10)
            got: list[str] = []
            while len(got) < 3:
                await trio.testing.wait_all_tasks_blocked()
                drained = queue.drain()
                assert len(drained) == 1, "the bound holds"
                got.extend(drained)
    assert got[0] == "first"
    assert sorted(got[1:]) == ["second", "third"]


async def test_an_item_over_the_whole_bound_gets_in_alone() -> None:
    """A queue never blocks for ever: an oversized item is taken once the queue is empty, and only then."""
    queue: ByteBoundedQueue[str] = ByteBoundedQueue(Wakeup(), 10)
    assert queue.try_put("small", 1)
    assert not queue.try_put("huge", 100)
    queue.drain()
    assert queue.try_put("huge", 100)


async def test_a_cancelled_put_queues_nothing() -> None:
    """A producer that gave up while it waited has left nothing behind."""
    queue: ByteBoundedQueue[str] = ByteBoundedQueue(Wakeup(), 10)
    queue.try_put("first", 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, "second", 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert list(queue.drain()) == ["first"]
    assert not queue.drain()


@pytest.mark.parametrize("items", [0, 1, 3])
async def test_a_put_rings_the_wakeup(items: int, autojump_clock: trio.abc.Clock) -> None:
    """The task behind the wakeup is woken if and only if something was queued."""
    wakeup = Wakeup()
    queue: ByteBoundedQueue[int] = ByteBoundedQueue(wakeup, 10)
    for item in range(items):
        await queue.put(item, 1)
    with trio.move_on_after(1) as heard:
        await wakeup.wait()
    assert heard.cancelled_caught == (items == 0)


async def test_a_block_is_cancelled_when_what_it_watches_happens() -> None:
    """The scope that the block was given says so, and the caller goes on behind the block."""
    event = trio.Event()
    with trio.fail_after(10):
        async with cancelled_when(event.wait) as block:
            event.set()
            await trio.sleep_forever()
    assert block.cancelled_caught


async def test_a_block_that_ends_by_itself_is_not_cancelled() -> None:
    """What it watches is given up, and nothing is left waiting."""
    with trio.fail_after(10):
        async with cancelled_when(trio.sleep_forever) as block:
            await trio.lowlevel.checkpoint()
    assert not block.cancelled_caught


async def test_an_error_of_what_is_watched_ends_the_block() -> None:
    """It is not lost: it leaves as any error of a nursery's task does."""

    async def fail() -> None:
        raise OSError("closed")

    with trio.fail_after(10), pytest.raises(ExceptionGroup) as raised:
        async with cancelled_when(fail):
            await trio.sleep_forever()
    assert raised.group_contains(OSError, match="closed", depth=1)


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_any_of_several_events_is_enough(which: int, autojump_clock: trio.abc.Clock) -> None:
    """The wait ends with the first of them, whichever it is, and not before."""
    events = [trio.Event() for _ in range(3)]
    with trio.move_on_after(1) as early:
        await wait_any(*events)
    assert early.cancelled_caught
    events[which].set()
    with trio.fail_after(1):
        await wait_any(*events)
