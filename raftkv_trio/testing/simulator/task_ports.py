"""What the tasks of a simulated process wait at, at level 2: disk calls and the clock."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from raftkv_trio.testing.simulator.simulated_member import MemberClock
from raftkv_trio.testing.world.simulated_disk import Halted

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Process:
    """One process of a member, from its start to its end.

    Attributes:
        ended: set when it has ended; its tasks may still unwind then, and reach nothing.
        scope: of all its tasks.
        log_write: the disk call of the log writer under way; None if there is none.
    """

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self.log_write: Callable[[], object] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.ended.is_set()


class Host(Protocol):
    """Where a process runs."""

    async def when_running(self) -> None:
        """Wait while the process is paused. Cancellation leaves nothing behind."""
        ...

    async def spend_disk_time(self, process: Process) -> None:
        """Wait as long as a disk call takes, or until the process has ended."""
        ...

    def halted(self, halted: Halted) -> None:
        """A disk call has halted: the process has ended in the middle of it."""
        ...


class InlineWorker:
    """The `Worker` port without a thread: a call takes virtual time, and is then made in the event loop.

    After the end of the process no call is made.

    Args:
        writes_log: whether it is the log writer's.
    """

    def __init__(self, host: Host, process: Process, *, writes_log: bool) -> None:
        self._host = host
        self._process = process
        self._writes_log = writes_log
        self._lock = trio.Lock()

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        async with self._lock:
            if self._writes_log:
                self._process.log_write = partial(fn, *args)
            with trio.CancelScope(shield=True):
                await self._host.spend_disk_time(self._process)
            self._process.log_write = None
            if self._process.has_ended:
                raise Halted("the process has ended")
            try:
                return fn(*args)
            except Halted as halted:
                self._host.halted(halted)
                raise


class TaskClock(MemberClock):
    """The `Clock` port: a member's clock, for which its tasks wait on the timeline."""

    def __init__(self, host: Host, clock: MemberClock) -> None:
        super().__init__(clock._timeline)
        self._host = host
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep_until(self, deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        while wait_s := self._clock.virtual_s_until(deadline):
            over = trio.Event()
            self._timeline.after(wait_s, over.set)
            await over.wait()
        await self._host.when_running()
