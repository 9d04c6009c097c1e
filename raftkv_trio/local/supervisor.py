"""A cluster on one machine: the Procfile's processes in one nursery, and the verbs that act on each.

Rules of this file:
- a process is the leader of a process group of its own, and signals go to the group: a terminal's Ctrl-C
  reaches only us, and what a shell forked ends with it;
- a run has ended when its leader is reaped and nobody in its group holds its output any more;
- however `run_local` ends, no process that it started is left, save where this program itself gets SIGKILL:
  nothing that every system has tells them then. They run on, and refuse those of the next start their ports.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.local.console import Console
from raftkv_trio.local.control import Reply, Request, open_control_socket, serve_control
from raftkv_trio.local.procfile import check_names, parse_procfile
from raftkv_trio.local.readiness import VARIABLE, wait_told

KILL_GRACE_S = 10.0
VERBS = ("start", "stop", "restart", "list", "status")
_MAX_LINE_BYTES = 64 * 1024
_DRAIN_S = 1.0  # after the end of a process, for what still stands in its pipe
_SIGNALS = {number.value: number.name for number in signal.Signals}


async def run_local(
    procfile: Path,
    names: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: int,
    color: bool,
    stop: trio.Event,
    grace_s: float = KILL_GRACE_S,
) -> int:
    """Run the Procfile's processes until `stop` is set, or all that were started have exited by themselves.

    Args:
        procfile: its directory is where the processes run and where the control socket is.
        names: which to start at once; all where empty. The others can be started by a verb.
        environment: of the processes.
        output: file descriptor for their output; when its reader goes away, all are stopped.
        color: whether names are coloured.
        grace_s: seconds from SIGINT to SIGKILL.

    Returns:
        An exit code: 0 if every process was stopped in time or exited with code 0 when it last ran, else 1.

    Raises:
        ConfigError: no Procfile, a bad one, an unknown name, or a local cluster runs from there already.
        RaftKVError: a process cannot be started.

    Cancellation kills what is still running and leaves nothing behind.
    """
    commands = _read_procfile(procfile)
    first = check_names(names, commands)
    console = Console(output, ["local", *commands], color=color)
    with open_control_socket(procfile.parent) as listening:
        async with trio.open_nursery() as children:
            shared = Shared(
                directory=procfile.parent,
                environment=environment,
                console=console,
                nursery=children,
                grace_s=grace_s,
            )
            cluster = LocalCluster(commands, shared)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(serve_control, listening, cluster.answer)
                await cluster.start(first)
                for end in (stop, console.lost, cluster.exited):
                    tasks.start_soon(_cancel_on, end, tasks.cancel_scope)
            await cluster.stop()
            # What is left are last words, which a halted terminal must not hold up for ever.
            children.cancel_scope.deadline = trio.current_time() + _DRAIN_S
    return 1 if any(process.failed for process in cluster.processes.values()) else 0


class Run:
    """One run of a process, from its start to the end of its output."""

    def __init__(self, leader: trio.Process) -> None:
        self.leader = leader
        self.reading = trio.CancelScope()
        self.ended = trio.Event()
        self.serves = trio.Event()  # or will never say so
        self.awaiting = trio.CancelScope()
        self.stop_signal: signal.Signals | None = None  # the last that was sent
        self.was_killed = False  # because it did not stop in time

    def send_signal(self, number: signal.Signals) -> bool:
        """Signal the whole process group, to stop it; returns whether any of it was left."""
        self.stop_signal = number
        try:
            os.killpg(self.leader.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says the latter where only zombies are left
            return False
        return True

    @property
    def exited_by_itself(self) -> bool:
        """Whether it ended, neither on request nor by a signal."""
        code = self.leader.returncode
        return self.ended.is_set() and self.stop_signal is None and code is not None and code >= 0

    @property
    def failed(self) -> bool:
        """Whether it had to be killed, or ended badly by itself."""
        return self.was_killed or (self.stop_signal is None and self.leader.returncode not in (None, 0))

    def __str__(self) -> str:
        """Such as `running, pid 42`, `stopped, exited with code 0`, `ended by SIGKILL`."""
        code = self.leader.returncode
        if not self.ended.is_set() or code is None:
            return f"running, pid {self.leader.pid}"
        if self.was_killed:
            return "killed, since it did not stop in time"
        if code >= 0:
            how = f"exited with code {code}"
        else:
            how = f"ended by {_SIGNALS.get(-code, f'signal {-code}')}"
        return how if self.stop_signal is None else f"stopped, {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the processes of one Procfile share; see `run_local`."""

    directory: Path
    environment: Mapping[str, str]
    console: Console
    nursery: trio.Nursery
    grace_s: float


