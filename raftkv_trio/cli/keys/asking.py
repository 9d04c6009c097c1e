"""How the commands for keys ask: the flags that all of them have, and the client that answers."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from raftkv_trio.cli.login import login_of_flags, named_user
from raftkv_trio.cli.shared_flags import addresses_of, option, trust_of_the_procfile, trust_options
from raftkv_trio.config import DEFAULT_HOST
from raftkv_trio.errors import (
    ConfigError,
    NoLeader,
    OutcomeUnknown,
    RaftKVError,
    StoreFull,
    TooLarge,
    leaves,
)
from raftkv_trio.foreign_text import printable
from raftkv_trio.local.procfile import etcd_addresses, read_procfile

if TYPE_CHECKING:
    from raftkv_trio.cli.keys.outputs import Answer
    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.client.etcd.messages import RequestT, ResponseT, UnaryMethod
    from raftkv_trio.tls.clients import Trust

ResultT = TypeVar("ResultT")
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


def key_command(
    name: str,
    parameters: list[click.Parameter],
    function: Callable[..., int],
    kind: type[click.Command] = click.Command,
) -> click.Command:
    """A command with these parameters, and those that all commands for keys have."""
    for decorate in reversed(_KEY_OPTIONS):
        function = decorate(function)
    command = click.command(name, cls=kind, context_settings=_CONTEXT)(function)
    command.params[:0] = parameters
    return command


def run_with_client(
    endpoints: tuple[str, ...], trust: "Trust", timeout: float, work: "Callable[[Client], Awaitable[ResultT]]"
) -> "ResultT":
    """Run Trio, and in it `work` with a client of these endpoints; what `work` returns.

    Raises ConfigError for malformed flags, and for what the server refuses; else what `work` raises.
    """
    addresses = addresses_of(endpoints, timeout, "--endpoints")
    is_default = click.get_current_context().get_parameter_source("endpoints") is ParameterSource.DEFAULT
    if is_default and any(address.is_tls for address in addresses):
        trust = trust_of_the_procfile(trust)
    login = login_of_flags()
    user, password = (None, None) if login is None else (login.user, login.password)

    import trio

    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.client.etcd.outcomes import CallRefused

    async def run() -> "ResultT":
        urls = [address.url for address in addresses]
        async with Client(urls, trust=trust, user=user, password=password) as client:
            return await work(client)
        raise AssertionError("a client lets errors pass")

    try:
        return trio.run(run)
    except (RaftKVError, BaseExceptionGroup) as error:
        for leaf in leaves(error):  # those that are no refusals come first
            if not isinstance(leaf, CallRefused | StoreFull | TooLarge | NoLeader | OutcomeUnknown):
                raise
        for leaf in leaves(error):
            if isinstance(leaf, NoLeader | OutcomeUnknown):
                raise RaftKVError(f"{leaf}\n{_hint()}" if is_default else str(leaf)) from error
        first = next(leaves(error))
        raise ConfigError(f"{first}{what_to_do(first)}") from error


def what_to_do(refusal: BaseException) -> str:
    """What is added to the text of a refusal, which is etcd's and says only what is wrong."""
    from raftkv_trio.client.etcd.outcomes import CallRefused, NotAuthenticated, PermissionDenied
    from raftkv_trio.kv import Failure

    user = named_user()
    if isinstance(refusal, NotAuthenticated) and user is None:
        return "; give --user"
    if isinstance(refusal, PermissionDenied) and user is not None:
        name = quote(printable(user))
        return f"; what {name} may do is told by `raftkv-trio user get {name} --detail --user {name}`"
    if isinstance(refusal, CallRefused):
        if refusal.failure is Failure.ROOT_USER_NOT_FOUND:
            return "; run `raftkv-trio user add root` first"
        if refusal.failure is Failure.INVALID_AUTH_MANAGEMENT:
            return ": the user root, its role root and that role stay as long as authentication is enabled"
    return ""


def _hint() -> str:
    asked = "the nodes of ./Procfile" if _endpoints_of_the_procfile() else DEFAULT_ENDPOINT
    return f"without --endpoints this asks {asked}; name members that have --etcd-port with --endpoints"


def ask_one(
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    method: "UnaryMethod[RequestT, ResponseT]",
    request: "RequestT",
) -> "ResponseT":
    """The answer of the first endpoint that has one. Raises what `run_with_client` does."""
    from raftkv_trio.client.etcd.client import raw_call

    async def ask(client: "Client") -> "ResponseT":
        with client.fail_after(timeout):
            return await raw_call(client, method, request)
        raise AssertionError("`fail_after` raises")

    return run_with_client(endpoints, trust, timeout, ask)


def standard_input() -> bytes:
    """All of it. Raises ConfigError if there is none, or too much."""
    if sys.stdin is None:
        raise ConfigError("standard input is closed, and the command reads it")
    content = sys.stdin.buffer.read(_MOST_INPUT_BYTES + 1)
    if len(content) > _MOST_INPUT_BYTES:
        raise ConfigError("standard input is larger than any request that a server takes; shorten it")
    return content


def echo(answer: "Answer", write_out: str, *, value_only: bool = False, count_only: bool = False) -> None:
    """Print an answer."""
    from raftkv_trio.cli.keys.outputs import rendered

    click.echo(rendered(answer, write_out, value_only=value_only, count_only=count_only), nl=False)
