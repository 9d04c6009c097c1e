"""One node of the simulator, at either level: what outlives its halts, and what is seen of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.node.applier import Restore
from raftkv_trio.node.log_writer import Write
from raftkv_trio.node.node import Node
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.raft.confchange import describe_members
from raftkv_trio.raft.types import StateRole
from raftkv_trio.state_machine import Committed, StateMachine
from raftkv_trio.storage import BOOTSTRAP_INDEX
from raftkv_trio.testing.invariants.invariants import Invariants
from raftkv_trio.testing.invariants.violation import DURABILITY, Violation
from raftkv_trio.testing.schedules.schedule import DISK_CALL_S, Limits, Occasion
from raftkv_trio.testing.simulator.watched_machine import state_hash
from raftkv_trio.testing.world.message_network import MessageNetwork
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.testing.world.timeline import Timeline, Trace
from raftkv_trio.world import TrioClock

DATA_DIR = Path("/srv/raftkv-trio")
MIN_WAIT_S = 1e-9

#: A client's look at what it waits for: True once it need not look again.
Poll = Callable[[], bool]


class ProcessState(Enum):
    """What a node is doing."""

    DOWN = "down"
    UP = "up"
    PAUSED = "paused"
    REFUSED = "refused"  # its own directory, because it does not verify
    JOINING = "waiting to be a member"
    REMOVED = "removed"


class SimulatedMember(ABC):
    """One node and its machine room: disk and clock outlive its halts. How it runs, the level says.

    Attributes:
        state: see `ProcessState`.
        node, parts: the node and what it is made of; None while it is down.
        turn_delay_s: longest time from a ring of the driver's wakeup to its turn.
        disk_call_s: shortest and longest time of a disk call.
        disk_is_slow_s: what a disk call may take on top.
        is_rotten: whether bits of its disk were flipped, so that it may refuse its directory.
        restarts: how often it was started again.

    Args:
        went_down: told when it has halted or ended, or could not start.
        happened: told when it has won an election, installed a snapshot, or applied a change of members.
        joins: whether it is none of the first members.
    """

    def __init__(
        self,
        node_id: int,
        members: Mapping[int, PeerAddress],
        make_machine: Callable[[], StateMachine],
        *,
        limits: Limits,
        turn_delay_s: float,
        timeline: Timeline,
        trace: Trace,
        random: Random,
        network: MessageNetwork,
        invariants: Invariants,
        went_down: Callable[["SimulatedMember"], None],
        happened: Callable[["SimulatedMember", Occasion], None],
        joins: bool = False,
    ) -> None:
        self.id = node_id
        self.config = NodeConfig(
            node_id=node_id,
            members=members,
            data_dir=DATA_DIR,
            join=joins,
            **asdict(limits),
        )
        self.disk = SimulatedDisk(Random(random.getrandbits(64)))
        self.clock = MemberClock(timeline)
        self.state = ProcessState.DOWN
        self.node: Node | None = None
        self.parts: NodeParts | None = None
        self.machine: StateMachine | None = None
        self.turn_delay_s = turn_delay_s
        self.disk_call_s = DISK_CALL_S
        self.restarts = -1
        self.disk_is_slow_s = 0.0
        self.is_rotten = False
        self._make_machine = make_machine
        self._timeline = timeline
        self._trace = trace
        self._name = f"node {node_id}"
        self._random = random
        self._network = network
        self._invariants = invariants
        self._went_down = went_down
        self._happened = happened
        self._life = 0
        self._held: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._polls: list[Poll] = []
        self._seen: object = None
        self._led: int | None = None  # the last term that it led
        self._envelope: Envelope | None = None  # as it was seen last
        self._introduced: set[int] = set()  # peers that this node had not heard of when they came

    # ------------------------------------------------------------ life

    @abstractmethod
    def start(self) -> None:
        """Open the directory and run; on failure it stays down, or refuses for good what does not verify."""

    @abstractmethod
    def halt(self, *, power: bool) -> None:
        """End at once, in the middle of the disk call under way if there is one."""

    @abstractmethod
    def stop(self) -> None:
        """A clean stop, without the time to hand over."""

    def pause(self) -> None:
        """Nothing of the process moves until `resume` (SIGSTOP)."""
        if self.state is ProcessState.UP:
            self._note("is paused")
            self.state = ProcessState.PAUSED

    def resume(self) -> None:
        if self.state is ProcessState.PAUSED:
            self._note("resumes")
            self.state = ProcessState.UP
            held, self._held = self._held, []
            for action, arguments in held:
                self._timeline.after(0, self._act, self._life, action, arguments)

    def transfer_leadership(self) -> None:
        """As an operator asks for it."""
        self._soon(0, self._hand_over)

    def dials(self, peer_id: int) -> bool:
        """Whether it wants a connection to a peer."""
        parts = self.parts
        return (
            parts is not None
            and peer_id not in parts.membership.envelope.removed
            and (peer_id in parts.peers.outgoing or peer_id in self._introduced)
        )

    # ------------------------------------------------------------ clients

    def add_poll(self, poll: Poll) -> None:
        """Have a client look after each of this node's events, until it need not any more."""
        self._polls.append(poll)

    def run_polls(self) -> None:
        """Let clients look."""
        if self._polls:
            self._polls = [look for look in self._polls if not look()]

    # ------------------------------------------------------------ events of the node

    def _soon(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> None:
        self._timeline.after(delay_s, self._act, self._life, action, arguments)

    def _act(self, life: int, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if life != self._life or self.parts is None:
            return
        if self.state is ProcessState.PAUSED:
            self._held.append((action, arguments))
            return
        self._do(action, arguments)

    def _do(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        action(*arguments)
        self.run_polls()

    def _hand_over(self) -> None:
        assert self.parts is not None
        self.parts.leadership_transfer.request()

    # ------------------------------------------------------------ what is seen of it

    def _has_started(self, parts: NodeParts, machine: StateMachine) -> None:
        raw, snapshot_index = parts.raw, parts.storage.snapshot.index
        self.node, self.parts, self.machine, self._envelope = Node(parts), parts, machine, None
        self._note(f"starts in term {raw.term} with entries up to {raw.last_index}")
        self._invariants.started(self.id, raw.raft)
        if snapshot_index > BOOTSTRAP_INDEX:
            self._invariants.restored(self.id, snapshot_index, state_hash(machine))

    def _refused(self, error: BaseException) -> ProcessState:
        """It does not start, and never will; raises Violation where it should."""
        if isinstance(error, ConfigError) and self.id in self._invariants.configuration.removed:
            return ProcessState.REMOVED
        if self.is_rotten:
            return ProcessState.REFUSED
        raise Violation(DURABILITY, f"node {self.id} refuses its directory: {error}") from error

    def _observe(self, parts: NodeParts) -> None:
        raw = parts.raw
        self._invariants.observe(self.id, raw.raft)
        seen = (raw.term, raw.role, raw.leader_id, raw.commit)
        if seen != self._seen:
            self._seen = seen
            self._note(
                f"{raw.role.name.lower()} t{raw.term} leader {raw.leader_id or '-'} commit {raw.commit}"
            )
        if raw.role is StateRole.LEADER and self._led != raw.term:
            self._led = raw.term
            self._happened(self, Occasion.ELECTED)
        if parts.membership.envelope is not self._envelope:
            self._members_changed(parts)

    def _members_changed(self, parts: NodeParts) -> None:
        is_first, self._envelope = self._envelope is None, parts.membership.envelope
        self._invariants.members(self.id, parts.applier.position.index, parts.membership)
        if not is_first:
            self._note(f"has applied a change: {describe_members(parts.membership.conf_state)}")
            self._happened(self, Occasion.CHANGED)

    def _disk_call_s(self) -> float:
        """How long the next disk call takes."""
        duration_s = self._random.uniform(*self.disk_call_s)
        if self.disk_is_slow_s:
            duration_s += self._random.uniform(0, self.disk_is_slow_s)
        return duration_s

    def _tell_of(self, write: Write) -> None:
        """A write is durable: what happened by it."""
        assert self.parts is not None
        if write.append.snapshot is not None:
            self._happened(self, Occasion.INSTALLED)
        if self.parts.storage.is_untidy:
            self._happened(self, Occasion.UNTIDY)

    def _tell_of_restore(self, restore: Restore) -> None:
        assert self.machine is not None
        self._invariants.restored(self.id, restore.snapshot.index, state_hash(self.machine))

    def _end(self, why: str) -> None:
        if self.parts is None:
            return
        self._note(why)
        parts, self.parts, self.node = self.parts, None, None
        self.state = ProcessState.DOWN
        self._life += 1
        self._held, looks, self._polls = [], self._polls, []
        self._invariants.halted(self.id, parts.raw.raft)
        self._network.leave(self.id)
        for look in looks:
            look()
        self._went_down(self)

    def _told(self, committed: Committed, state: str) -> None:
        self._invariants.applied(self.id, committed, state)

    def _note(self, what: str) -> None:
        self._trace.note(self._name, what)

    @property
    def leads(self) -> bool:
        return self.parts is not None and self.parts.raw.role is StateRole.LEADER


class MemberClock(TrioClock):
    """A node's clock: virtual time at a rate of its own."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._base = self._base_at = 0.0
        self.rate = 1.0

    def now(self) -> float:
        return self._base + (self._timeline.now - self._base_at) * self.rate

    def virtual_s_until(self, deadline: float) -> float:
        """Virtual seconds from now until the clock shows `deadline`; 0 if it does.

        They are never too small to change the virtual time, so waiting for them again and again comes to an
        end, however the sums are rounded.
        """
        left_s = deadline - self.now()
        return max(left_s / self.rate, MIN_WAIT_S) if left_s > 0 else 0.0

    def set_rate(self, rate: float) -> None:
        self._base, self._base_at = self.now(), self._timeline.now
        self.rate = rate
