"""Level 2 of the simulator: `run_node` as it is, with all its tasks, on simulated network, disk and clocks.

Everything waits for the timeline of level 1, which is moved on to its next event whenever all tasks wait, and
Trio's own clock with it. So schedules, faults, clients and checkers are those of level 1.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar, TypeVarTuple

import trio
import trio.testing

from raftkv_trio.errors import ConfigError, NodeRemoved, StorageError
from raftkv_trio.node.applier import Restore
from raftkv_trio.node.log_writer import Write
from raftkv_trio.node.node import run_node
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.state_machine import Committed, StateMachine
from raftkv_trio.sync import cancelled_when
from raftkv_trio.testing.simulator.simulated_member import MemberClock, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation
from raftkv_trio.testing.simulator.watched_machine import WatchedMachine
from raftkv_trio.testing.world.simulated_disk import Halted
from raftkv_trio.testing.world.stream_network import NodeNetwork, StreamNetwork
from raftkv_trio.world import World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Life:
    """What a process has from its start to its end."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self.writing: Callable[[], object] | None = None  # a disk call under way

    @property
    def is_over(self) -> bool:
        return self.ended.is_set()


class InlineWorker:
    """The `Worker` port: each call takes its virtual time and then happens at once; after a halt none."""

    def __init__(self, member: "TaskMember", life: Life, *, writes_log: bool) -> None:
        self._member = member
        self._life = life
        self._writes_log = writes_log
        self._lock = trio.Lock()

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        async with self._lock:
            if self._writes_log:
                self._life.writing = partial(fn, *args)
            with trio.CancelScope(shield=True):
                await self._member.spend_disk_time(self._life)
            self._life.writing = None
            if self._life.is_over:
                raise Halted("the process has ended")
            try:
                return fn(*args)
            except Halted as halted:
                self._member.halted(halted)
                raise


