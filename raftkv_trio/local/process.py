"""One process of a local cluster: started, watched until it is ready, stopped, its output copied.

Rules of this module:
- a process leads a process group of its own, and every signal goes to the group: a terminal's Ctrl-C does not
  reach it, and what its shell forked ends with it;
- a run ends when its leader is reaped and no process of the group holds its output open.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from raftkv_trio.errors import RaftKVError
from raftkv_trio.foreign_text import escaped
from raftkv_trio.local.console import Console
from raftkv_trio.local.procfile import is_node
from raftkv_trio.local.readiness import VARIABLE, wait_told

#: How long a node may take until it serves: on a busy machine its start reads the log and makes a segment.
READY_WITHIN_S = 60.0
DRAIN_S = 1.0  # after the end of a process, for the output that is still in its pipe
_MAX_LINE_BYTES = 64 * 1024
_MAX_LAST_WORDS = 2000
_PROGRAM_SAYS = "raftkv-trio: "
_SIGNALS = {number.value: number.name for number in signal.Signals}


class ProcessRun:
    """One run of a process, from its start to the end of its output."""

    def __init__(self, leader: trio.Process) -> None:
        self.leader = leader
        self.reading = trio.CancelScope()
        self.ended = trio.Event()
        self.ready = trio.Event()  # it serves, or has ended
        self.awaiting_ready = trio.CancelScope()
        self.stop_signal: signal.Signals | None = None  # the last one that was sent
        self.was_killed = False  # because it did not stop in time
        self.last_line = b""  # of its output

    def send_signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process group, to stop it; returns whether a process was left to get it."""
        self.stop_signal = number
        try:
            os.killpg(self.leader.pid, number)
        except (ProcessLookupError, PermissionError):  # PermissionError: on macOS, only zombies are left
            return False
        return True

    @property
    def exited_by_itself(self) -> bool:
        """Whether it ended by itself: not on request, and not by a signal from outside."""
        code = self.leader.returncode
        return self.ended.is_set() and self.stop_signal is None and code is not None and code >= 0

    @property
    def failed(self) -> bool:
        """Whether it had to be killed, or ended by itself with a signal or an exit code other than 0."""
        return self.was_killed or (self.stop_signal is None and self.leader.returncode not in (None, 0))

    @property
    def last_words(self) -> str:
        """Its last line of output, in a form that a terminal can show: most likely why it has ended."""
        text = self.last_line[:_MAX_LAST_WORDS].decode(errors="replace").strip()
        return escaped(text.removeprefix(_PROGRAM_SAYS))

    def __str__(self) -> str:
        """For example `running, pid 42`, `stopped, exited with code 0`, `ended by SIGKILL`."""
        code = self.leader.returncode
        if not self.ended.is_set() or code is None:
            return f"running, pid {self.leader.pid}"
        if self.was_killed:
            return "killed because it did not stop in time"
        if code >= 0:
            how = f"exited with code {code}"
        else:
            how = f"ended by {_SIGNALS.get(-code, f'signal {-code}')}"
        return how if self.stop_signal is None else f"stopped, {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """What all processes of one Procfile have in common.

    Attributes:
        directory: in which they run.
        console: where their output goes.
        nursery: in which their tasks run; its end is the end of all processes.
        grace_s: seconds that a process has to stop before it is killed.
        ready_s: seconds that a node has to serve before `bring_up` fails.
    """

    directory: Path
    environment: Mapping[str, str]
    console: Console
    nursery: trio.Nursery
    grace_s: float
    ready_s: float = READY_WITHIN_S


class LocalProcess:
    """A process of the Procfile over all its runs. Several tasks may call its methods at the same time."""

    def __init__(self, name: str, command: str, context: ProcessContext, on_end: Callable[[], None]) -> None:
        self.name = name
        self.run: ProcessRun | None = None  # the latest one
        self._command = command
        self._context = context
        self._on_end = on_end
        self._starting = trio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.run is not None and not self.run.ended.is_set()

    @property
    def failed(self) -> bool:
        """Whether its latest run failed; False if it was never started."""
        return self.run is not None and self.run.failed

    def __str__(self) -> str:
        return "not started" if self.run is None else str(self.run)

    async def start(self) -> str:
        """Start it unless it runs; returns a sentence when the process exists.

        Raises RaftKVError if the system refuses. Cancellation may leave it running in its nursery.
        """
        async with self._starting:
            if self.is_running:
                return f"{self.name} is already {self}"
            try:
                await self._context.nursery.start(self._run)
            except OSError as error:
                raise RaftKVError(f"cannot start {self.name}: {error}") from error
            return f"{self.name} is {self}"

    async def bring_up(self) -> str:
        """Start it unless it runs, and if it is a node, wait until it serves; returns a sentence.

        Raises RaftKVError if it cannot be started, ends before it serves, or does not serve in time; then it
        goes on, as after a cancellation.
        """
        sentence = await self.start()
        run = self.run
        if run is not None and is_node(self._command):
            within_s = self._context.ready_s
            with trio.move_on_after(within_s) as waiting:
                await run.ready.wait()
            if run.ended.is_set():
                # Who asked may sit at another terminal than the one that has the output.
                raise RaftKVError(f"{self.name} {run}" + (f": {run.last_words}" if run.last_words else ""))
            if waiting.cancelled_caught:
                raise RaftKVError(
                    f"{self.name} is {run}, but does not serve after {within_s:g} s; its output,"
                    " at the terminal of local start, says why"
                )
        return sentence

    async def stop(self, stop_signal: signal.Signals = signal.SIGINT) -> str:
        """Signal it, kill it after the grace period, and return a sentence when it has ended.

        A process that is already stopping gets no signal other than SIGKILL: a second SIGINT would make a
        node abandon its clean stop. After cancellation the process has the signal, and may still run.
        """
        async with self._starting:  # a process that is being started is stopped too
            run = self.run
        if run is None or run.ended.is_set():
            return f"{self.name} is not running"
        if run.stop_signal is None or stop_signal is signal.SIGKILL:
            run.send_signal(stop_signal)
        with trio.move_on_after(self._context.grace_s):
            await run.ended.wait()
        if not run.ended.is_set():
            if run.send_signal(signal.SIGKILL):
                run.was_killed = True
            with trio.move_on_after(DRAIN_S):
                await run.ended.wait()
            # The pipe is held open by a process that left the group, or the terminal takes no output.
            run.reading.cancel()
            await run.ended.wait()
        return f"{self.name} {run}"

    async def restart(self, stop_signal: signal.Signals = signal.SIGINT) -> str:
        """`stop` it if it runs, then `bring_up`; returns, raises and is cancelled as these."""
        await self.stop(stop_signal)
        return await self.bring_up()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        readiness, told = os.pipe()
        try:
            leader = await trio.lowlevel.open_process(
                _in_place(self._command, self._context.environment),
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._context.directory,
                env={**self._context.environment, VARIABLE: str(told)},
                pass_fds=(told,),
                process_group=0,
            )
        except BaseException:
            os.close(readiness)
            raise
        finally:
            os.close(told)
        self.run = run = ProcessRun(leader)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_ready, run, readiness)
                nursery.start_soon(self._copy_output, run)
                task_status.started()
                await leader.wait()
                run.awaiting_ready.cancel()  # a process that it forked may hold that pipe open
        except BaseException:
            run.send_signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):  # this is short: SIGKILL cannot be ignored
                await leader.wait()
            raise
        finally:
            run.ended.set()
            run.ready.set()
            self._on_end()
        await self._context.console.say(f"{self.name} {run}")

    async def _await_ready(self, run: ProcessRun, fd: int) -> None:
        with run.awaiting_ready:
            if await wait_told(fd):  # False: it closed the pipe, most likely because it ends
                run.ready.set()

    async def _copy_output(self, run: ProcessRun) -> None:
        stream = run.leader.stdout
        assert stream is not None  # stdout=PIPE
        rest = b""
        with run.reading:
            async with stream:
                await self._context.console.say(f"{self.name} is {run}")
                async for received in stream:
                    *lines, rest = (rest + received).split(b"\n")
                    if len(rest) > _MAX_LINE_BYTES:
                        lines, rest = [*lines, rest], b""
                    if lines:
                        run.last_line = lines[-1]
                        await self._context.console.write(self.name, lines)
            if rest:
                run.last_line = rest
                await self._context.console.write(self.name, [rest])


def _in_place(command: str, environment: Mapping[str, str]) -> str:
    """The command with `exec` before it if it is a simple command.

    It then takes the place of the shell, so that its pid and exit code are those of the process. Some shells
    do this by themselves, others (Debian's dash) do not.
    """
    program = shutil.which(command.split()[0], path=environment.get("PATH"))
    return command if program is None or set(command) & set(";&|") else f"exec {command}"
