"""Tasks at level 1: the steps of the real task, in the same order, each when its moment has come."""

from collections.abc import Callable

import pytest
import trio

from raftkv_trio.node.steps import (
    Call,
    Checkpoint,
    Steps,
    checkpoint,
    in_event_loop,
    in_worker,
    receive,
    run_steps,
    wait,
)
from raftkv_trio.sync import Wakeup
from raftkv_trio.testing.simulator.simulated_member import MemberClock
from raftkv_trio.testing.simulator.stepped_task import SteppedTask
from raftkv_trio.testing.world.timeline import Timeline
from raftkv_trio.world import ThreadWorker, TrioClock


class Stepper:
    """A timeline with one task on it, which goes on after each event as a member's tasks do."""

    def __init__(self, steps: Steps[None], step_s: Callable[[Call | Checkpoint], float]) -> None:
        self.timeline = Timeline()
        self.clock = MemberClock(self.timeline)
        self.task = SteppedTask(steps, clock=self.clock, plan=self._plan, step_s=step_s)
        self.task.go_on()

    def _plan(self, delay_s: float, action: Callable[..., object], *arguments: object) -> None:
        def act() -> None:
            action(*arguments)
            self.task.go_on()

        self.timeline.after(delay_s, act)


class EveryKind:
    """A task with every kind of step, a call that fails included; it notes what it does."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.wakeup = Wakeup()
        self.has_finished = trio.Event()
        self.send, self.channel = trio.open_memory_channel[str](1)

    def steps(self) -> Steps[None]:
        yield from wait(self.wakeup)
        self.done.append((yield from receive(self.channel)))
        self.done.append((yield from in_worker(int, "1")))
        yield from checkpoint()
        try:
            yield from in_worker(int, "no number")
        except ValueError as error:
            self.done.append(str(error))
        self.done.append((yield from in_event_loop(int, "2")))
        self.has_finished.set()
        yield from wait(self.wakeup)


async def test_a_task_does_what_it_does_in_trio() -> None:
    """The same generator, with the same results and errors, in the same order."""
    real, stepped = EveryKind(), EveryKind()
    for task in (real, stepped):
        task.wakeup.set()
        task.send.send_nowait("item")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_steps, real.steps(), ThreadWorker(), TrioClock())
        with trio.fail_after(60):
            await real.has_finished.wait()
        nursery.cancel_scope.cancel()
    stepper = Stepper(stepped.steps(), lambda step: 0.5)
    stepper.timeline.run_until(10)
    assert stepped.done == real.done
    assert real.done[:2] == ["item", 1]


def test_each_call_and_checkpoint_takes_its_time() -> None:
    """Between any two of them there is a moment at which the node can be halted, and nothing else goes on."""
    every = EveryKind()
    every.wakeup.set()
    every.send.send_nowait("item")
    stepper = Stepper(every.steps(), lambda step: 1.0)
    progress: list[int] = []
    for at in (0.5, 1.5, 2.5, 3.5, 4.5):
        stepper.timeline.run_until(at)
        progress.append(len(every.done))
    assert progress == [1, 2, 2, 3, 4]
    assert stepper.task.call is None


def test_a_task_that_nobody_wakes_stays_where_it_is() -> None:
    """Time alone moves no task, so a wakeup that is forgotten shows."""
    every = EveryKind()
    every.send.send_nowait("item")
    stepper = Stepper(every.steps(), lambda step: 1.0)
    stepper.timeline.run_until(1000)
    assert every.done == []


def test_a_deadline_is_one_of_the_nodes_own_clock() -> None:
    """If the clock goes slower while the task waits, the wait ends later in virtual time."""
    went_on_at: list[float] = []

    def steps() -> Steps[None]:
        yield from wait(Wakeup(), 10.0)
        went_on_at.append(stepper.timeline.now)
        yield from wait(Wakeup())

    stepper = Stepper(steps(), lambda step: 0.0)
    stepper.timeline.run_until(4)
    stepper.clock.set_rate(0.5)
    stepper.timeline.run_until(15.9)
    assert went_on_at == []
    stepper.timeline.run_until(16.1)
    assert went_on_at == [pytest.approx(16)]


def test_closing_a_task_runs_its_cleanup() -> None:
    """As a cancellation does: at the step where the task stands."""
    closed: list[bool] = []

    def steps() -> Steps[None]:
        try:
            yield from in_worker(int, "1")
        finally:
            closed.append(True)

    stepper = Stepper(steps(), lambda step: 1.0)
    stepper.task.close()
    assert closed == [True]
