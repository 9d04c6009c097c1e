"""A leader and a voter that lags behind it, on real cores."""

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.catching_up import ENTRY_OVERHEAD_BYTES, CatchingUp
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.types import Message, MessageType
from tests.node.clocks import StillClock
from tests.raft.cores import Core, Network, three

DATA = bytes(900)
ENTRY_BYTES = len(DATA) + ENTRY_OVERHEAD_BYTES
TICK_S = 0.1


class Lagging:
    """A leader (1), with node 3 cut off from the log, though it responds.

    Attributes:
        match: what node 3 has acknowledged.
        wanted: how often a snapshot was requested.
    """

    def __init__(self, *, max_bytes: int, net: Network | None = None) -> None:
        self.net = net or three()
        self.leader: Core = self.net.elect(1)
        self.match = self.leader.raw.last_index
        self.wanted = 0
        self.clock = StillClock()
        self.active = ActiveMembers(self.leader.raw, self.clock, 1.0)
        self.catching_up = CatchingUp(
            self.leader.raw,
            self.leader.storage,
            self.active,
            self.clock,
            self._want,
            max_bytes=max_bytes,
            tick_interval_s=TICK_S,
        )
        self.net.lost = lambda message: message.to == 3 and message.type is MessageType.APP
        self.active.heard(3)

    def write(self, count: int) -> None:
        self.net.propose(1, *[DATA] * count)

    def acknowledge(self, count: int = 1) -> None:
        """Node 3 gets some entries, and acknowledges them."""
        log = self.leader.raw.raft.log
        append = Message(type=MessageType.APP, to=3, from_=1, term=self.leader.raw.term)
        append.index, append.log_term = self.match, log.term(self.match)
        append.entries = tuple(log.slice(self.match + 1, self.match + 1 + count, None))
        self.match += count
        self.net[3].raw.step(append)
        self.net.settle()
        self.active.heard(3)
        self.tick()

    def tick(self) -> None:
        """As the driver does."""
        self.active.tick()
        self.catching_up.tick()

    def compact(self, keep: int) -> None:
        """As the driver does when a snapshot of all that is applied is recorded."""
        storage = self.leader.storage
        snapshot = storage.create_snapshot(self.leader.raw.applied, self.leader.configuration, b"")
        keep_from = self.catching_up.keep_from(snapshot.index + 1 - keep)
        if keep_from > storage.first_index():
            storage.compact(keep_from - 1)

    def _want(self) -> None:
        self.wanted += 1

    def lag_behind_a_snapshot(self) -> int:
        """Node 3 is silent while the log is compacted, and is sent a snapshot. Returns its index."""
        self.clock.now_s += 10
        self.write(20)
        self.compact(2)
        index = self.leader.storage.newest_snapshot.index
        assert self.leader.storage.first_index() == index - 1
        self.active.heard(3)
        self.net.lost = lambda message: (
            message.type is MessageType.SNAP or (message.to == 3 and message.type is MessageType.APP)
        )
        self.leader.raw.report_unreachable(3)
        self.net.tick(2)
        assert self.state is ProgressState.SNAPSHOT
        return index

    @property
    def state(self) -> ProgressState:
        return self.leader.raw.status().progress[3].state