class LocalProcess:
    """One process of the Procfile over all its runs; its methods may be called from several tasks at once."""

    def __init__(self, name: str, command: str, shared: Shared, on_end: Callable[[], None]) -> None:
        self.name = name
        self.run: Run | None = None  # the latest
        self._command = command
        self._house = shared
        self._on_end = on_end
        self._starting = trio.Lock()

    @property
    def is_running(self) -> bool:
        return self.run is not None and not self.run.ended.is_set()

    @property
    def failed(self) -> bool:
        """Whether its latest run ended badly; False where there was none."""
        return self.run is not None and self.run.failed

    def __str__(self) -> str:
        return "not started" if self.run is None else str(self.run)

    async def start(self) -> str:
        """Start it unless it runs; returns a sentence once it is a process.

        Raises RaftKVError where the system refuses. Cancellation may leave it running in its nursery.
        """
        async with self._starting:
            if self.is_running:
                return f"{self.name} is already {self}"
            try:
                await self._house.nursery.start(self._run)
            except OSError as error:
                raise RaftKVError(f"cannot start {self.name}: {error}") from error
            return f"{self.name} is {self}"

    async def bring_up(self) -> str:
        """Start it unless it runs, and wait until it serves where it is a node of ours; returns a sentence.

        Raises RaftKVError where it cannot be started or ends before it serves; is cancelled as `start`.
        """
        sentence = await self.start()
        run = self.run
        if run is not None and _is_node(self._command):
            with trio.move_on_after(self._house.grace_s):
                await run.serves.wait()
                if run.ended.is_set():
                    raise RaftKVError(f"{self.name} {run}")
                return sentence
            return f"{sentence}, but does not serve yet"
        return sentence

    async def stop(self, stop_signal: signal.Signals = signal.SIGINT) -> str:
        """Signal it, kill it after the grace, and return a sentence once it has ended.

        One that is being stopped already gets no other signal than SIGKILL: a second one would make a node
        give up its clean stop. Cancellation leaves it signalled.
        """
        async with self._starting:  # one that is just being started is stopped too
            run = self.run
        if run is None or run.ended.is_set():
            return f"{self.name} is not running"
        if run.stop_signal is None or stop_signal is signal.SIGKILL:
            run.send_signal(stop_signal)
        with trio.move_on_after(self._house.grace_s):
            await run.ended.wait()
        if not run.ended.is_set():
            if run.send_signal(signal.SIGKILL):
                run.was_killed = True
            with trio.move_on_after(_DRAIN_S):
                await run.ended.wait()
            run.reading.cancel()  # who still holds the pipe has left the group, or the terminal is halted
            await run.ended.wait()
        return f"{self.name} {run}"

    async def restart(self, stop_signal: signal.Signals = signal.SIGINT) -> str:
        """Stop it if it runs, then bring it up; returns, raises and is cancelled as those."""
        await self.stop(stop_signal)
        return await self.bring_up()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        readiness, told = os.pipe()
        try:
            leader = await trio.lowlevel.open_process(
                _in_place(self._command, self._house.environment),
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._house.directory,
                env={**self._house.environment, VARIABLE: str(told)},
                pass_fds=(told,),
                process_group=0,
            )
        except BaseException:
            os.close(readiness)
            raise
        finally:
            os.close(told)
        self.run = run = Run(leader)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_readiness, run, readiness)
                nursery.start_soon(self._copy_output, run)
                task_status.started()
                await leader.wait()
                run.awaiting.cancel()  # what it forked may hold the pipe
        except BaseException:
            run.send_signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):  # bounded: it was killed
                await leader.wait()
            raise
        finally:
            run.ended.set()
            run.serves.set()
            self._on_end()
        await self._house.console.say(f"{self.name} {run}")

    async def _await_readiness(self, run: Run, fd: int) -> None:
        with run.awaiting:
            if await wait_told(fd):  # else it has closed the pipe, and ends, most likely
                run.serves.set()

    async def _copy_output(self, run: Run) -> None:
        stream = run.leader.stdout
        assert stream is not None  # it was asked for
        rest = b""
        with run.reading:
            async with stream:
                await self._house.console.say(f"{self.name} is {run}")
                async for received in stream:
                    *lines, rest = (rest + received).split(b"\n")
                    if len(rest) > _MAX_LINE_BYTES:
                        lines, rest = [*lines, rest], b""
                    if lines:
                        await self._house.console.write(self.name, lines)
            if rest:
                await self._house.console.write(self.name, [rest])


