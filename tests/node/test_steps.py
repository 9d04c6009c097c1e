"""Steps of a task: each result comes back to the step that asked for it, and so does each error."""

import threading

import pytest
import trio
import trio.testing

from raftkv_trio.node.steps import (
    Steps,
    checkpoint,
    in_event_loop,
    in_worker,
    receive,
    run_steps,
    wait,
)
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import ThreadWorker, TrioClock


async def run(steps: Steps[None]) -> None:
    await run_steps(steps, ThreadWorker(), TrioClock())


async def test_a_call_is_made_where_it_belongs() -> None:
    """A call that blocks runs in a thread, another one in the event loop; the generator gets the results."""
    threads: list[threading.Thread] = []

    def steps() -> Steps[None]:
        threads.append((yield from in_worker(threading.current_thread)))
        threads.append((yield from in_event_loop(threading.current_thread)))

    await run(steps())
    worker, event_loop = threads
    assert event_loop is threading.current_thread()
    assert worker is not event_loop


async def test_an_error_comes_to_the_step_that_failed() -> None:
    """The generator can handle it and go on; an error that it does not handle ends the task."""
    handled: list[int] = []

    def steps() -> Steps[None]:
        try:
            yield from in_worker(int, "no number")
        except ValueError:
            handled.append((yield from in_worker(int, "1")))
        yield from in_event_loop(int, "no number either")

    with pytest.raises(ValueError, match="no number either"):
        await run(steps())
    assert handled == [1]


async def test_items_of_a_channel_come_in_order_until_it_ends() -> None:
    """The end of the channel is an error of the step, as it is for `receive` of the channel."""
    send, channel = trio.open_memory_channel[int](0)
    received: list[int] = []

    def steps() -> Steps[None]:
        while True:
            try:
                received.append((yield from receive(channel)))
            except trio.EndOfChannel:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, steps())
        async with send:
            for number in range(3):
                await send.send(number)
    assert received == [0, 1, 2]


async def test_a_wait_ends_when_its_wakeup_is_set_or_at_its_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whichever comes first. A wait clears its wakeup, so that the next one does not end at once."""
    wakeup = Wakeup()
    went_on_at: list[float] = []

    def steps() -> Steps[None]:
        while True:
            yield from wait(wakeup, trio.current_time() + 5)
            assert not wakeup.is_set
            went_on_at.append(trio.current_time())

    begun_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, steps())
        await trio.sleep(2)
        wakeup.set()
        await trio.sleep(9)
        nursery.cancel_scope.cancel()
    assert [at - begun_at for at in went_on_at] == [2, 7]


async def test_cancellation_closes_the_generator() -> None:
    """What the generator holds is released at the step where it stands."""
    closed: list[bool] = []

    def steps() -> Steps[None]:
        try:
            while True:
                yield from checkpoint()
        finally:
            closed.append(True)

    with trio.move_on_after(0):
        await run(steps())
    assert closed == [True]


async def test_a_call_in_the_worker_is_not_abandoned() -> None:
    """A task that is cancelled meanwhile ends after the call, and before the next step."""
    may_end, has_begun, done = threading.Event(), trio.Event(), []
    token = trio.lowlevel.current_trio_token()

    def work() -> None:
        token.run_sync_soon(has_begun.set)
        assert may_end.wait(60)
        done.append("call")

    def steps() -> Steps[None]:
        yield from in_worker(work)
        yield from checkpoint()
        done.append("more")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, steps())
        await has_begun.wait()
        nursery.cancel_scope.cancel()
        may_end.set()
    assert done == ["call"]
