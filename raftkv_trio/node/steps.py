"""Steps: what a task of the node does next, as a value that something else carries out.

Log writer, applier and snapshotter are generators of steps. A generator decides the order of the steps; it
never waits itself. `run_steps` carries the steps out as a Trio task. Level 1 of the simulator carries out the
same steps as events on virtual time, and can halt or pause the node between any two of them.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import trio

from raftkv_trio.sync import Wakeup, cancelled_when
from raftkv_trio.world import Clock, Worker

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Wait(NamedTuple):
    """Wait until a wakeup is set, and clear it; or until a deadline.

    Attributes:
        deadline: by the node's clock; None: there is none.
    """

    wakeup: Wakeup
    deadline: float | None


class Receive(NamedTuple):
    """Wait for the next item of a channel: the step's result."""

    channel: trio.MemoryReceiveChannel[Any]


class Call(NamedTuple):
    """Call a function; what it returns is the step's result.

    Attributes:
        in_worker: the function blocks on the disk, so it runs in the worker thread.
    """

    fn: Callable[[], Any]
    in_worker: bool


class Checkpoint(NamedTuple):
    """Let other tasks run."""


Step = Wait | Receive | Call | Checkpoint
Steps = Generator[Step, Any, T]


def wait(wakeup: Wakeup, deadline: float | None = None) -> Steps[None]:
    """Wait until `wakeup` is set, and clear it; or until `deadline` by the node's clock."""
    yield Wait(wakeup, deadline)


def receive(channel: trio.MemoryReceiveChannel[T]) -> Steps[T]:
    """Wait for the next item of a channel. Raises trio.EndOfChannel."""
    item: T = yield Receive(channel)
    return item


def in_worker(fn: Callable[[*Ts], T], *args: *Ts) -> Steps[T]:
    """Call a function that blocks on the disk, and return or raise what it does."""
    result: T = yield Call(partial(fn, *args), True)
    return result


def in_event_loop(fn: Callable[[*Ts], T], *args: *Ts) -> Steps[T]:
    """Call a function that does not block: a step of its own, so that a simulated halt can come before it."""
    result: T = yield Call(partial(fn, *args), False)
    return result


def checkpoint() -> Steps[None]:
    """Let other tasks run, in the middle of long work."""
    yield Checkpoint()


async def run_steps(steps: Steps[None], worker: Worker, clock: Clock) -> None:
    """Carry out steps until the generator returns; raises what it raises.

    If a step fails, its error is raised inside the generator, where the step was asked for. Cancellation
    closes the generator between two steps; a call in the worker runs to its end first.
    """
    result: Any = None
    failure: Exception | None = None
    with closing(steps):
        while True:
            try:
                step = steps.send(result) if failure is None else steps.throw(failure)
            except StopIteration:
                return
            result = failure = None
            try:
                result = await _carry_out(step, worker, clock)
            except Exception as error:
                failure = error


async def _carry_out(step: Step, worker: Worker, clock: Clock) -> Any:
    # No `match`: each write passes here a dozen times, and patterns of classes take five times as long.
    if isinstance(step, Wait):
        if step.deadline is None:
            await step.wakeup.wait()
        else:
            async with cancelled_when(clock.sleep_until, step.deadline):
                await step.wakeup.wait()
        return None
    if isinstance(step, Call):
        return await worker.run(step.fn) if step.in_worker else step.fn()
    if isinstance(step, Receive):
        return await step.channel.receive()
    return await trio.lowlevel.checkpoint()
