"""The `raftkv-trio` program: commands, flags, exit codes. The only reader of argv, environment and signals.

Exit codes: 0 a clean stop; 1 the disk, the system or a running cluster failed; 2 what was asked cannot be
done as it was asked; 70 a bug of ours; 130 and 143 a second SIGINT or SIGTERM that did not wait for a clean
stop. `_verdict` is the one place where an error becomes a code and a sentence. The sentence is one line on
standard error, `raftkv-trio: ...`, or a record of the log where that is JSON; a traceback is only for
`--log-level debug`. What a command does not need it does not import.
"""

import logging
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from raftkv_trio._version import __version__
from raftkv_trio.config import (
    DEFAULT_CLUSTER,
    DEFAULT_HOST,
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_REST_PORT,
    NodeConfig,
    PeerAddress,
    RestConfig,
    ServerConfig,
    parse_cluster,
    parse_node_id,
)
from raftkv_trio.directory_commands import backup, check, restore
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.logs import LOG_LEVELS, LogFormat, logs_json, setup_logging
from raftkv_trio.open_files import make_room_for_clients

if TYPE_CHECKING:
    import trio

logger = logging.getLogger(__name__)

PROGRAM = "raftkv-trio"
EXIT_FAILED, EXIT_USAGE, EXIT_BUG = 1, 2, 70

_option = partial(click.option, show_envvar=True, show_default=True)
_METAVARS = {"timeout": "SECONDS", "size": "BYTES", "connections": "COUNT"}


def _bound(flag: str, field: str, help_text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A flag for a field of RestConfig, with its default."""
    default = RestConfig.__dataclass_fields__[field].default
    return _option(
        flag,
        field,
        envvar=f"RAFTKV_TRIO_{flag.strip('-').replace('-', '_').upper()}",
        metavar=_METAVARS[flag.rpartition("-")[2]],
        type=type(default),
        default=default,
        help=help_text,
    )


_procfile_option = click.option(
    "-f",
    "--procfile",
    type=click.Path(path_type=Path),
    default=Path("Procfile"),
    show_default=True,
    help="The Procfile; the control socket is beside it.",
)


def main() -> NoReturn:
    """Run the command that argv names, and exit."""
    try:
        # Not standalone, so that every error takes the one way out below.
        code = program.main(prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        _exit(EXIT_USAGE, _usage_sentence(error))
    except click.ClickException as error:
        _exit(EXIT_USAGE, error.format_message())
    except click.Abort:
        _exit(128 + signal.SIGINT)
    except SystemExit:
        raise  # click's, when nobody reads standard output any more
    except BaseException as error:
        _exit(*_verdict(error), error)
    _exit(code or 0)


@click.group(name=PROGRAM, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def program() -> None:
    """A replicated key-value store: Raft on Trio, with raftexample's command line."""


for command in (check, backup, restore):
    program.add_command(command)


@program.command(context_settings={"auto_envvar_prefix": "RAFTKV_TRIO"})
@_option("--id", "id_text", envvar="RAFTKV_TRIO_ID", metavar="N", default="1", help="This node's id.")
@_option(
    "--cluster",
    metavar="URLS",
    default=DEFAULT_CLUSTER,
    help="Peer URLs of all members, separated by commas; ids are their positions from 1, or id=url pairs.",
)
@_option("--port", type=int, default=DEFAULT_REST_PORT, help="Port of the REST API.")
@_option("--join", is_flag=True, help="Join a running cluster (not in this version yet).")
@_option("--host", default=DEFAULT_HOST, help="Address that the REST API binds.")
@_option(
    "--advertise-client",
    metavar="URL",
    help="Where clients reach the REST API, if not where it listens; the other members tell it to operators.",
)
@_option("--data-dir", type=click.Path(path_type=Path), help="Data directory.  [default: ./raftkv-trio-ID]")
@_option(
    "--listen-peer",
    metavar="HOST:PORT",
    help="Address that the peer port binds, where it differs from this node's URL in --cluster.",
)
@_option("--cluster-token", metavar="TEXT", default="", help="Sets apart clusters of the same addresses.")
@_option(
    "--request-timeout",
    metavar="SECONDS",
    type=float,
    default=DEFAULT_REQUEST_TIMEOUT_S,
    help="How long a request may wait for a leader and a quorum.",
)
@_bound("--idle-timeout", "idle_timeout_s", "How long a client's connection may be without a request.")
@_bound("--header-timeout", "header_timeout_s", "How long a request's head may take, from its first byte on.")
@_bound("--body-timeout", "body_timeout_s", "How long a value may take to arrive.")
@_bound("--send-timeout", "send_timeout_s", "How long a client may take to read 64 KiB of an answer.")
@_bound("--max-header-size", "max_header_bytes", "Longest head of a request, with its key.")
@_bound("--max-value-size", "max_value_bytes", "Largest value of a key.")
@_bound("--max-receiving-size", "max_receiving_bytes", "Most of all values that are arriving at once.")
@_bound("--max-connections", "max_connections", "Most clients at once.")
@_option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Form of the log.")
@_option("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="Least severity that is logged.")
def serve(log_format: LogFormat, log_level: str, **flags: Any) -> int:
    """Run one node until SIGINT or SIGTERM; a second one does not wait for a clean stop."""
    setup_logging(log_format, log_level)
    config = server_config(**flags)
    max_connections = make_room_for_clients(config.rest.max_connections)
    config = replace(config, rest=replace(config.rest, max_connections=max_connections))

    import trio

    from raftkv_trio import serve as server
    from raftkv_trio.readiness import tell_ready

    async def run(stop: trio.Event) -> int:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve, config, stop=stop))
            tell_ready(os.environ)
        return 0

    return _run_until_signal(run, (signal.SIGINT, signal.SIGTERM), second_cancels=False)


