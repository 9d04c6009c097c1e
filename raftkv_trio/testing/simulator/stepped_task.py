"""A task of a node at level 1: the steps that the real task takes, as events on virtual time."""

from collections.abc import Callable
from typing import Any

import trio

from raftkv_trio.node.steps import Call, Checkpoint, Receive, Step, Steps, Wait
from raftkv_trio.testing.simulator.simulated_member import MemberClock


class SteppedTask:
    """Carries out a task's steps as `run_steps` does, with virtual time in place of real time.

    The end of a call or a checkpoint is an event. A wait ends as soon as what it waits for has come: its
    owner calls `go_on` after each event of the node.

    Args:
        steps: the task.
        clock: the node's.
        plan: `plan(seconds, action, *arguments)` takes an action of this node later, unless it halts first.
        step_s: how long a call or a checkpoint takes.
    """

    def __init__(
        self,
        steps: Steps[None],
        *,
        clock: MemberClock,
        plan: Callable[..., None],
        step_s: Callable[[Call | Checkpoint], float],
    ) -> None:
        self._steps = steps
        self._clock = clock
        self._plan = plan
        self._step_s = step_s
        self._begin(next(steps))

    @property
    def call(self) -> Callable[[], Any] | None:
        """The call under way; None if there is none."""
        return self._step.fn if isinstance(self._step, Call) else None

    def go_on(self) -> None:
        """Go on if what the task waits for has come. Raises what the task raises."""
        while True:
            result = None
            if isinstance(self._step, Wait) and self._step.wakeup.is_set:
                self._step.wakeup.clear()
            elif isinstance(self._step, Receive):
                try:
                    result = self._step.channel.receive_nowait()
                except trio.WouldBlock:
                    return
            else:
                return
            self._begin(self._steps.send(result))

    def close(self) -> None:
        """End the task where it stands, as a cancellation does."""
        self._steps.close()

    def _begin(self, step: Step) -> None:
        self._step = step
        if isinstance(step, Call | Checkpoint):
            self._plan(self._step_s(step), self._end_step)
        elif isinstance(step, Wait):
            self._look_at_deadline(step)

    def _end_step(self) -> None:
        try:
            result = self._step.fn() if isinstance(self._step, Call) else None
        except Exception as error:
            self._begin(self._steps.throw(error))
        else:
            self._begin(self._steps.send(result))

    def _look_at_deadline(self, step: Wait) -> None:
        if step is not self._step or step.deadline is None:
            return  # the wait is over, or has no deadline
        if wait_s := self._clock.virtual_s_until(step.deadline):
            # The clock's rate may change meanwhile, so the clock is read again then.
            self._plan(wait_s, self._look_at_deadline, step)
        else:
            step.wakeup.set()
