"""`raftkv-trio bench`: load on a running cluster, and how fast the cluster carries it."""

import resource
import signal
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from raftkv_trio.cli.shared_flags import (
    ask_members,
    endpoints_option,
    integer_from,
    option,
    trust_options,
    write_out_option,
)
from raftkv_trio.errors import ConfigError, RaftKVError

if TYPE_CHECKING:
    import trio

    from raftkv_trio.addresses import ClientAddress
    from raftkv_trio.client.load.load import Load
    from raftkv_trio.client.load.tally import Tally
    from raftkv_trio.client.load.targets import Targets
    from raftkv_trio.client.login import Login
    from raftkv_trio.tls.clients import Trust

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RESERVED_FILES = 50  # for what is no client: Python, the terminal, signals

#: An option of this command alone, which no environment variable sets.
_own_option = partial(option, allow_from_autoenv=False)


@click.command(context_settings=_CONTEXT)
@endpoints_option
@trust_options
@write_out_option
@option("--timeout", metavar="SECONDS", type=float, default=10.0, help="Time limit for each answer.")
@_own_option(
    "--clients",
    metavar="N",
    type=integer_from(1),
    default=64,
    help="Clients, each with a connection of its own and one request at a time.",
)
@_own_option(
    "--value-size",
    "value_bytes",
    metavar="BYTES",
    type=integer_from(0),
    default=100,
    help="Size of each value.",
)
@_own_option(
    "--keys",
    metavar="N",
    type=integer_from(1),
    default=1000,
    help="Keys, one of which each request draws at random.",
)
@_own_option(
    "--duration",
    "duration_s",
    metavar="SECONDS",
    type=float,
    default=10.0,
    help="How long the load goes on.",
)
@_own_option(
    "--reads",
    "read_percent",
    metavar="PERCENT",
    type=integer_from(0, most=100),
    default=90,
    help="For `mixed`: how many of 100 requests are GETs.",
)
@click.option(
    "--all-members",
    is_flag=True,
    allow_from_autoenv=False,
    help="Spread the clients over all members instead of the leader alone.",
)
@click.argument("operation", metavar="put|get|mixed", type=click.Choice(["put", "get", "mixed"]))
def bench(
    endpoints: tuple[str, ...],
    trust: "Trust",
    write_out: str,
    timeout: float,
    clients: int,
    value_bytes: int,
    keys: int,
    duration_s: float,
    read_percent: int,
    all_members: bool,
    operation: str,
) -> int:
    """Measure how fast the cluster carries a load.

    The load goes to the leader, and follows it if another member becomes the leader. It writes to the keys
    /bench/0, /bench/1 and so on, and leaves them in the store; `get` and `mixed` write all of them before
    they begin. Percentiles and MAX are of the requests that succeeded. Ctrl-C ends the load early, and what
    was measured until then is shown.

    The exit code is 0 if requests succeeded, also if others failed.
    """
    from raftkv_trio.client.load.load import Load
    from raftkv_trio.client.load.report import as_json, as_text
    from raftkv_trio.client.load.tally import Tally

    given = click.get_current_context().get_parameter_source("read_percent")
    if operation != "mixed" and given is not ParameterSource.DEFAULT:
        raise ConfigError(f"--reads applies to mixed only; leave it out for {operation}")
    load = Load(
        operation=operation,
        clients=clients,
        value_bytes=value_bytes,
        keys=keys,
        duration_s=duration_s,
        read_percent=read_percent,
        timeout_s=timeout,
    )
    _make_room_for(clients)
    tally = Tally.of(load)
    run = _Run(load, tally, all_members=all_members)
    ask_members(endpoints, timeout, trust, run)
    if run.interrupted_by is not None and tally.began_s is None:
        return 128 + run.interrupted_by  # it had measured nothing
    if write_out == "json":
        click.echo(as_json(load, run.targets, tally, was_interrupted=run.interrupted_by is not None))
    else:
        click.echo(as_text(load, run.targets, tally))
    if run.interrupted_by is not None:
        return 128 + run.interrupted_by
    if not tally.succeeded and not tally.failed:
        raise RaftKVError("the time was over before any request was answered; give it more (--duration)")
    if not tally.succeeded:
        raise RaftKVError("no request succeeded; the output says why")
    return 0


class _Run:
    """Finds the servers, writes the keys, runs the clients; a signal cuts it short.

    Attributes:
        targets: the servers that get the load; set when they are found.
        interrupted_by: the signal that has ended it, if one has.
    """

    targets: "Targets"

    def __init__(self, load: "Load", tally: "Tally", *, all_members: bool) -> None:
        self._load = load
        self._tally = tally
        self._all_members = all_members
        self.interrupted_by: signal.Signals | None = None

    async def __call__(self, endpoints: "list[ClientAddress]", trust: "Trust", login: "Login | None") -> None:
        """The function for `ask_members`."""
        import trio

        from raftkv_trio.client.load.targets import find_targets

        self._load = replace(self._load, trust=trust, login=login)
        failure: RaftKVError | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch, nursery.cancel_scope)
            try:
                self.targets = await find_targets(
                    endpoints, self._load.timeout_s, trust, login, all_members=self._all_members
                )
            except RaftKVError as error:
                failure = error  # raised outside of the nursery, which would put it into a group
            else:
                await self._carry()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _carry(self) -> None:
        from raftkv_trio.cli.progress import bar_that_follows
        from raftkv_trio.client.load.clients import fill, run_clients

        load, tally = self._load, self._tally
        value = load.new_value()
        if load.reads:
            async with bar_that_follows("writing keys", load.keys, lambda: (tally.filled, "")):
                await fill(load, self.targets.leader, value, tally)
        tenths = round(10 * load.duration_s)
        async with bar_that_follows(load.operation, tenths, self._progress):
            await run_clients(load, self.targets, value, tally)

    def _progress(self) -> tuple[int, str]:
        """How many tenths of a second the clients have run, and the rate until now."""
        if self._tally.began_s is None:
            return 0, ""
        elapsed_s = perf_counter() - self._tally.began_s
        return int(10 * elapsed_s), f"{self._tally.succeeded / max(elapsed_s, 0.001):,.0f}/s"

    async def _watch(self, scope: "trio.CancelScope", task_status: "trio.TaskStatus[None]") -> None:
        import trio

        with trio.open_signal_receiver(*_SIGNALS) as received:
            task_status.started()
            async for number in received:
                self.interrupted_by = signal.Signals(number)
                break
        scope.cancel()


def _make_room_for(clients: int) -> None:
    """Raise this process's limit of open files; raises ConfigError if so many clients cannot be."""
    needed = clients + _RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise ConfigError(
            f"--clients {clients}: only {hard} files may be open at once; use at most "
            f"{max(hard - _RESERVED_FILES, 1)} clients, or raise the limit (ulimit -n)"
        )
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