class TaskClock(MemberClock):
    """A node's clock, for which its tasks wait on the timeline."""

    def __init__(self, member: "TaskMember", clock: MemberClock) -> None:
        super().__init__(clock._timeline)
        self._member = member
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep_until(self, deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        while wait_s := self._clock.virtual_s_until(deadline):
            over = trio.Event()
            self._timeline.after(wait_s, over.set)
            await over.wait()
        await self._member.when_running()


class TaskMember(SimulatedMember):
    """One node: its tasks, and the machine room around them."""

    nursery: trio.Nursery
    _current: Life | None = None
    _resumed: trio.Event | None = None

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Let `run_node` begin."""
        self._life += 1
        self.restarts += 1
        self.state = ProcessState.UP
        self.nursery.start_soon(self._live)

    def halt(self, *, power: bool) -> None:
        """End at once, in the middle of the disk call under way if there is one."""
        life = self._current
        if life is not None and life.writing is not None and self._random.random() < 0.8:
            self.disk.halt_at(self._random.choice((0, 1, 1, 2, 5)), power=power)
            try:
                life.writing()
            except (Halted, OSError, StorageError):
                pass  # that is the point; what was written stays or not
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._die("loses power" if power else "is killed")

    def halted(self, halted: Halted) -> None:
        """A disk call was the last."""
        self._die(f"halts: {halted}")

    def stop(self) -> None:
        """A clean stop, without the time to hand over."""
        if self._current is not None:
            self._note("is stopped")
            self._current.scope.cancel()

    def resume(self) -> None:
        if self.state is ProcessState.PAUSED:
            super().resume()
            self._wake()

    async def when_running(self) -> None:
        """Wait while the process is paused."""
        while self.state is ProcessState.PAUSED:
            if self._resumed is None:
                self._resumed = trio.Event()
            await self._resumed.wait()

    async def spend_disk_time(self, life: Life) -> None:
        """What a disk call takes; it ends early where the process does."""
        over = trio.Event()
        self._timeline.after(self._disk_call_s(), over.set)
        async with cancelled_when(life.ended.wait):
            await over.wait()
            await self.when_running()

    # ------------------------------------------------------------ the node's tasks

    async def _live(self) -> None:
        life = self._current = Life()
        network = self._network
        assert isinstance(network, StreamNetwork)
        network.join(self.id, self)
        machine = self._make_machine()
        error: Exception | None = None
        try:
            with life.scope:
                await run_node(
                    self.config,
                    WatchedMachine(machine, partial(self._told_in, life)),
                    disk=self.disk,
                    world=World(
                        network=NodeNetwork(self.id, network, self.when_running),
                        clock=TaskClock(self, self.clock),
                        worker=InlineWorker(self, life, writes_log=True),
                        bulk_worker=InlineWorker(self, life, writes_log=False),
                        random=self._random,
                    ),
                    watch=partial(self._watch, life, machine),
                )
        except Exception as raised:
            error = raised
        self._ended(life, error)

    def _ended(self, life: Life, error: Exception | None) -> None:
        for leaf in _leaves(error):
            if not isinstance(leaf, (Halted, StorageError, ConfigError, NodeRemoved)):
                raise leaf
        if life.is_over:
            return  # the world has been told
        if error is None:
            self._die("stops")
            return
        first = next(_leaves(error))
        if self.node is None and not isinstance(first.__cause__, OSError):
            self._note(f"does not start: {first}")
            state = self._refused(first)
            self._die("is removed" if state is ProcessState.REMOVED else "refuses its directory", tell=False)
            self.state = state
            return
        self._die(f"ends: {first}")

    def _watch(self, life: Life, machine: StateMachine, parts: NodeParts) -> None:
        def turned() -> None:
            if not life.is_over:
                self._observe(parts)

        def tell_of(write: Write) -> None:
            if not life.is_over:
                self._tell_of(write)

        def tell_of_restore(restore: Restore) -> None:
            if not life.is_over:
                self._tell_of_restore(restore)

        parts.driver.on_turned = turned
        parts.log_writer.on_written = tell_of
        parts.applier.on_restored = tell_of_restore
        self._has_started(parts, machine)

    def _told_in(self, life: Life, committed: Committed, state: str) -> None:
        if not life.is_over:
            self._told(committed, state)

    def _die(self, why: str, *, tell: bool = True) -> None:
        """The process is there no more; its tasks unwind, and reach nothing."""
        life, self._current = self._current, None
        if life is None:
            return
        life.ended.set()
        life.scope.cancel()
        self.disk.kill()
        if self.node is not None:
            self._end(why)
        else:
            self._note(why)
            self.state = ProcessState.DOWN
            self._network.leave(self.id)
            if tell:
                self._went_down(self)
        self._wake()

    def abandon(self) -> None:
        """Let all tasks unwind; nobody is told."""
        if self._current is not None:
            self._current.ended.set()
            self._current.scope.cancel()
        self.state = ProcessState.DOWN
        self._wake()

    def _wake(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None


class TaskSimulation(Simulation):
    """A cluster whose nodes run as tasks; to be stepped within a Trio run with a MockClock."""

    network_type = StreamNetwork
    member_type = TaskMember

    _nursery: trio.Nursery

    def run_in(self, nursery: trio.Nursery) -> None:
        """Let nodes run there."""
        self._nursery = nursery
        for member in self.members.values():
            assert isinstance(member, TaskMember)
            member.nursery = nursery

    def add(self, node: int) -> SimulatedMember:
        member = super().add(node)
        assert isinstance(member, TaskMember)
        member.nursery = self._nursery
        return member

    def abandon(self) -> None:
        """Time has ended: so have all processes, wherever they are."""
        for member in self.members.values():
            assert isinstance(member, TaskMember)
            member.abandon()

    async def step_until(self, deadline: float, condition: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until a moment, or until `condition` holds."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        while True:
            await trio.testing.wait_all_tasks_blocked()
            for member in self.members.values():
                assert isinstance(member, TaskMember)
                member.run_polls()
            if condition():
                return
            if self.timeline.next_at > deadline:
                self.timeline.run_until(deadline)
                return
            clock.jump(max(0.0, self.timeline.next_at - clock.current_time()))
            self.timeline.step()


def _leaves(error: BaseException | None) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif error is not None:
        yield error
