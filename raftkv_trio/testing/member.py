"""One node of the event-heap simulator: the real parts of a node, driven by events instead of tasks.

Driver, log writer, applier, proposals, reads, core and log are those that `run_node` runs; only the tasks
around them are replaced. Each turn of the driver, each disk call and each slice that is applied is an event,
and between any two of them the node can be halted or paused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

from raftkv_trio.applier import SLICE_ENTRIES, Commits, Restore
from raftkv_trio.config import NodeConfig, PeerAddress
from raftkv_trio.envelope import Envelope
from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.handshake import join_answer
from raftkv_trio.joining import ASK_INTERVAL_S, what_to_join
from raftkv_trio.log_writer import Write
from raftkv_trio.machine import Committed, StateMachine
from raftkv_trio.node import LAST_WORDS_S, Node
from raftkv_trio.peers import PARTING_S
from raftkv_trio.ports import World
from raftkv_trio.raft.confchange import describe_members
from raftkv_trio.raft.types import Message, StateRole
from raftkv_trio.recovery import open_directory, restore_machine
from raftkv_trio.storage import BOOTSTRAP_INDEX, Bootstrap, NodeStorage, is_new
from raftkv_trio.testing.disk import Halted, SimulatedDisk
from raftkv_trio.testing.invariants import Invariants
from raftkv_trio.testing.member_ports import MemberClock, Post, WatchedMachine, state_hash
from raftkv_trio.testing.member_snapshots import SnapshotSteps
from raftkv_trio.testing.message_network import MessageNetwork
from raftkv_trio.testing.schedule import DISK_CALL_S, Limits, Occasion
from raftkv_trio.testing.timeline import Timeline, Trace
from raftkv_trio.testing.violation import DURABILITY, Violation
from raftkv_trio.wire import PROTOCOL_VERSIONS, JoinAnswer, JoinQuery, PeerFrame

DATA_DIR = Path("/srv/raftkv-trio")

#: A client's look at what it waits for: True once it need not look again.
Look = Callable[[], bool]


class State(Enum):
    """What a node is doing."""

    DOWN = "down"
    UP = "up"
    PAUSED = "paused"
    REFUSED = "refused"  # its own directory, because it does not verify
    JOINING = "waiting to be a member"
    REMOVED = "removed"


class Member:
    """One node and its machine room: disk and clock outlive its halts.

    Attributes:
        state: see `State`.
        node: None while it is down.
        turn_delay_s: longest time from a ring of the driver's bell to its turn.
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
        went_down: Callable[["Member"], None],
        happened: Callable[["Member", Occasion], None],
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
        self.state = State.DOWN
        self.node: Node | None = None
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
        self._storage: NodeStorage | None = None
        self._snapshots: SnapshotSteps | None = None
        self._life = 0
        self._held: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._looks: list[Look] = []
        self._turn_planned = False
        self._writing: Write | None = None
        self._applying = False
        self._seen: object = None
        self._led: int | None = None  # the last term that it led
        self._envelope: Envelope | None = None  # as it was seen last
        self._introduced: set[int] = set()  # peers that this node had not heard of when they came
        self._is_leaving = False

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Open the directory and run; on failure it stays down, or refuses for good what does not verify."""
        self._life += 1
        self.restarts += 1
        machine = self._make_machine()
        try:
            joined = None
            if self.config.join and is_new(self.disk, DATA_DIR):
                joined = self._find_cluster()
                if joined is None:
                    self.state = State.JOINING
                    self._timeline.after(ASK_INTERVAL_S, self._ask_again, self._life)
                    return
            storage = open_directory(self.disk, self.config, self._random, joined)
            restore_machine(machine, storage)
            world = World(clock=self.clock, random=self._random)  # its network and workers stay unused
            node = Node(self.config, WatchedMachine(machine, self._told), storage, world)
        except (Halted, ConfigError, StorageError) as error:
            self.disk.kill()
            self._note(f"does not start: {error}")
            self.state = State.DOWN
            if isinstance(error, Halted) or isinstance(error.__cause__, OSError):
                self._went_down(self)  # another time it may
            elif isinstance(error, ConfigError) and self.id in self._invariants.configuration.removed:
                self.state = State.REMOVED
            elif self.is_rotten:
                self.state = State.REFUSED
            else:
                raise Violation(DURABILITY, f"node {self.id} refuses its directory: {error}") from error
            return
        node.driver.peers = Post(self.id, self._network, self._send_snapshot)
        self._snapshots = SnapshotSteps(
            node,
            storage,
            soon=self._soon,
            disk_call_s=self._disk_call_s,
            note=self._note,
            wrote=self._begin_write,
        )
        self._storage, self.node, self.machine = storage, node, machine
        self._envelope, self._introduced, self._is_leaving = None, set(), False
        self.state = State.UP
        self._writing, self._applying, self._turn_planned = None, False, False
        self._note(f"starts in term {node.driver.raw.term} with entries up to {node.driver.raw.last_index}")
        self._invariants.started(self.id, node.driver.raw.raft)
        if storage.snapshot.index > BOOTSTRAP_INDEX:
            self._invariants.restored(self.id, storage.snapshot.index, state_hash(machine))
        self._network.join(self.id, self)
        node.driver.start()
        self._plan_tick(self._random.random())
        self._after()

    def _find_cluster(self) -> Bootstrap | None:
        for answer in self._network.ask(JoinQuery(PROTOCOL_VERSIONS, self.id)):
            told = what_to_join(answer, self.id, self.config.members[self.id])
            if isinstance(told, Bootstrap):
                return told
        return None

    def _ask_again(self, life: int) -> None:
        if self._life == life and self.state is State.JOINING:
            self.start()

    def halt(self, *, power: bool) -> None:
        """End at once, in the middle of the disk call under way if there is one."""
        if self._writing is not None and self._random.random() < 0.8:
            self.disk.halt_at(self._random.choice((0, 1, 1, 2, 5)), power=power)
            try:
                self._write()
            except (Halted, StorageError):
                pass  # that is the point; what was written stays or not
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._end("loses power" if power else "is killed")

    def stop(self) -> None:
        """A clean stop, without the time to hand over."""
        if self.node is not None:
            self._close("stops")

    def pause(self) -> None:
        """Nothing of the process moves until `resume` (SIGSTOP)."""
        if self.state is State.UP:
            self._note("is paused")
            self.state = State.PAUSED

    def resume(self) -> None:
        if self.state is State.PAUSED:
            self._note("resumes")
            self.state = State.UP
            held, self._held = self._held, []
            for action, arguments in held:
                self._timeline.after(0, self._act, self._life, action, arguments)

    def hand_over(self) -> None:
        """As an operator asks for it."""
        self._soon(0, self._hand_over)

    # ------------------------------------------------------------ the world's events

    def receive(self, sender: int, frame: PeerFrame) -> None:
        self._act(self._life, self._take, (sender, frame))

    def disconnected(self, peer_id: int) -> None:
        self._act(self._life, self._lose_peer, (peer_id,))

    def dials(self, peer_id: int) -> bool:
        node = self.node
        return (
            node is not None
            and peer_id not in node.membership.envelope.removed
            and (peer_id in node.peers.links or peer_id in self._introduced)
        )

    def meet(self, peer_id: int) -> int | None:
        if self.node is None:
            return None
        self._introduced.add(peer_id)
        return self.node.membership.envelope.removed.get(peer_id)

    def told_removed(self, index: int) -> None:
        if self.node is not None:
            self._act(self._life, self.node.told_removed, (index,))

    def answer(self, query: JoinQuery) -> JoinAnswer | None:
        if self.node is None or self.state is not State.UP:
            return None
        return join_answer(query, self.node.cluster_id, self.node.membership.envelope)

    def look(self, look: Look) -> None:
        """Have a client look after each of this node's events, until it need not any more."""
        self._looks.append(look)
        self._after()

    # ------------------------------------------------------------ events of the node

    def _soon(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> None:
        self._timeline.after(delay_s, self._act, self._life, action, arguments)

    def _act(self, life: int, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if life != self._life or self.node is None:
            return
        if self.state is State.PAUSED:
            self._held.append((action, arguments))
            return
        try:
            action(*arguments)
        except Halted as halted:
            self._end(f"halts: {halted}")
        except StorageError as error:
            self._close(f"ends: {error}")
        else:
            self._after()

    def _after(self) -> None:
        node = self.node
        if node is None:
            return
        if node.driver.bell.rung and not self._turn_planned:
            self._turn_planned = True
            self._soon(self._random.random() * self.turn_delay_s, self._turn)
        if self._looks:
            self._looks = [look for look in self._looks if not look()]
        if node.removed_at is not None and not self._is_leaving:
            self._is_leaving = True
            self._soon(LAST_WORDS_S / self.clock.rate, self._close, "was removed")

    def _take(self, sender: int, frame: PeerFrame) -> None:
        assert self.node is not None
        self.node.inbox.try_put((sender, frame), 0)

    def _lose_peer(self, peer_id: int) -> None:
        assert self.node is not None
        self.node.driver.unreachable(peer_id)

    def _hand_over(self) -> None:
        assert self.node is not None
        self.node.driver.hand_over(wanted=True)

    def _plan_tick(self, intervals: float) -> None:
        self._soon(intervals * self.config.tick_interval_s / self.clock.rate, self._tick)

    def _tick(self) -> None:
        assert self.node is not None
        self.node.driver.tick_due()
        self._step_snapshots()
        self._plan_tick(1)

    def _turn(self) -> None:
        node = self.node
        assert node is not None
        self._turn_planned = False
        node.driver.bell.answer()
        node.driver.turn()
        self._observe(node)
        self._begin_write(node)
        if not self._applying:
            self._begin_apply(node)

    def _observe(self, node: Node) -> None:
        raw = node.driver.raw
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
        if node.membership.envelope is not self._envelope:
            self._members_changed(node)

    def _members_changed(self, node: Node) -> None:
        is_first, self._envelope = self._envelope is None, node.membership.envelope
        self._invariants.members(self.id, node.applier.position.index, node.membership)
        if not is_first:
            self._note(f"has applied a change: {describe_members(node.membership.conf_state)}")
            self._soon(PARTING_S / self.clock.rate, self._part_with, self._envelope.removed)
            self._happened(self, Occasion.CHANGED)

    def _part_with(self, removed: Iterable[int]) -> None:
        self._network.cut_off(self.id, removed)

    def _begin_write(self, node: Node) -> None:
        if self._writing is not None or (write := node.log_writer.take()) is None:
            return
        self._writing = write
        syncs = node.log_writer.must_write(write)
        self._soon(self._disk_call_s() if syncs else self._random.uniform(0, 0.0001), self._written)

    def _disk_call_s(self) -> float:
        """How long the next disk call takes."""
        duration_s = self._random.uniform(*self.disk_call_s)
        if self.disk_is_slow_s:
            duration_s += self._random.uniform(0, self.disk_is_slow_s)
        return duration_s

    def _write(self) -> Write:
        assert self.node is not None
        assert self._writing is not None
        write = self._writing
        self.node.log_writer.write(write)
        self._writing = None
        return write

    def _written(self) -> None:
        node = self.node
        assert node is not None
        write = self._write()
        node.log_writer.written(write)
        self._tell_of(write, node)
        self._begin_write(node)
        self._step_snapshots()

    def _tell_of(self, write: Write, node: Node) -> None:
        """A write is durable: what happened by it."""
        if write.append.snapshot is not None:
            self._happened(self, Occasion.INSTALLED)
        if node._storage.is_untidy:
            self._happened(self, Occasion.UNTIDY)

    def _begin_apply(self, node: Node) -> None:
        commits = node.applier.take()
        if commits:
            self._applying = True
            self._soon(self._random.random() * 0.0005, self._apply, commits)

    def _apply(self, commits: Commits) -> None:
        node = self.node
        assert node is not None
        if isinstance(commits, Restore):
            node.applier.begin_restore()
            node.applier.restore(commits)
            node.applier.restored(commits)
            assert self.machine is not None
            self._invariants.restored(self.id, commits.snapshot.index, state_hash(self.machine))
        else:
            node.applier.apply(commits[:SLICE_ENTRIES])
            if len(commits) > SLICE_ENTRIES:
                self._soon(0.0005, self._apply, commits[SLICE_ENTRIES:])
                return
        node.applier.done()
        self._applying = False
        self._step_snapshots()

    # ------------------------------------------------------------ snapshots

    def _step_snapshots(self) -> None:
        assert self._snapshots is not None
        self._snapshots.step()

    def _send_snapshot(self, message: Message) -> None:
        node, life = self.node, self._life
        assert node is not None
        assert self._snapshots is not None
        data = self._snapshots.read(message) if self.dials(message.to) else None

        def ended(ok: bool) -> None:
            self._act(life, node.driver.snapshot_sent, (message.to, ok))

        if data is None:
            node.driver.snapshot_sent(message.to, False)
        else:
            self._network.send_snapshot(message, data, ended)

    def receive_snapshot(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        if self._snapshots is not None:
            self._act(self._life, self._snapshots.take, (sender, message, data, arrives_bytes))

    # ------------------------------------------------------------ ends

    def _close(self, why: str) -> None:
        """What `run_node` does as it unwinds."""
        assert self.node is not None
        assert self._storage is not None
        self.node.close("the node is stopping")
        self._looks = [look for look in self._looks if not look()]
        try:
            if self.node.removed_at is not None:
                self._storage.mark_removed(self.node.removed_at)
            self._storage.close(clean=True)
        except Halted as halted:
            why += f", and halts: {halted}"
        except StorageError as error:
            why += f"; {error}"
        self.disk.kill()
        self._end(why)

    def _end(self, why: str) -> None:
        if self.node is None:
            return
        self._note(why)
        node, self.node = self.node, None
        self.state = State.DOWN
        self._life += 1
        self._writing = None
        self._held, looks, self._looks = [], self._looks, []
        self._invariants.halted(self.id, node.driver.raw.raft)
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
        return self.node is not None and self.node.driver.raw.role is StateRole.LEADER
