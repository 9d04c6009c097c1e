"""A program in a terminal of its own, as a user has it: what it shows, Ctrl-C, and what it leaves behind."""

import os
import re
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

# Programs beside this interpreter come first, as in an activated virtual environment.
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
DEADLINE_S = 120
TERMINATION_S = 15
_IN_THE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The terminal and the program in it, which leads a session; `shown` is all that was written to it."""

    def __init__(self, process: trio.Process, keyboard: int) -> None:
        self.process = process
        self.shown = ""
        self._keyboard = keyboard

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self._keyboard, b"\x03")

    def session(self) -> list[int]:
        """The pids of all processes of its session, orphans included."""
        return [pid for pid in _pids() if _session_of(pid) == self.process.pid]

    async def read(self, screen: int) -> None:
        async with trio.lowlevel.FdStream(screen) as stream:
            try:
                async for received in stream:
                    self.shown += re.sub(r"\x1b\[\d+m|\r", "", received.decode())
            except trio.BrokenResourceError:
                pass  # what Linux says when the last program has let go of the terminal


@asynccontextmanager
async def open_terminal(command: Sequence[str | Path], directory: Path) -> AsyncIterator[Terminal]:
    """Run a command, which is terminated when the block is left, and its whole session killed after that."""
    ours, theirs = os.openpty()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _IN_THE_TERMINAL, *command],
        cwd=directory,
        env={**os.environ, "PATH": PATH},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(terminal.read, os.dup(ours))
                yield terminal
                nursery.cancel_scope.cancel()
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(TERMINATION_S):
                await process.wait()
            for pid in terminal.session():
                os.kill(pid, signal.SIGKILL)
            await process.wait()
        os.close(ours)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
