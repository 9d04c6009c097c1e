"""A local cluster inside the test: real processes, their output through a pipe, the verbs over the socket."""

import fcntl
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from raftkv_trio.local.control import Reply, Request, call
from raftkv_trio.local.supervisor import KILL_GRACE_S, run_local

# Whoever says hello holds the lock on the file `NAME.alive`, and so do the children that it forks.
PRELUDE = """\
import fcntl, os, signal, subprocess, sys, time
alive = open(sys.argv[1] + ".alive", "w")
fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.set_inheritable(alive.fileno(), True)
def hello():
    print("hello from", os.getpid(), flush=True)
"""
IDLE = "hello(); signal.pause()"


class Supervised:
    """What a test sees of a local cluster: its output, its answers, its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = trio.Event()
        self.ended = trio.Event()
        self.exit_code: int | None = None
        self.output = b""
        self._more = trio.Event()

    @property
    def lines(self) -> list[str]:
        return self.output.decode(errors="replace").split("\n")[:-1]

    async def ask(self, verb: str, *names: str, stop_signal: signal.Signals = signal.SIGINT) -> Reply:
        return await trio.to_thread.run_sync(call, self.directory, Request(verb, names, stop_signal))

    async def wait_output(self, pattern: str) -> list[str]:
        """All matches of the pattern in the output, once there is one."""
        while not (found := re.findall(pattern, self.output.decode(errors="replace"), re.MULTILINE)):
            await self._more.wait()
        return found

    async def pid_of(self, name: str, run: int = 1) -> int:
        """The pid that this process said hello with, in its first run or a later one."""
        while True:
            pids = await self.wait_output(rf"^{name} +\| hello from (\d+)$")
            if len(pids) >= run:
                return int(pids[run - 1])
            await self._more.wait()

    def is_alive(self, name: str) -> bool:
        """Whether the process, or a child of it, holds its lock."""
        with (self.directory / f"{name}.alive").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    async def read(self, fd: int) -> None:
        async with trio.lowlevel.FdStream(fd) as stream:
            async for received in stream:
                self.output += received
                self._more.set()
                self._more = trio.Event()


def write_procfile(directory: Path, scripts: Mapping[str, str]) -> Path:
    """A Procfile of Python scripts that begin with the prelude and get the process's name as argument."""
    lines = []
    for name, script in scripts.items():
        (directory / f"{name}.py").write_text(PRELUDE + script)
        lines.append(f"{name}: {shlex.quote(sys.executable)} {name}.py {name}\n")
    procfile = directory / "Procfile"
    procfile.write_text("".join(lines))
    return procfile


@asynccontextmanager
async def supervised(
    procfile: Path, names: Sequence[str] = (), *, grace_s: float = KILL_GRACE_S
) -> AsyncIterator[Supervised]:
    """Run the Procfile until the block is left, then stop it and wait; all within a minute."""
    seen = Supervised(procfile.parent)
    reader, writer = os.pipe()
    run = partial(
        run_local,
        procfile,
        names,
        environment=os.environ,
        output=writer,
        color=False,
        stop=seen.stop,
        grace_s=grace_s,
    )

    async def run_to_end() -> None:
        try:
            seen.exit_code = await run()
        finally:
            os.close(writer)
            seen.ended.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen.read, reader)
            nursery.start_soon(run_to_end)
            yield seen
            seen.stop.set()
            await seen.ended.wait()
