"""Level 2 of the simulator: `run_node` with all its tasks, on simulated network, disks and clocks.

Whatever a task waits for comes from the timeline of level 1: an event of it happens whenever all tasks wait,
and Trio's clock moves with it. So level 2 has the schedules, faults, clients and checks of level 1.
"""

from collections.abc import Callable
from functools import partial
from random import Random

import trio
import trio.testing

from raftkv_trio.errors import ConfigError, NodeRemoved, StorageError, leaves
from raftkv_trio.node.node import run_node
from raftkv_trio.sync import cancelled_when
from raftkv_trio.testing.simulator.clone import Clone
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation
from raftkv_trio.testing.simulator.stranger_on_streams import StrangerOnStreams
from raftkv_trio.testing.simulator.task_ports import InlineWorker, Process, TaskClock
from raftkv_trio.testing.simulator.watched_machine import WatchedMachine
from raftkv_trio.testing.world.simulated_disk import Halted
from raftkv_trio.testing.world.stream_network import NodeNetwork, StreamNetwork
from raftkv_trio.world import World


class TaskMember(SimulatedMember):
    """A member whose process is `run_node` in a task.

    Attributes:
        nursery: where its processes run.
    """

    nursery: trio.Nursery
    _process: Process | None = None
    _resumed: trio.Event | None = None

    # ------------------------------------------------------------ the process starts and ends

    def start(self) -> None:
        self._epoch += 1
        self.restarts += 1
        self.state = ProcessState.UP
        self.nursery.start_soon(self._run_process)

    def halt(self, *, power: bool) -> None:
        process = self._process
        if process is not None and process.log_write is not None and self._random.random() < 0.8:
            self.disk.halt_at(self._random.choice((0, 1, 1, 2, 5)), power=power)
            try:
                process.log_write()
            except (Halted, OSError, StorageError):
                pass  # as intended: some of what the call writes is there, some is not
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._end_process("loses power" if power else "is killed")

    def halted(self, halted: Halted) -> None:
        """A disk call has halted: the process has ended in the middle of it."""
        self._end_process(f"halts: {halted}")

    def stop(self) -> None:
        if self._process is not None:
            self._note("is stopped")
            self._process.scope.cancel()

    def abandon(self) -> None:
        """End the process when the simulation is over: nobody is told, and nothing more is checked."""
        if self._process is not None:
            self._process.ended.set()
            self._process.scope.cancel()
        self.parts = self.node = None
        self.state = ProcessState.DOWN
        self._wake()

    def _end_process(self, why: str, *, tell: bool = True) -> None:
        """Let the process be gone at once. Its tasks unwind later, and reach nothing.

        Args:
            tell: tell the simulation too, which may start the member again.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.ended.set()
        process.scope.cancel()
        self.disk.kill()
        if self.parts is not None:
            self._process_ended(why)
        else:
            self._note(why)
            self.state = ProcessState.DOWN
            self._network.leave(self.id)
            if tell:
                self._went_down(self)
        self._wake()

    def believes(self, peer_id: int) -> bool:
        # There is no cluster secret, so a member proves itself by the key that it told at the first meeting.
        parts = self.parts
        return parts is not None and super().believes(peer_id) and peer_id in parts.storage.known_keys

    # ------------------------------------------------------------ pauses, and the time of disk calls

    def resume(self) -> None:
        if self.state is ProcessState.PAUSED:
            super().resume()
            self._wake()

    def _wake(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def when_running(self) -> None:
        """Wait while the process is paused. Cancellation leaves nothing behind."""
        while self.state is ProcessState.PAUSED:
            if self._resumed is None:
                self._resumed = trio.Event()
            await self._resumed.wait()

    async def spend_disk_time(self, process: Process) -> None:
        """Wait as long as a disk call takes, or until the process has ended."""
        over = trio.Event()
        self._timeline.after(self._draw_disk_call_s(), over.set)
        async with cancelled_when(process.ended.wait):
            await over.wait()
            await self.when_running()

    # ------------------------------------------------------------ the process's tasks

    async def _run_process(self) -> None:
        process = self._process = Process()
        network = self._network
        assert isinstance(network, StreamNetwork)
        network.join(self.id, self)
        machine = self.make_machine()
        error: Exception | None = None
        try:
            with process.scope:
                await run_node(
                    self.config,
                    WatchedMachine(machine, partial(self._applied, machine)),
                    disk=self.disk,
                    world=World(
                        network=NodeNetwork(self.id, network, self.when_running),
                        clock=TaskClock(self, self.clock),
                        worker=InlineWorker(self, process, writes_log=True),
                        bulk_worker=InlineWorker(self, process, writes_log=False),
                        random=self._random,
                        highest_level=self.highest_level,
                    ),
                    watch=partial(self._has_started, machine=machine),
                )
        except Exception as raised:
            error = raised
        self._tasks_ended(process, error)

    def _tasks_ended(self, process: Process, error: Exception | None) -> None:
        """All tasks of a process have unwound, with an error or without one."""
        for leaf in leaves(error):
            if not isinstance(leaf, (Halted, StorageError, ConfigError, NodeRemoved)):
                raise leaf  # a bug in the node
        if process.has_ended:
            return  # it was ended from outside, and everybody has been told
        if error is None:
            self._end_process("stops")
            return
        first = next(leaves(error))
        if isinstance(first, Halted):  # in a disk call that the start makes without a worker
            self.halted(first)
            return
        if self.parts is None and not isinstance(first.__cause__, OSError):
            self._note(f"does not start: {first}")
            state = self._state_after_refusal(first)
            is_removed = state is ProcessState.REMOVED
            self._end_process("is removed" if is_removed else "refuses its directory", tell=False)
            self.state = state
            return
        self._end_process(f"ends: {first}")


class TaskSimulation(Simulation):
    """A cluster whose nodes run as tasks. `step_until` moves it on, in a Trio run with a MockClock."""

    network_type = StreamNetwork
    member_type = TaskMember

    _nursery: trio.Nursery
    _clones: tuple[Clone, ...] = ()
    _strangers: tuple[StrangerOnStreams, ...] = ()

    @property
    def _task_members(self) -> list[TaskMember]:
        return [member for member in self.members.values() if isinstance(member, TaskMember)]

    def run_in(self, nursery: trio.Nursery) -> None:
        """Have all nodes run in this nursery."""
        self._nursery = nursery
        for member in self._task_members:
            member.nursery = nursery

    def add(self, node: int) -> SimulatedMember:
        member = super().add(node)
        assert isinstance(member, TaskMember)
        member.nursery = self._nursery
        return member

    def run_clone(self, node: int, for_s: float) -> None:
        member = self.members[node]
        assert member.node is not None
        others = [other for other in self.members.values() if other is not member]
        assert isinstance(self.network, StreamNetwork)
        clone = Clone(member, others, network=self.network, timeline=self.timeline, trace=self.trace)
        self._clones += (clone,)
        self._nursery.start_soon(clone.run)
        self.timeline.after(for_s, clone.end)

    def run_stranger(self, for_s: float) -> None:
        def victims() -> list[SimulatedMember]:
            return [member for member in self.members.values() if member.parts is not None]

        assert isinstance(self.network, StreamNetwork)
        random = Random(f"stranger {self.random.getrandbits(64)}")
        stranger = StrangerOnStreams(self.network, random, victims)
        self._strangers += (stranger,)
        self._nursery.start_soon(stranger.run)
        self.timeline.after(for_s, stranger.end)

    def abandon(self) -> None:
        """End all processes, wherever they are: the simulation is over."""
        for stranger in self._strangers:
            stranger.end()
        for member in self._task_members:
            member.abandon()
        for clone in self._clones:
            clone.abandon()

    async def step_until(self, deadline: float, condition: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until a moment of virtual time, or until `condition` holds.

        Cancellation leaves the simulation between two events.
        """
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        while True:
            await trio.testing.wait_all_tasks_blocked()
            for member in self._task_members:
                member.run_polls()
            if condition():
                return
            if self.timeline.next_at > deadline:
                self.timeline.run_until(deadline)
                return
            clock.jump(max(0.0, self.timeline.next_at - clock.current_time()))
            self.timeline.step()