class LocalCluster:
    """The processes of a Procfile by name, and the answers to goreman's verbs."""

    def __init__(self, commands: Mapping[str, str], shared: Shared) -> None:
        self.exited = trio.Event()  # all that were started have exited by themselves
        self._is_started = False
        self.processes = {
            name: LocalProcess(name, command, shared, self._note_end) for name, command in commands.items()
        }

    async def start(self, names: Iterable[str]) -> None:
        """Start these, the first ones; raises RaftKVError. Cancellation leaves running what is."""
        for name in names:
            await self.processes[name].start()
        self._is_started = True
        self._note_end()

    async def answer(self, request: Request) -> Reply:
        """Do what is asked, and answer when it is done.

        Raises ConfigError for an unknown verb or name, RaftKVError where a process cannot be started.
        Cancellation leaves done what was done.
        """
        processes = [self.processes[name] for name in check_names(request.names, self.processes)]
        calls: list[Callable[[], Awaitable[str]]]
        match request.verb:
            case "list":
                return Reply("\n".join(process.name for process in processes))
            case "status":
                width = max(len(process.name) for process in processes)
                rows = [f"{'*' if p.is_running else ' '}{p.name:<{width}}  {p}" for p in processes]
                return Reply("\n".join(rows))
            case "start":
                calls = [process.bring_up for process in processes]
            case "stop":
                calls = [partial(process.stop, request.stop_signal) for process in processes]
            case "restart":
                calls = [partial(process.restart, request.stop_signal) for process in processes]
            case verb:
                raise ConfigError(f"no verb is named {verb!r}; there are {', '.join(VERBS)}")
        return Reply(await _together(calls))

    async def stop(self) -> None:
        """Stop all that run, together. Cancellation leaves them signalled."""
        await _together([process.stop for process in self.processes.values()])

    def _note_end(self) -> None:
        # One that was stopped or killed from outside may be started again by a verb: wait for that.
        runs = [process.run for process in self.processes.values() if process.run is not None]
        if self._is_started and all(run.exited_by_itself for run in runs):
            self.exited.set()


def _read_procfile(procfile: Path) -> dict[str, str]:
    try:
        text = procfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {procfile}: {reason}; name another with --procfile") from error
    return parse_procfile(text)


def _in_place(command: str, environment: Mapping[str, str]) -> str:
    """A simple command shall take the shell's place, so that its pid and exit code are the process's own.

    Some shells do that by themselves, some (Debian's) do not.
    """
    program = shutil.which(command.split()[0], path=environment.get("PATH"))
    return command if program is None or set(command) & set(";&|") else f"exec {command}"


def _is_node(command: str) -> bool:
    return re.search(r"\braftkv[-_]trio\s+serve\b", command) is not None


async def _cancel_on(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _together(calls: Sequence[Callable[[], Awaitable[str]]]) -> str:
    """The calls' sentences, one a line, in the order of the calls; raises what the first failing one does."""
    sentences = [""] * len(calls)
    failure: RaftKVError | None = None

    async def keep(position: int) -> None:
        nonlocal failure
        try:
            sentences[position] = await calls[position]()
        except RaftKVError as error:
            failure = failure or error

    async with trio.open_nursery() as nursery:
        for position in range(len(calls)):
            nursery.start_soon(keep, position)
    if failure is not None:
        raise failure
    return "\n".join(sentences)
