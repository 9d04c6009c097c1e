"""A node at level 1: the real parts of a node, driven by events instead of tasks.

Driver, log writer, applier, proposals, reads, core and log are those that `run_node` runs; only the tasks
around them are replaced. Each turn of the driver, each disk call and each slice that is applied is an event,
and between any two of them the node can be halted or paused.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory, restore_machine
from raftkv_trio.node.removal import GRACE_PERIOD_S
from raftkv_trio.node.steps import Call, Checkpoint
from raftkv_trio.peers.handshake import join_answer
from raftkv_trio.peers.handshake_frames import PROTOCOL_VERSIONS, JoinAnswer, JoinQuery
from raftkv_trio.peers.joining import ASK_INTERVAL_S, what_to_join
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.peers import PARTING_S
from raftkv_trio.peers.wire import PeerFrame
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import Bootstrap, SnapshotMeta, is_new
from raftkv_trio.testing.simulator.simulated_member import DATA_DIR, Poll, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.snapshot_transfers import SnapshotTransfers
from raftkv_trio.testing.simulator.stepped_task import SteppedTask
from raftkv_trio.testing.simulator.watched_machine import WatchedMachine
from raftkv_trio.testing.world.message_network import MessageNetwork
from raftkv_trio.testing.world.simulated_disk import Halted
from raftkv_trio.world import World

MAX_STEP_S = 0.0005  # of a step that does not wait for the disk


class SteppedMember(SimulatedMember):
    """One node, whose tasks are events."""

    _transfers: SnapshotTransfers
    _log_writer: SteppedTask
    _tasks: Sequence[SteppedTask] = ()
    _turn_planned = False
    _is_leaving = False

    # ------------------------------------------------------------ life

    def start(self) -> None:
        self._life += 1
        self.restarts += 1
        machine = self._make_machine()
        try:
            joined = None
            if self.config.join and is_new(self.disk, DATA_DIR):
                joined = self._find_cluster()
                if joined is None:
                    self.state = ProcessState.JOINING
                    self._timeline.after(ASK_INTERVAL_S, self._ask_again, self._life)
                    return
            storage = open_directory(self.disk, self.config, self._random, joined)
            restore_machine(machine, storage)
            world = World(clock=self.clock, random=self._random)  # its network and workers stay unused
            parts = NodeParts(
                self.config,
                WatchedMachine(machine, self._told),
                storage,
                world,
                transport=Post(self.id, self._network, self._send_snapshot),
            )
        except (Halted, ConfigError, StorageError) as error:
            self.disk.kill()
            self._note(f"does not start: {error}")
            self.state = ProcessState.DOWN
            if isinstance(error, Halted) or isinstance(error.__cause__, OSError):
                self._went_down(self)  # another time it may
            else:
                self.state = self._refused(error)
            return
        self._step_tasks(parts)
        self._transfers = SnapshotTransfers(parts, self._note)
        self._introduced, self._is_leaving, self._turn_planned = set(), False, False
        self.state = ProcessState.UP
        self._has_started(parts, machine)
        self._network.join(self.id, self)
        self._plan_tick(self._random.random())
        self._do(parts.driver.start, ())

    def _step_tasks(self, parts: NodeParts) -> None:
        parts.log_writer.on_written = self._tell_of
        parts.applier.on_restored = self._tell_of_restore
        parts.snapshotter.on_begun = self._tell_of_snapshot
        parts.snapshotter.piece_bytes = 1
        self._tasks = [
            SteppedTask(steps, clock=self.clock, plan=self._soon, step_s=self._step_s)
            for steps in (parts.log_writer.steps(), parts.applier.steps(), parts.snapshotter.steps())
        ]
        self._log_writer = self._tasks[0]

    def _step_s(self, step: Call | Checkpoint) -> float:
        """How long a step takes."""
        if isinstance(step, Call) and step.in_worker:
            return self._disk_call_s()
        return self._random.uniform(0, MAX_STEP_S)

    def _tell_of_snapshot(self, meta: SnapshotMeta) -> None:
        self._note(f"takes a snapshot at index {meta.index}")

    def _find_cluster(self) -> Bootstrap | None:
        for answer in self._network.ask(JoinQuery(PROTOCOL_VERSIONS, self.id)):
            told = what_to_join(answer, self.id, self.config.members[self.id])
            if isinstance(told, Bootstrap):
                return told
        return None

    def _ask_again(self, life: int) -> None:
        if self._life == life and self.state is ProcessState.JOINING:
            self.start()

    def halt(self, *, power: bool) -> None:
        if self.parts is not None and (call := self._log_writer.call) and self._random.random() < 0.8:
            self.disk.halt_at(self._random.choice((0, 1, 1, 2, 5)), power=power)
            try:
                call()
            except (Halted, StorageError):
                pass  # that is the point; what was written stays or not
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._end("loses power" if power else "is killed")

    def stop(self) -> None:
        if self.parts is not None:
            self._close("stops")

    def _close(self, why: str) -> None:
        """What `run_node` does as it unwinds."""
        assert self.parts is not None
        storage = self.parts.storage
        for task in self._tasks:
            task.close()
        self.parts.close("the node is stopping")
        self.run_polls()
        try:
            if (removed_at := self.parts.removal.confirmed_index) is not None:
                storage.mark_removed(removed_at)
            storage.close(clean=True)
        except Halted as halted:
            why += f", and halts: {halted}"
        except StorageError as error:
            why += f"; {error}"
        self.disk.kill()
        self._end(why)

    def _end(self, why: str) -> None:
        for task in self._tasks:
            task.close()
        self._tasks = ()
        super()._end(why)

    # ------------------------------------------------------------ the world's events

    def receive(self, sender: int, frame: PeerFrame) -> None:
        self._act(self._life, self._take, (sender, frame))

    def disconnected(self, peer_id: int) -> None:
        self._act(self._life, self._lose_peer, (peer_id,))

    def meet(self, peer_id: int) -> int | None:
        if self.parts is None:
            return None
        self._introduced.add(peer_id)
        return self.parts.membership.envelope.removed.get(peer_id)

    def told_removed(self, index: int) -> None:
        if self.parts is not None:
            self._act(self._life, self.parts.removal.told_by_member, (index,))

    def answer(self, query: JoinQuery) -> JoinAnswer | None:
        if self.parts is None or self.state is not ProcessState.UP:
            return None
        return join_answer(query, self.parts.storage.identity.cluster_id, self.parts.membership.envelope)

    def add_poll(self, poll: Poll) -> None:
        super().add_poll(poll)
        self._after()

    # ------------------------------------------------------------ the node's tasks, in steps

    def _do(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            action(*arguments)
            for task in self._tasks:
                task.go_on()
        except Halted as halted:
            self._end(f"halts: {halted}")
        except StorageError as error:
            self._close(f"ends: {error}")
        else:
            self._after()

    def _after(self) -> None:
        parts = self.parts
        if parts is None:
            return
        if parts.driver.wakeup.is_set and not self._turn_planned:
            self._turn_planned = True
            self._soon(self._random.random() * self.turn_delay_s, self._turn)
        self.run_polls()
        if parts.removal.confirmed.is_set() and not self._is_leaving:
            self._is_leaving = True
            self._soon(GRACE_PERIOD_S / self.clock.rate, self._close, "was removed")

    def _take(self, sender: int, frame: PeerFrame) -> None:
        assert self.parts is not None
        self.parts.inbox.try_put((sender, frame), 0)

    def _lose_peer(self, peer_id: int) -> None:
        assert self.parts is not None
        self.parts.reports.unreachable(peer_id)

    def _plan_tick(self, intervals: float) -> None:
        self._soon(intervals * self.config.tick_interval_s / self.clock.rate, self._tick)

    def _tick(self) -> None:
        assert self.parts is not None
        self.parts.driver.tick_due()
        self._plan_tick(1)

    def _turn(self) -> None:
        parts = self.parts
        assert parts is not None
        self._turn_planned = False
        parts.driver.wakeup.clear()
        parts.driver.turn()
        self._observe(parts)

    def _members_changed(self, parts: NodeParts) -> None:
        is_first = self._envelope is None
        super()._members_changed(parts)
        if not is_first:
            removed = parts.membership.envelope.removed
            self._soon(PARTING_S / self.clock.rate, self._part_with, removed)

    def _part_with(self, removed: Iterable[int]) -> None:
        self._network.cut_off(self.id, removed)

    # ------------------------------------------------------------ snapshots

    def _send_snapshot(self, message: Message) -> None:
        parts, life = self.parts, self._life
        assert parts is not None
        data = self._transfers.read(message) if self.dials(message.to) else None

        def ended(ok: bool) -> None:
            self._act(life, parts.reports.snapshot_sent, (message.to, ok))

        if data is None:
            parts.reports.snapshot_sent(message.to, False)
        else:
            self._network.send_snapshot(message, data, ended)

    def receive_snapshot(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        if self.parts is not None:
            self._act(self._life, self._transfers.take, (sender, message, data, arrives_bytes))


class Post:
    """What the driver takes for its peers."""

    def __init__(
        self, node_id: int, network: MessageNetwork, send_snapshot: Callable[[Message], None]
    ) -> None:
        self._node_id = node_id
        self._send_snapshot = send_snapshot
        self._network = network

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        return self._network.offer(self._node_id, peer_id, items)

    def send_snapshot(self, message: Message) -> bool:
        self._send_snapshot(message)
        return True
