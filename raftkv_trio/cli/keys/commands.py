"""The commands that read and write keys, over gRPC: at the port of `serve --etcd-port`, or of etcd."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from raftkv_trio.cli.keys.requests import (
    del_parameters,
    del_request,
    get_parameters,
    get_request,
    put_parameters,
    put_request,
)
from raftkv_trio.cli.shared_flags import (
    addresses_of,
    integer_from,
    option,
    trust_of_the_procfile,
    trust_options,
)
from raftkv_trio.config import DEFAULT_HOST
from raftkv_trio.errors import ConfigError, NoLeader, OutcomeUnknown, RaftKVError, StoreFull, TooLarge
from raftkv_trio.local.procfile import etcd_addresses, read_procfile

if TYPE_CHECKING:
    from raftkv_trio.cli.keys.outputs import Answer
    from raftkv_trio.client.etcd.messages import RequestT, ResponseT, UnaryMethod
    from raftkv_trio.tls.clients import Trust

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
#: Where the first node of the repository's Procfile serves etcd's API.
DEFAULT_ENDPOINT = f"http://{DEFAULT_HOST}:12378"
#: How much a command reads of standard input: servers take requests of 1.5 MiB.
_MOST_INPUT_BYTES = 64 * 1024 * 1024


def _endpoints_of_the_procfile() -> list[str]:
    try:
        return [address.url for address in etcd_addresses(read_procfile(Path("Procfile"))).values()]
    except ConfigError:
        return []  # there is none, or it is for another program: none of it has been asked for


def _default_endpoints() -> list[str]:
    return _endpoints_of_the_procfile() or [DEFAULT_ENDPOINT]


_KEY_OPTIONS = (
    option(
        "--endpoints",
        metavar="URLS",
        multiple=True,
        default=_default_endpoints,
        show_default=f"the nodes of ./Procfile, or {DEFAULT_ENDPOINT}",
        help="etcd's API of members, separated by commas; the next one is asked if one fails.",
    ),
    trust_options,
    option("--timeout", metavar="SECONDS", type=float, default=5.0, help="Time limit for the answer."),
    option(
        "-w",
        "--write-out",
        type=click.Choice(["simple", "fields", "json", "table"], case_sensitive=False),
        default="simple",
        help="Output format.",
    ),
)


def _command(name: str, parameters: list[click.Parameter], function: Callable[..., int]) -> click.Command:
    """A command with these parameters, and those that all commands for keys have."""
    for decorate in reversed(_KEY_OPTIONS):
        function = decorate(function)
    command = click.command(name, context_settings=_CONTEXT)(function)
    command.params[:0] = parameters
    return command


# ---------------------------------------------------------------- the commands


def _put(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Set KEY to VALUE.

    Without VALUE the value is read from standard input. Arguments that begin with a dash come after `--`.
    """
    if flags["value"] is None and not flags["ignore_value"]:
        flags["value"] = os.fsdecode(_standard_input())
    request = put_request(**flags)

    from raftkv_trio.client.etcd.messages import PUT

    _echo(_ask(endpoints, trust, timeout, PUT, request), write_out)
    return 0


def _get(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Print KEY and its value, or those of all keys from KEY up to, but not including, RANGE_END.

    A key that does not exist prints nothing, and is no error.
    """
    value_only, count_only = flags["print_value_only"], flags["count_only"]
    if value_only and write_out != "simple":
        raise ConfigError("--print-value-only is for -w simple")
    request = get_request(**flags)

    from raftkv_trio.client.etcd.messages import RANGE

    answer = _ask(endpoints, trust, timeout, RANGE, request)
    _echo(answer, write_out, value_only=value_only, count_only=count_only)
    return 0


def _del(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, **flags: Any) -> int:
    """Delete KEY, or all keys from KEY up to, but not including, RANGE_END; prints how many there were."""
    request = del_request(**flags)

    from raftkv_trio.client.etcd.messages import DELETE_RANGE

    _echo(_ask(endpoints, trust, timeout, DELETE_RANGE, request), write_out)
    return 0


def _txn(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """Run a txn from standard input: compares, requests if all hold, requests if not.

    Each of the three parts ends with an empty line. For example:

    \b
        mod("color") > "0"
        value("color") = "red"
    \b
        put color "dark red"
        get --prefix col
    \b
        del color
    """
    from raftkv_trio.cli.keys.txn_text import parse_txn
    from raftkv_trio.client.etcd.messages import TXN

    request = parse_txn(os.fsdecode(_standard_input()))
    _echo(_ask(endpoints, trust, timeout, TXN, request), write_out)
    return 0


def _compact(
    endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str, revision: int
) -> int:
    """Forget all that no read at REVISION, or a later one, can see."""
    from raftkv_trio.client.etcd.messages import COMPACT
    from raftkv_trio.schema import rpc_pb2

    request = rpc_pb2.CompactionRequest(revision=revision)
    _ask(endpoints, trust, timeout, COMPACT, request)
    click.echo(f"compacted revision {revision}")  # in all formats, as etcdctl has it
    return 0


put = _command("put", put_parameters(), _put)
get = _command("get", get_parameters(), _get)
del_ = _command("del", del_parameters(), _del)
txn = _command("txn", [], _txn)
compact = _command(
    "compact", [click.Argument(["revision"], type=integer_from(0, 2**63 - 1), metavar="REVISION")], _compact
)
#: Those whose arguments are keys and values, which are any bytes.
TAKE_BYTES = frozenset({"put", "get", "del"})


# ---------------------------------------------------------------- asking


def _ask(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    method: "UnaryMethod[RequestT, ResponseT]",
    request: "RequestT",
) -> "ResponseT":
    """The answer of the first endpoint that has one.

    Raises ConfigError for malformed flags, and for what the server refuses; else what the call raises.
    """
    addresses = addresses_of(endpoints, timeout, "--endpoints")
    is_default = click.get_current_context().get_parameter_source("endpoints") is ParameterSource.DEFAULT
    if is_default and any(address.is_tls for address in addresses):
        trust = trust_of_the_procfile(trust)

    import trio

    from raftkv_trio.client.etcd.client import Client, raw_call
    from raftkv_trio.client.etcd.outcomes import CallRefused

    async def ask() -> "ResponseT":
        async with Client([address.url for address in addresses], trust=trust) as client:
            with client.fail_after(timeout):
                return await raw_call(client, method, request)
            raise AssertionError("`fail_after` raises")

    try:
        return trio.run(ask)
    except (CallRefused, StoreFull, TooLarge) as error:
        raise ConfigError(str(error)) from error
    except (NoLeader, OutcomeUnknown) as error:
        if not is_default:
            raise
        asked = "the nodes of ./Procfile" if _endpoints_of_the_procfile() else DEFAULT_ENDPOINT
        hint = f"without --endpoints this asks {asked}; name members that have --etcd-port with --endpoints"
        raise RaftKVError(f"{error}\n{hint}") from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ConfigError("standard input is closed, and the command reads it")
    content = sys.stdin.buffer.read(_MOST_INPUT_BYTES + 1)
    if len(content) > _MOST_INPUT_BYTES:
        raise ConfigError("standard input is larger than any request that a server takes; shorten it")
    return content


def _echo(answer: "Answer", write_out: str, *, value_only: bool = False, count_only: bool = False) -> None:
    from raftkv_trio.cli.keys.outputs import rendered

    click.echo(rendered(answer, write_out, value_only=value_only, count_only=count_only), nl=False)
