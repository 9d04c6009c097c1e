"""A coroutine of a server, as events: it waits for conditions (`Until`), and for nothing of Trio."""

from collections.abc import Callable, Coroutine, Generator
from random import Random
from typing import Any

from raftkv_trio.errors import NoLeader, ProposalError
from raftkv_trio.node.node import Node
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.world.timeline import Timeline

#: A step comes so long after what it waits for, at most.
MAX_STEP_S = 0.001
#: After this a paused process is looked at again.
LOOK_AGAIN_S = 0.05


class Until:
    """Waits until a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self.condition = condition

    def __await__(self) -> Generator["Until", None, None]:
        while not self.condition():
            yield self


class SteppedCoroutine:
    """A coroutine in a member's process; when the process ends, NoLeader is raised in it.

    Args:
        ended: called when it has ended; a ProposalError ends it too.
    """

    def __init__(
        self,
        coroutine: Coroutine[Until, None, None],
        member: SimulatedMember,
        timeline: Timeline,
        random: Random,
        ended: Callable[[], object],
    ) -> None:
        self._coroutine = coroutine
        self._member = member
        self._node: Node | None = member.node
        self._timeline = timeline
        self._random = random
        self._ended = ended
        self._until: Any = None
        self._is_over = self._is_planned = False
        self._step()
        member.add_poll(self._poll)

    def _poll(self) -> bool:
        # Never a step at once: the step may ask the node for something, and add polls.
        process_ended = self._member.node is not self._node
        if not self._is_over and not self._is_planned and (process_ended or self._until.condition()):
            self._is_planned = True
            self._timeline.after(self._random.uniform(0, MAX_STEP_S), self._take_step)
        return self._is_over or process_ended

    def _take_step(self) -> None:
        has_ended = self._member.node is not self._node
        if not has_ended and self._member.state is ProcessState.PAUSED:
            self._timeline.after(LOOK_AGAIN_S, self._take_step)
            return
        self._is_planned = False
        self._step(has_ended)
        if not has_ended:
            self._member.add_poll(lambda: True)  # the node may have something to do

    def _step(self, has_ended: bool = False) -> None:
        try:
            if has_ended:
                self._until = self._coroutine.throw(NoLeader("the process has ended"))
            else:
                self._until = self._coroutine.send(None)
        except (StopIteration, ProposalError):
            self._is_over = True
            self._ended()
