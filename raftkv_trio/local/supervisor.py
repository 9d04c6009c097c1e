"""A cluster on one machine: the Procfile's processes in one nursery, and the verbs that act on each.

However `run_local` ends, no process that it started is left, with one exception: nothing that all systems
have tells the processes if this program itself gets SIGKILL. Then they go on running, and hold the ports that
the next start needs.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import trio

from raftkv_trio.client.status import survey
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.local.console import Console
from raftkv_trio.local.control import Reply, Request, open_control_socket, serve_control
from raftkv_trio.local.process import DRAIN_S, LocalProcess, ProcessContext
from raftkv_trio.local.procfile import (
    check_names,
    client_addresses,
    curl_command,
    read_procfile,
    trust_of_nodes,
)
from raftkv_trio.sync import wait_any

KILL_GRACE_S = 10.0
LEADER_WITHIN_S, ANSWER_WITHIN_S, ASK_EVERY_S = 30.0, 1.0, 0.2
VERBS = ("start", "stop", "restart", "list", "status")


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
        procfile: its directory is where the processes run, and has the control socket.
        names: the processes to start at once; empty means all. A verb can start the others later.
        environment: of the processes.
        output: file descriptor for their output; if its reader closes it, all processes are stopped.
        color: whether names are coloured.
        grace_s: seconds from SIGINT to SIGKILL.

    Returns:
        An exit code: 0 if every process was stopped in time or exited with code 0 when it last ran, else 1.

    Raises:
        ConfigError: the Procfile is missing or malformed, a name is not in it, or a local cluster already
            runs from its directory.
        RaftKVError: a process cannot be started.

    Cancellation kills the processes and leaves nothing behind.
    """
    commands = read_procfile(procfile)
    first = check_names(names, commands)
    console = Console(output, ["local", *commands], color=color)
    with open_control_socket(procfile.parent) as listening:
        async with trio.open_nursery() as children:
            context = ProcessContext(
                directory=procfile.parent,
                environment=environment,
                console=console,
                nursery=children,
                grace_s=grace_s,
            )
            cluster = LocalCluster(commands, context)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(serve_control, listening, cluster.answer)
                await cluster.start(first)
                tasks.start_soon(_say_who_leads, cluster, first, commands, procfile.parent, console)
                await wait_any(stop, console.lost, cluster.exited)
                tasks.cancel_scope.cancel()
            await cluster.stop()
            # Only the last output is left to copy; a terminal that takes none must not hold up the end.
            children.cancel_scope.deadline = trio.current_time() + DRAIN_S
    return 1 if any(process.failed for process in cluster.processes.values()) else 0


class LocalCluster:
    """The processes of a Procfile by name, and goreman's verbs on them.

    Attributes:
        exited: set when all processes that were started have exited by themselves.
        processes: by name, in the Procfile's order.
    """

    def __init__(self, commands: Mapping[str, str], context: ProcessContext) -> None:
        self.exited = trio.Event()
        self._is_started = False
        self.processes = {
            name: LocalProcess(name, command, context, self._note_end) for name, command in commands.items()
        }

    async def start(self, names: Iterable[str]) -> None:
        """Start the first processes; raises RaftKVError. Cancellation does not stop those already started."""
        for name in names:
            await self.processes[name].start()
        self._is_started = True
        self._note_end()

    async def answer(self, request: Request) -> Reply:
        """Do what a request asks, and answer when it is done.

        Raises ConfigError for an unknown verb or name, RaftKVError if a process cannot be started.
        Cancellation does not undo what was already done.
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
                raise ConfigError(f"there is no verb {verb!r}; use one of {', '.join(VERBS)}")
        return Reply(await _together(calls))

    async def stop(self) -> None:
        """Stop all processes that run, at the same time. See `LocalProcess.stop`."""
        await _together([process.stop for process in self.processes.values()])

    def _note_end(self) -> None:
        # A process that was stopped, or killed from outside, may be started again by a verb.
        runs = [process.run for process in self.processes.values() if process.run is not None]
        if self._is_started and all(run.exited_by_itself for run in runs):
            self.exited.set()


async def _say_who_leads(
    cluster: LocalCluster,
    names: Iterable[str],
    commands: Mapping[str, str],
    directory: Path,
    console: Console,
) -> None:
    """Once the nodes among these processes serve, say which of them leads, and a command to try."""
    addresses, trust = client_addresses(commands), trust_of_nodes(commands, directory)
    nodes = [name for name in names if name in addresses]
    for name in nodes:
        run = cluster.processes[name].run
        assert run is not None  # it was started
        await run.ready.wait()
    with trio.move_on_after(LEADER_WITHIN_S):
        while nodes:
            try:
                reports = await survey([addresses[name] for name in nodes], ANSWER_WITHIN_S, trust)
            except RaftKVError:
                reports = []  # they have ended, or are being replaced; each of them says so itself
            for report in reports:
                if report.role == "leader":
                    url = report.client_url or addresses[nodes[0]].url
                    curl = curl_command(url, trust)
                    await console.say(f"node {report.id} leads; try: {curl}/my-key -XPUT -d hello")
                    return
            await trio.sleep(ASK_EVERY_S)


async def _together(calls: Sequence[Callable[[], Awaitable[str]]]) -> str:
    """Make all calls at the same time; their sentences, one a line. Raises the first error."""
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
