"""A task of a node at level 1: the steps that the real task takes, as events on virtual time."""

from collections.abc import Callable
from typing import Any

import trio

from raftkv_trio.node.steps import Call, Receive, Step, Steps, Wait


class SteppedTask:
    """Carries out a task's steps as `run_steps` does, with virtual time in place of real time.

    Each call is an event. All other steps end at once, as soon as what they wait for has come.

    Args:
        steps: the task.
        plan: `plan(seconds, action)` takes an action of this node later, unless the node has halted by then.
        call_s: how long a call takes.
    """

    def __init__(
        self,
        steps: Steps[None],
        *,
        plan: Callable[[float, Callable[[], None]], None],
        call_s: Callable[[Call], float],
    ) -> None:
        self._steps = steps
        self._plan = plan
        self._call_s = call_s
        self._step: Step = next(steps)

    @property
    def call(self) -> Callable[[], Any] | None:
        """The call under way; None while the task waits."""
        return self._step.fn if isinstance(self._step, Call) else None

    def go_on(self) -> None:
        """Go on if what the task waits for has come. Raises what the task raises."""
        while not isinstance(self._step, Call):
            result = None
            if isinstance(self._step, Wait):
                if not self._step.wakeup.is_set:
                    return
                self._step.wakeup.clear()
            elif isinstance(self._step, Receive):
                try:
                    result = self._step.channel.receive_nowait()
                except trio.WouldBlock:
                    return
            self._begin(self._steps.send(result))

    def _begin(self, step: Step) -> None:
        self._step = step
        if isinstance(step, Call):
            self._plan(self._call_s(step), self._end_call)

    def _end_call(self) -> None:
        assert isinstance(self._step, Call)
        try:
            result = self._step.fn()
        except Exception as error:
            self._begin(self._steps.throw(error))
        else:
            self._begin(self._steps.send(result))
        self.go_on()
