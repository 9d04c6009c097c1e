"""Where disk work runs: in one thread, in order, never given up half-way."""

import gc
import threading

import pytest
import trio
import trio.testing

from raftkv_trio.world import ThreadWorker


async def test_calls_run_in_one_other_thread_in_their_order() -> None:
    """Also if several tasks call: the second call begins when the first has ended."""
    worker, made = ThreadWorker(), list[tuple[int, threading.Thread]]()
    gate = threading.Event()

    def call(number: int) -> None:
        if number == 0:
            gate.wait()
        made.append((number, threading.current_thread()))

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(worker.run, call, number)
            await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert [number for number, _ in made] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in made} | {threading.current_thread()}) == 2


async def test_a_result_and_an_error_come_back() -> None:
    """An error ends neither the thread nor the calls after it."""
    worker = ThreadWorker()
    with pytest.raises(ValueError, match="no number"):
        await worker.run(int, "no number")
    assert await worker.run(int, "7") == 7


async def test_a_cancelled_call_runs_to_its_end() -> None:
    """The caller waits for it even so, and is cancelled at its next checkpoint, with the result in hand."""
    worker, gate = ThreadWorker(), threading.Event()
    results: list[bool] = []

    async def run() -> None:
        results.append(await worker.run(gate.wait))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not results
            gate.set()
    assert results == [True]


async def test_a_cancelled_caller_begins_no_call() -> None:
    """Whoever is cancelled before the call begins has not made it, also if another call runs meanwhile."""
    worker, made, gate = ThreadWorker(), list[int](), threading.Event()
    with trio.CancelScope() as scope:
        scope.cancel()
        await worker.run(made.append, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, gate.wait, None)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await worker.run(made.append, 2)
        assert scope.cancelled_caught
        gate.set()
    await worker.run(made.append, 3)
    assert made == [3]


async def test_without_a_thread_every_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may refuse one, and grant one later; no call waits for a thread that is not there."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = ThreadWorker()
    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="new thread"):
                await worker.run(int, "1")
    assert await worker.run(int, "1") == 1


async def test_the_thread_ends_with_the_worker() -> None:
    """Many nodes one after the other in one process leave no threads behind."""
    worker = ThreadWorker()
    thread = await worker.run(threading.current_thread)
    del worker
    gc.collect()
    await trio.to_thread.run_sync(thread.join, 10)
    assert not thread.is_alive()
