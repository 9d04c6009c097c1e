"""A member of a simulated cluster, at either level: what outlives its process, and what is seen of it.

A member keeps its disk and its clock when its process ends. How the process runs is the level's: as events
(`stepped_member.py`, level 1) or as Trio tasks (`task_member.py`, level 2).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from functools import partial
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
from raftkv_trio.payload.levels import HIGHEST
from raftkv_trio.raft.confchange import describe_members
from raftkv_trio.raft.types import StateRole
from raftkv_trio.state_machine import Committed, StateMachine
from raftkv_trio.storage import BOOTSTRAP_INDEX, SnapshotMeta
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

#: A client's look at what it waits for: True as soon as the client waits no longer.
Poll = Callable[[], bool]


class ProcessState(Enum):
    """What a member's process is doing."""

    DOWN = "down"
    UP = "up"
    PAUSED = "paused"
    REFUSED = "refuses its directory"  # since it does not verify; the process never starts again
    JOINING = "waits to join"
    REMOVED = "removed"  # from the cluster; the process never starts again


class SimulatedMember(ABC):
    """A node with its own disk and clock, whose process can end and start again.

    Attributes:
        state: what its process is doing.
        node, parts: the running node and its parts; None while there is no process.
        machine: the state machine; after the end of a process, as that process left it.
        disk, clock: the node's own.
        make_machine: makes the state machine of a new process.
        turn_delay_s: longest time from setting the driver's wakeup to its turn.
        disk_call_s: shortest and longest time of a disk call.
        disk_is_slow_s: longest time that a slow disk adds to each call.
        disk_stays_full: whether its disk gets no room again before all else has healed.
        is_rotten: whether bits of its disk were flipped or its directory was set back, so that it may refuse
            its directory.
        restarts: how often it was started after the first time; -1 before that.
        highest_level: the highest feature level that its program knows; from the next start on.

    Args:
        members: the members that its configuration names.
        went_down: called when its process has ended, or could not start.
        happened: called for each occasion that faults can wait for.
        joins: whether it joins a cluster that exists.
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
        self.highest_level = HIGHEST
        self.disk_is_slow_s = 0.0
        self.disk_stays_full = False
        self.is_rotten = False
        self.make_machine = make_machine
        self._timeline = timeline
        self._trace = trace
        self._name = f"node {node_id}"
        self._random = random
        self._network = network
        self._invariants = invariants
        self._went_down = went_down
        self._happened = happened
        self._epoch = 0  # counts starts and ends: what was planned in an earlier epoch does not happen
        self._held: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # until the process is resumed
        self._polls: list[Poll] = []
        self._last_seen: object = None
        self._last_led_term: int | None = None
        self._last_envelope: Envelope | None = None
        self._introduced: set[int] = set()  # nodes that have connected to this process, members or not

    # ------------------------------------------------------------ the process starts and ends

    @abstractmethod
    def start(self) -> None:
        """Open the directory and run. A directory that does not verify is refused for good."""

    @abstractmethod
    def halt(self, *, power: bool) -> None:
        """End the process at once, in the middle of its disk call if there is one."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the process cleanly, without a leadership transfer."""

    def pause(self) -> None:
        """Let nothing of the process go on until `resume`, as SIGSTOP does."""
        if self.state is ProcessState.UP:
            self._note("is paused")
            self.state = ProcessState.PAUSED

    def resume(self) -> None:
        """Let a paused process go on."""
        if self.state is ProcessState.PAUSED:
            self._note("resumes")
            self.state = ProcessState.UP
            held, self._held = self._held, []
            for action, arguments in held:
                self._timeline.after(0, self._act, self._epoch, action, arguments)

    def _process_ended(self, why: str) -> None:
        """Forget the process, and tell everybody who has to know."""
        if self.parts is None:
            return
        self._note(why)
        parts, self.parts, self.node = self.parts, None, None
        self.state = ProcessState.DOWN
        self._epoch += 1
        self._held, polls, self._polls = [], self._polls, []
        self._invariants.halted(self.id, parts.raw.raft)
        self._network.leave(self.id)
        for poll in polls:
            poll()
        self._went_down(self)

    def _state_after_refusal(self, error: BaseException) -> ProcessState:
        """What becomes of a member that refuses its directory; raises Violation if it must not refuse it."""
        if isinstance(error, ConfigError) and self.id in self._invariants.configuration.removed:
            return ProcessState.REMOVED
        if self.is_rotten:
            return ProcessState.REFUSED
        raise Violation(DURABILITY, f"node {self.id} refuses its directory: {error}") from error

    # ------------------------------------------------------------ what others want from it

    @property
    def has_lost_entries(self) -> bool:
        """Whether it knows that entries which it had acknowledged are lost."""
        return self.state is ProcessState.REFUSED or (
            self.parts is not None and self.parts.lost_entries.reason is not None
        )

    @property
    def leads(self) -> bool:
        """Whether its process runs and takes itself for the leader."""
        return self.parts is not None and self.parts.raw.role is StateRole.LEADER

    def transfer_leadership(self) -> None:
        """Ask the node to transfer its leadership, as an operator does."""
        self._plan(0, self._request_transfer)

    def _request_transfer(self) -> None:
        assert self.parts is not None
        self.parts.leadership_transfer.request()

    def dials(self, peer_id: int) -> bool:
        """Whether it wants a connection to a peer."""
        parts = self.parts
        return (
            parts is not None
            and peer_id not in parts.membership.envelope.removed
            and (peer_id in parts.peers.outgoing or peer_id in self._introduced)
        )

    def believes(self, peer_id: int) -> bool:
        """Whether the word of a peer counts that says that this node was removed: that of members alone."""
        return self.parts is not None and peer_id in self.parts.membership.envelope.members

    def add_poll(self, poll: Poll) -> None:
        """Call `poll` after each of the node's events, until it returns True or the process ends."""
        self._polls.append(poll)

    def run_polls(self) -> None:
        """Call every poll."""
        if self._polls:
            self._polls = [poll for poll in self._polls if not poll()]

    # ------------------------------------------------------------ what the process does, as events

    def _plan(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> None:
        """Have the process act later, unless it has ended by then."""
        self._timeline.after(delay_s, self._act, self._epoch, action, arguments)

    def _act(self, epoch: int, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Have the process act now; when it is resumed, if it is paused; not at all, if it has ended."""
        if epoch != self._epoch or self.parts is None:
            return
        if self.state is ProcessState.PAUSED:
            self._held.append((action, arguments))
            return
        self._carry_out(action, arguments)

    def _carry_out(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        action(*arguments)
        self.run_polls()

    def _draw_disk_call_s(self) -> float:
        """How long the next disk call takes."""
        duration_s = self._random.uniform(*self.disk_call_s)
        if self.disk_is_slow_s:
            duration_s += self._random.uniform(0, self.disk_is_slow_s)
        return duration_s

    # ------------------------------------------------------------ what is seen of the process

    def _has_started(self, parts: NodeParts, machine: StateMachine) -> None:
        """Follow the parts of a new process."""
        raw, snapshot_index = parts.raw, parts.storage.snapshot.index
        self.node, self.parts, self.machine, self._last_envelope = Node(parts), parts, machine, None
        parts.driver.on_turned = partial(self._turned, parts)
        parts.log_writer.on_written = partial(self._written, parts)
        parts.applier.on_restored = partial(self._restored, parts)
        parts.snapshotter.on_begun = partial(self._snapshot_begun, parts)
        self._note(f"starts in term {raw.term} with entries up to {raw.last_index}")
        self._invariants.started(self.id, raw.raft)
        if snapshot_index > BOOTSTRAP_INDEX:
            self._machine_restored(parts, snapshot_index)

    # A process that has ended may still unwind: what its parts report then is not seen by anybody.

    def _turned(self, parts: NodeParts) -> None:
        if parts is not self.parts:
            return
        raw = parts.raw
        self._invariants.observe(self.id, raw.raft)
        self._invariants.freshness.check(self.id, parts.freshness.as_of, parts.applied.index)
        seen = (raw.term, raw.role, raw.leader_id, raw.commit)
        if seen != self._last_seen:
            self._last_seen = seen
            self._note(
                f"{raw.role.name.lower()} t{raw.term} leader {raw.leader_id or '-'} commit {raw.commit}"
            )
        if raw.role is StateRole.LEADER and self._last_led_term != raw.term:
            self._last_led_term = raw.term
            self._happened(self, Occasion.ELECTED)
        if parts.membership.envelope is not self._last_envelope:
            self._members_changed(parts)

    def _members_changed(self, parts: NodeParts) -> None:
        is_first, self._last_envelope = self._last_envelope is None, parts.membership.envelope
        self._invariants.members(self.id, parts.applier.position.index, parts.membership)
        if not is_first:
            self._note(f"has applied a change: {describe_members(parts.membership.conf_state)}")
            self._happened(self, Occasion.CHANGED)

    def _written(self, parts: NodeParts, write: Write) -> None:
        if parts is not self.parts:
            return
        self._invariants.written(self.id, write.messages)
        if write.append.snapshot is not None:
            self._happened(self, Occasion.INSTALLED)
        if parts.storage.is_untidy:
            self._happened(self, Occasion.UNTIDY)

    def _restored(self, parts: NodeParts, restore: Restore) -> None:
        if parts is self.parts:
            self._machine_restored(parts, restore.snapshot.index)

    def _machine_restored(self, parts: NodeParts, index: int) -> None:
        assert self.machine is not None
        since = parts.applier.membership.envelope.level_since
        self._invariants.restored(self.id, index, state_hash(self.machine), since)

    def _snapshot_begun(self, parts: NodeParts, meta: SnapshotMeta) -> None:
        if parts is self.parts:
            self._note(f"takes a snapshot at index {meta.index}")

    def _applied(self, machine: StateMachine, committed: Committed, state: str) -> None:
        if machine is self.machine and self.parts is not None:
            self._invariants.applied(self.id, committed, state)

    def _note(self, what: str) -> None:
        self._trace.note(self._name, what)


class MemberClock(TrioClock):
    """A node's clock: virtual time at a rate of its own. Its `real_now` is virtual time itself.

    Attributes:
        rate: seconds on this clock in each second of virtual time.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._base = self._base_at = 0.0
        self.rate = 1.0

    def now(self) -> float:
        return self._base + (self._timeline.now - self._base_at) * self.rate

    def real_now(self) -> float:
        return self._timeline.now

    def virtual_s_until(self, deadline: float) -> float:
        """Virtual seconds from now until the clock shows `deadline`; 0 if it does.

        They are never too small to change the virtual time, so waiting for them again and again comes to an
        end, however the sums are rounded.
        """
        left_s = deadline - self.now()
        return max(left_s / self.rate, MIN_WAIT_S) if left_s > 0 else 0.0

    def set_rate(self, rate: float) -> None:
        """Go on at another rate from now on; the clock never jumps."""
        self._base, self._base_at = self.now(), self._timeline.now
        self.rate = rate