def server_config(
    *,
    id_text: str,
    cluster: str,
    port: int,
    join: bool,
    host: str,
    advertise_client: str | None,
    data_dir: Path | None,
    listen_peer: str | None,
    cluster_token: str,
    request_timeout: float,
    **bounds: Any,
) -> ServerConfig:
    """What the flags of `serve` ask for, `bounds` being fields of RestConfig; raises ConfigError."""
    if join:
        raise ConfigError("--join is not supported yet; joining a running cluster comes with a later version")
    node_id = parse_node_id(id_text)
    return ServerConfig(
        node=NodeConfig(
            node_id=node_id,
            members=parse_cluster(cluster),
            data_dir=data_dir or Path(f"raftkv-trio-{node_id}"),
            cluster_token=cluster_token,
            listen=_address(listen_peer, "--listen-peer"),
        ),
        rest=RestConfig(
            host=host,
            port=port,
            advertise=_address(advertise_client, "--advertise-client"),
            request_timeout_s=request_timeout,
            **bounds,
        ),
    )


@program.command(context_settings={"auto_envvar_prefix": "RAFTKV_TRIO"})
@_option(
    "--endpoint",
    "endpoints",
    envvar="RAFTKV_TRIO_ENDPOINT",
    metavar="URL",
    multiple=True,
    default=[f"http://{DEFAULT_HOST}:{DEFAULT_REST_PORT}"],
    help="REST API of a member to ask; more of them where some may be down.",
)
@_option(
    "-w", "--write-out", type=click.Choice(["table", "json"]), default="table", help="Form of the output."
)
@_option(
    "--timeout", metavar="SECONDS", type=float, default=3.0, help="How long each member may take to answer."
)
def status(endpoints: tuple[str, ...], write_out: str, timeout: float) -> int:
    """Show all members as each sees itself: role, term, indexes, lag, health.

    The exit code is 0 where at least one member answers.
    """
    addresses = [
        PeerAddress.parse(url if "://" in url else f"http://{url}", "--endpoint") for url in endpoints
    ]
    if not timeout > 0:
        raise ConfigError("--timeout must be positive")

    import trio

    from raftkv_trio.survey import as_json, survey, table

    reports = trio.run(survey, addresses, timeout)
    click.echo(as_json(reports) if write_out == "json" else table(reports))
    return 0


@program.group(no_args_is_help=False)
def local() -> None:
    """A cluster on this machine, from a Procfile."""


