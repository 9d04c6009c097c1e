"""A member at level 1: the real parts of a node, whose tasks are events on virtual time.

The parts are those that `run_node` runs. Log writer, applier and snapshotter take the steps of the real tasks
(`stepped_task.py`). The driver's turns and its clock are events made here, and `message_network.py` stands
where `peers/` stands in a real node. The node can be halted or paused between any two events.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory, restore_machine
from raftkv_trio.node.removal import GRACE_PERIOD_S
from raftkv_trio.node.steps import Call, Checkpoint
from raftkv_trio.payload.levels import Levels
from raftkv_trio.peers.handshake import join_answer
from raftkv_trio.peers.handshake_frames import JoinAnswer
from raftkv_trio.peers.joining import ASK_INTERVAL_S, what_to_join
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.peers import PARTING_S
from raftkv_trio.peers.wire import PeerFrame
from raftkv_trio.raft.types import Message
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import Bootstrap, is_new
from raftkv_trio.testing.simulator.simulated_member import DATA_DIR, Poll, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.snapshot_transfers import SnapshotTransfers
from raftkv_trio.testing.simulator.stepped_task import SteppedTask
from raftkv_trio.testing.simulator.watched_machine import WatchedMachine
from raftkv_trio.testing.world.message_network import MessageNetwork
from raftkv_trio.testing.world.simulated_disk import Halted
from raftkv_trio.world import World

MAX_STEP_S = 0.0005  # of a step that does not wait for the disk


class SteppedMember(SimulatedMember):
    """A member whose process is a sequence of events."""

    _transfers: SnapshotTransfers
    _log_writer: SteppedTask
    _tasks: Sequence[SteppedTask] = ()
    _turn_is_planned = False
    _end_is_planned = False

    # ------------------------------------------------------------ the process starts and ends

    def start(self) -> None:
        self._epoch += 1
        self.restarts += 1
        machine = self.make_machine()
        try:
            bootstrap = None
            if self.config.join and is_new(self.disk, DATA_DIR):
                bootstrap = self._find_cluster()
                if bootstrap is None:
                    self.state = ProcessState.JOINING
                    self._timeline.after(ASK_INTERVAL_S, self._ask_again, self._epoch)
                    return
            parts = self._open(machine, bootstrap)
        except (Halted, ConfigError, StorageError) as error:
            self.disk.kill()
            self._note(f"does not start: {error}")
            self.state = ProcessState.DOWN
            if isinstance(error, Halted) or isinstance(error.__cause__, OSError):
                self._went_down(self)  # it may start another time
            else:
                self.state = self._state_after_refusal(error)
            return
        self._transfers = SnapshotTransfers(parts, self._note)
        self._step_tasks(parts)
        self._introduced, self._end_is_planned, self._turn_is_planned = set(), False, False
        self.state = ProcessState.UP
        self._has_started(parts, machine)
        self._network.join(self.id, self)
        self._plan_tick(self._random.random())
        self._carry_out(parts.driver.start, ())

    def _open(self, machine: StateMachine, bootstrap: Bootstrap | None) -> NodeParts:
        """Open the directory and make the node's parts; raises what `run_node` raises."""
        highest = self.highest_level
        storage = open_directory(self.disk, self.config, self._random, bootstrap, highest)
        restore_machine(machine, storage, highest)
        return NodeParts(
            self.config,
            WatchedMachine(machine, partial(self._applied, machine)),
            storage,
            # The network and the workers stay unused.
            World(clock=self.clock, random=self._random, highest_level=highest),
            transport=SimulatedTransport(self.id, self._network, self._send_snapshot),
        )

    def _find_cluster(self) -> Bootstrap | None:
        for answer in self._network.ask(self.id, Levels(self.highest_level)):
            found = what_to_join(answer, self.id, self.config.members[self.id])
            if isinstance(found, Bootstrap):
                return found
        return None

    def _ask_again(self, epoch: int) -> None:
        if self._epoch == epoch and self.state is ProcessState.JOINING:
            self.start()

    def halt(self, *, power: bool) -> None:
        if self.parts is not None and (call := self._log_writer.call) and self._random.random() < 0.8:
            self.disk.halt_at(self._random.choice((0, 1, 1, 2, 5)), power=power)
            try:
                call()
            except (Halted, StorageError):
                pass  # as intended: some of what the call writes is there, some is not
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._process_ended("loses power" if power else "is killed")

    def stop(self) -> None:
        if self.parts is not None:
            self._close("stops")

    def _close(self, why: str) -> None:
        """End as `run_node` does when it is cancelled, in the same order."""
        assert self.parts is not None
        storage = self.parts.storage
        self._close_tasks()
        self.parts.close("the node is stopping")
        self.run_polls()
        try:
            if (removed_at := self.parts.removal.confirmed_index) is not None:
                storage.mark_removed(removed_at)
            self.parts.lost_entries.mark()
            storage.close(clean=True)
        except Halted as halted:
            why += f", and halts: {halted}"
        except StorageError as error:
            why += f"; {error}"
        self.disk.kill()
        self._process_ended(why)

    def _process_ended(self, why: str) -> None:
        # Closed here, and not when they are garbage: what their cleanup does must not depend on that moment.
        self._close_tasks()
        super()._process_ended(why)

    # ------------------------------------------------------------ the node's tasks, in steps

    def _step_tasks(self, parts: NodeParts) -> None:
        parts.snapshotter.piece_bytes = 1  # each chunk is a disk call, so that a halt can come between them
        self._tasks = [
            SteppedTask(steps, clock=self.clock, plan=self._plan, step_s=self._draw_step_s)
            for steps in (
                parts.log_writer.steps(),
                parts.applier.steps(),
                parts.snapshotter.steps(),
                parts.lost_entries.steps(),
                parts.news.steps(),
            )
        ]
        self._log_writer = self._tasks[0]

    def _draw_step_s(self, step: Call | Checkpoint) -> float:
        """How long the next step takes."""
        if isinstance(step, Call) and step.in_worker:
            return self._draw_disk_call_s()
        return self._random.uniform(0, MAX_STEP_S)

    def _close_tasks(self) -> None:
        for task in self._tasks:
            task.close()
        self._tasks = ()

    def _carry_out(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            action(*arguments)
            for task in self._tasks:
                task.go_on()
        except Halted as halted:
            self._process_ended(f"halts: {halted}")
        except StorageError as error:
            self._close(f"ends: {error}")
        else:
            self._plan_what_is_due()

    def _plan_what_is_due(self) -> None:
        parts = self.parts
        if parts is None:
            return
        if parts.driver.wakeup.is_set and not self._turn_is_planned:
            self._turn_is_planned = True
            self._plan(self._random.random() * self.turn_delay_s, self._turn)
        self.run_polls()
        if parts.removal.confirmed.is_set() and not self._end_is_planned:
            self._end_is_planned = True
            self._plan(GRACE_PERIOD_S / self.clock.rate, self._close, "was removed")

    def _turn(self) -> None:
        assert self.parts is not None
        self._turn_is_planned = False
        self.parts.driver.wakeup.clear()
        self.parts.driver.turn()

    def _plan_tick(self, intervals: float) -> None:
        self._plan(intervals * self.config.tick_interval_s / self.clock.rate, self._tick)

    def _tick(self) -> None:
        assert self.parts is not None
        self.parts.driver.tick_due()
        self._plan_tick(1)

    def add_poll(self, poll: Poll) -> None:
        super().add_poll(poll)
        self._plan_what_is_due()  # the client has asked the node for something

    # ------------------------------------------------------------ what the network tells

    def receive(self, sender: int, frame: PeerFrame) -> None:
        self._act(self._epoch, self._take_frame, (sender, frame))

    def _take_frame(self, sender: int, frame: PeerFrame) -> None:
        assert self.parts is not None
        self.parts.inbox.try_put((sender, frame), 0)

    def disconnected(self, peer_id: int) -> None:
        self._act(self._epoch, self._lose_peer, (peer_id,))

    def _lose_peer(self, peer_id: int) -> None:
        assert self.parts is not None
        self.parts.reports.unreachable(peer_id)

    def meet(self, peer_id: int) -> int | None:
        if self.parts is None:
            return None
        self._introduced.add(peer_id)
        return self.parts.membership.envelope.removed.get(peer_id)

    def levels(self) -> Levels:
        return Levels(self.highest_level) if self.parts is None else self.parts.levels.told()

    def refuses(self, peer_id: int, levels: Levels) -> bool:
        return self.parts is None or self.parts.levels.objection(peer_id, levels) is not None

    def told_removed(self, peer_id: int, index: int) -> None:
        if self.parts is not None and self.believes(peer_id):
            self._act(self._epoch, self.parts.removal.told_by_member, (peer_id, index))

    def answer(self, asker: int) -> JoinAnswer | None:
        if self.parts is None or self.state is not ProcessState.UP:
            return None
        return join_answer(asker, self.parts.storage.identity.cluster_id, self.parts.membership.envelope)

    def _members_changed(self, parts: NodeParts) -> None:
        is_first = self._last_envelope is None
        super()._members_changed(parts)
        if not is_first:
            removed = parts.membership.envelope.removed
            self._plan(PARTING_S / self.clock.rate, self._part_with, removed)

    def _part_with(self, removed: Iterable[int]) -> None:
        self._network.cut_off(self.id, removed)

    # ------------------------------------------------------------ snapshots

    def _send_snapshot(self, message: Message) -> None:
        parts, epoch = self.parts, self._epoch
        assert parts is not None
        data = self._transfers.read(message) if self.dials(message.to) else None

        def ended(ok: bool) -> None:
            self._act(epoch, parts.reports.snapshot_sent, (message.to, ok))

        if data is None:
            parts.reports.snapshot_sent(message.to, False)
        else:
            self._network.send_snapshot(message, data, ended)

    def receive_snapshot(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        if self.parts is not None:
            self._act(self._epoch, self._transfers.take, (sender, message, data, arrives_bytes))


class SimulatedTransport:
    """What the driver sends through, in place of `Peers`.

    Args:
        send_snapshot: sends the snapshot that a SNAP message names, and reports how that ended.
    """

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

    def highest_level(self, peer_id: int) -> int | None:
        return self._network.highest_level(self._node_id, peer_id)
