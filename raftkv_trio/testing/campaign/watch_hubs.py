"""The watches of simulated members: the hub of a real server on each member's store, worked as events.

A hub has its turns on the timeline, sometimes late, so that compactions and restores come between them. A
paused process has none.
"""

from random import Random

from raftkv_trio.access.watching import WatchHub, WatchStream
from raftkv_trio.config import WatchConfig
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node
from raftkv_trio.testing.campaign.stepped_coroutine import Until
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

#: After this a paused process, or one that restores a snapshot, is looked at again.
LOOK_AGAIN_S = 0.05
#: A queue in which a few events have room, and one in which all have.
SMALL_BYTES, LARGE_BYTES = 600, 1024 * 1024
#: How far the clock of a hub goes each time that the hub looks at it, so that a turn is a few steps.
_TICK_S = 0.0007


class SimulatedStream(WatchStream):
    """A stream on which a stepped coroutine may wait."""

    async def wait(self) -> None:
        await Until(lambda: self._filled.is_set)
        self._filled.clear()


class SimulatedHub(WatchHub):
    """The hub of one process.

    Attributes:
        restores: how often the store's state was replaced.
    """

    stream_type = SimulatedStream

    def __init__(
        self, member: SimulatedMember, store: Store, node: Node, simulation: Simulation, hubs: "Hubs"
    ) -> None:
        self._now_s = 0.0
        super().__init__(store, node, hubs.config, self._tick)
        self.restores = 0
        self._member = member
        self._node = node
        self._simulation = simulation
        self._hubs = hubs
        self._is_planned = False
        member.add_poll(self._poll)

    @property
    def is_over(self) -> bool:
        """Whether its process has ended."""
        return self._member.node is not self._node

    @property
    def can_be_asked(self) -> bool:
        """Whether its process runs, and reads its store."""
        return not self.is_over and self._member.state is ProcessState.UP and not self._node.is_restoring

    @property
    def store_revision(self) -> int:
        """The revision of its store."""
        return self._store.revision

    @property
    def compacted_revision(self) -> int:
        """That of its store."""
        return self._store.compacted_revision

    def look(self) -> None:
        """Plan a turn if there is work."""
        if not self._is_planned and not self.is_over and self.has_work:
            self._plan(self._hubs.draw_turn_delay_s())

    def restored(self) -> None:
        self.restores += 1
        super().restored()

    def _plan(self, delay_s: float) -> None:
        self._is_planned = True
        self._simulation.timeline.after(delay_s, self._take_turn)

    def _take_turn(self) -> None:
        self._is_planned = False
        if self.is_over:
            return
        if not self.can_be_asked:
            self._plan(LOOK_AGAIN_S)
            return
        self.work()
        self.look()
        self._member.run_polls()

    def _poll(self) -> bool:
        self.look()
        return self.is_over

    def _tick(self) -> float:
        self._now_s += _TICK_S
        return self._now_s


class Hubs:
    """The hubs of all members, for one seed.

    Attributes:
        config: of all of them.
        are_roomy: whether their queues are never full.
    """

    def __init__(self, schedule: Schedule, simulation: Simulation) -> None:
        self._random = Random(f"hubs of {schedule.seed}")
        self.are_roomy = self._random.random() < 0.5
        self.config = WatchConfig(max_stream_bytes=LARGE_BYTES if self.are_roomy else SMALL_BYTES)
        self._longest_delay_s = self._random.choice((0.001, 0.01, 0.1))
        self._simulation = simulation
        self._hubs: dict[int, SimulatedHub] = {}

    def of(self, member: SimulatedMember) -> SimulatedHub | None:
        """The hub of a member's process; None if it has none, or does not read its store at present."""
        if member.node is None:
            return None
        hub = self._hubs.get(member.id)
        if hub is None or hub.is_over:
            assert isinstance(member.machine, Store)
            hub = SimulatedHub(member, member.machine, member.node, self._simulation, self)
            self._hubs[member.id] = hub
        return hub if hub.can_be_asked else None

    def draw_turn_delay_s(self) -> float:
        """How long a hub waits for its next turn."""
        return self._random.uniform(0, self._longest_delay_s)
