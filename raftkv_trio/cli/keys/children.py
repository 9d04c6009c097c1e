"""Commands that a command runs, and the signals that are passed on to them."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import trio

from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import printable

#: How long a command that is to end may take.
GRACE_S = 10.0


class Children:
    """Runs commands. `follow_signals` must run meanwhile.

    Attributes:
        number: of the first signal that has arrived; None: there was none.
        signalled: set when there was one.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.signalled = trio.Event()
        self._received: list[int] = []
        self._starting = 0
        self._running: set[trio.Process] = set()
        self._ended = trio.lowlevel.ParkingLot()

    async def wait_over(self) -> None:
        """Return when there was a signal, and no command runs any more."""
        await self.signalled.wait()
        while self._running or self._starting:
            await self._ended.park()

    async def follow_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Pass SIGINT, SIGTERM and SIGHUP on to the commands that run; until cancelled.

        SIGHUP is what a terminal sends that is closed. If it is ignored, as under `nohup`, it stays so.
        """
        numbers = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.add(signal.SIGHUP)
        with trio.open_signal_receiver(*numbers) as received:
            task_status.started()
            async for number in received:
                self._received.append(number)
                for process in self._running:
                    _pass_on(number, process)
                self.number = self.number or number
                self.signalled.set()

    async def run(
        self, command: Sequence[str], variables: Mapping[str, bytes], *, has_input: bool = False
    ) -> int:
        """Run a command to its end; its exit code, or that of a shell if a signal has ended it.

        Args:
            variables: that it has besides those of this process.
            has_input: whether it has this process's standard input.

        Raises ConfigError if it cannot be run. Cancellation ends it by SIGTERM, or SIGKILL `GRACE_S` later.
        """
        environment = {**os.environb, **{name.encode(): value for name, value in variables.items()}}
        known = len(self._received)
        self._starting += 1
        try:
            process = await trio.lowlevel.open_process(
                command,
                env={os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
                stdin=None if has_input else subprocess.DEVNULL,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"cannot run {printable(command[0])}: {reason}") from error
        finally:
            self._starting -= 1
            self._ended.unpark_all()
        self._running.add(process)
        for number in self._received[known:]:  # it may run for some time before this task knows it
            _pass_on(number, process)
        try:
            code = await process.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(GRACE_S):
                    await process.wait()
                process.kill()
                await process.wait()
            raise
        finally:
            self._running.discard(process)
            self._ended.unpark_all()
        return code if code >= 0 else 128 - code


def _pass_on(number: int, process: trio.Process) -> None:
    if not (number == signal.SIGINT and _has_the_terminal()):
        process.send_signal(number)


def _has_the_terminal() -> bool:
    """Whether this process is in the foreground of a terminal: Ctrl-C there reaches its commands, too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