@local.command("start")
@_procfile_option
@click.argument("names", metavar="[NAME]...", nargs=-1)
def local_start(procfile: Path, names: tuple[str, ...]) -> int:
    """Start the Procfile's processes, or those named; Ctrl-C stops them all, a second one kills them.

    Killed itself (SIGKILL), it cannot stop them: they go on until each is stopped by its pid.
    """
    import trio

    from raftkv_trio.local import run_local

    if sys.stdout is None:
        raise ConfigError("local start needs a standard output, and that is closed")
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    # The programs beside this interpreter come first, so that a virtual environment need not be activated.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}

    async def run(stop: trio.Event) -> int:
        return await run_local(
            procfile, names, environment=environment, output=sys.stdout.fileno(), color=color, stop=stop
        )

    # A terminal that is closed must not orphan them; under nohup it says nothing.
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    hangup = (signal.SIGHUP,) if hangs_up else ()
    return _run_until_signal(run, (signal.SIGINT, signal.SIGTERM, *hangup), second_cancels=True)


@local.command("run")
@_procfile_option
@click.option(
    "--signal",
    "signal_name",
    type=click.Choice(["INT", "TERM", "KILL"], case_sensitive=False),
    default="INT",
    show_default=True,
    help="What stop and restart send; SIGKILL follows after 10 s.",
)
@click.argument("verb", type=click.Choice(["start", "stop", "restart", "list", "status"]))
@click.argument("names", metavar="[NAME]...", nargs=-1)
def local_run(procfile: Path, signal_name: str, verb: str, names: tuple[str, ...]) -> int:
    """Act on processes of the running local cluster, on all where none is named.

    It returns when they are started, and serve where they are nodes, or when they are gone.
    """
    from raftkv_trio.control import Request, call

    answer = call(procfile.parent, Request(verb, names, signal.Signals[f"SIG{signal_name}"]))
    if answer.exit_code:
        _exit(answer.exit_code, answer.text)
    click.echo(answer.text)
    return 0


def _address(text: str | None, flag: str) -> PeerAddress | None:
    if text is None:
        return None
    return PeerAddress.parse(text if "://" in text else f"http://{text}", flag)


def _run_until_signal(
    component: "Callable[[trio.Event], Awaitable[int]]",
    signals: tuple[signal.Signals, ...],
    *,
    second_cancels: bool,
) -> int:
    """Run a component; the first signal sets the event it is given, the second cancels it or ends all.

    After a second one that cancels, the signals have their default actions again, so that a third one ends
    the process whatever happens. The exit code is the component's, or 128 and the second signal's number.
    """
    import trio

    forced: signal.Signals | None = None

    async def watch(stop: trio.Event, scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        nonlocal forced
        with trio.open_signal_receiver(*signals) as received:
            task_status.started()
            async for _ in received:
                break
            stop.set()
            async for number in received:
                forced = signal.Signals(number)
                if not second_cancels:
                    logger.warning("a second %s: no clean stop", forced.name)
                    os._exit(128 + number)
                break
        scope.cancel()

    async def run() -> int:
        stop = trio.Event()
        code = 0
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, stop, nursery.cancel_scope)
            code = await component(stop)
            nursery.cancel_scope.cancel()
        return code

    code = trio.run(run)
    return code if forced is None else 128 + forced


def _verdict(error: BaseException) -> tuple[int, str | None]:
    """The exit code and the sentence for an error, the worst where it is a group of several."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt):
            return 128 + signal.SIGINT, None
    for leaf in leaves:
        if not isinstance(leaf, RaftKVError | OSError):
            what = f"{type(leaf).__name__}: {leaf}".rstrip(": ")
            return EXIT_BUG, f"this is a bug; --log-level debug shows where: {what}"
    for leaf in leaves:
        if not isinstance(leaf, ConfigError):
            return EXIT_FAILED, _sentence(leaf)
    return EXIT_USAGE, str(leaves[0])


def _sentence(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _usage_sentence(error: click.UsageError) -> str:
    context = error.ctx
    where = context.command_path if context else PROGRAM
    message = error.format_message().rstrip(".")
    if context and isinstance(error, click.BadParameter) and error.param and error.param.name:
        name = error.param.name
        if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            message += f" (from {context.auto_envvar_prefix}_{name.upper()})"
    return f"{message}{'' if message.endswith('?') else ';'} see {where} --help"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _exit(code: int, sentence: str | None = None, cause: BaseException | None = None) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a late Ctrl-C would get a traceback from the interpreter
    if sentence is not None:
        line = " ".join(sentence.split())
        shown = cause if logger.isEnabledFor(logging.DEBUG) else None
        if logs_json():
            logger.critical(line, exc_info=shown)
        else:
            if shown is not None:
                traceback.print_exception(shown)
            print(f"{PROGRAM}: {line}", file=sys.stderr)
    sys.exit(code)
