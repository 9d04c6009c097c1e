"""Flags that several commands share, and which flag sets which field of a configuration.

The flags of one command alone are in the module of that command: those of `serve` are in `serve.py`.
"""

import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.cli.login import SECRET_FLAGS, login_of_flags, login_options
from raftkv_trio.config import DEFAULT_HOST, DEFAULT_REST_PORT
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.local.procfile import client_addresses, read_procfile

if TYPE_CHECKING:
    from raftkv_trio.client.login import Login
    from raftkv_trio.tls.clients import Trust

# What Kubernetes sets for a Service named `raftkv-trio`: RAFTKV_TRIO_PORT=tcp://10.96.0.12:9121.
DEFAULT_ENDPOINT = f"http://{DEFAULT_HOST}:{DEFAULT_REST_PORT}"
DEFAULT_ENDPOINTS = f"the nodes of ./Procfile, or {DEFAULT_ENDPOINT}"
_SERVICE_URL = re.compile("(tcp|udp|sctp)://")


class _Option(click.Option):
    """An option whose variable may be set by Kubernetes for its own ends; that value counts as unset."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = super().resolve_envvar_value(ctx)
        return None if self.opts[0] == "--port" and value and _SERVICE_URL.match(value) else value


Answer = TypeVar("Answer")


option = partial(click.option, cls=_Option, show_envvar=True, show_default=True)


def integer_from(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option: an integer from `least` on, or from `least` to `most`."""
    bounds = f"from {least} on" if most is None else f"from {least} to {most}"

    def integer(value: str) -> int:  # its name is what help shows
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise click.BadParameter(f"{value!r} is not an integer {bounds}")
        return number

    return integer


procfile_option = click.option(
    "-f",
    "--procfile",
    type=click.Path(path_type=Path),
    default=Path("Procfile"),
    show_default=True,
    help="The Procfile. The control socket is in the same directory.",
)


write_out_option = option(
    "-w",
    "--write-out",
    type=click.Choice(["table", "json"], case_sensitive=False),
    default="table",
    help="Output format.",
)

#: The flag that sets each field of a configuration, for errors of the library, which name fields.
FLAG_OF = {
    "node_id": "--id",
    "members": "--cluster",
    "cluster_token": "--cluster-token",
    "cluster_secret": "--cluster-secret-file",
    "data_dir": "--data-dir",
    "join": "--join",
    "listen": "--listen-peer",
    "tick_interval_s": "--heartbeat-interval",
    "election_ticks": "--election-timeout",
    "snapshot_entries": "--snapshot-entries",
    "snapshot_log_bytes": "--snapshot-log-size",
    "catch_up_entries": "--catch-up-entries",
    "host": "--host",
    "port": "--port",
    "etcd_port": "--etcd-port",
    "retention_revisions": "--auto-compaction-retention",
    "retention_s": "--auto-compaction-retention",
    "max_history_bytes": "--max-history-bytes",
    "lease_checkpoints": "--lease-checkpoints",
    "auth_token_ttl_s": "--auth-token-ttl",
    "advertise": "--advertise-client",
    "request_timeout_s": "--request-timeout",
    "idle_timeout_s": "--idle-timeout",
    "header_timeout_s": "--header-timeout",
    "body_timeout_s": "--body-timeout",
    "send_timeout_s": "--send-timeout",
    "max_header_bytes": "--max-header-size",
    "max_value_bytes": "--max-value-size",
    "max_receiving_bytes": "--max-receiving-size",
    "quota_bytes": "--quota-bytes",
    "max_connections": "--max-connections",
    "host_whitelist": "--host-whitelist",
    "root_members": "--no-root-members",
    "listen_metrics": "--listen-metrics",
    "cert_file": "--cert-file",
    "key_file": "--key-file",
    "client_cert_auth": "--client-cert-auth",
    "trusted_ca_file": "--trusted-ca-file",
    "client_crl_file": "--client-crl-file",
    "tls_min_version": "--tls-min-version",
    "peer_cert_file": "--peer-cert-file",
    "peer_key_file": "--peer-key-file",
    "peer_trusted_ca_file": "--peer-trusted-ca-file",
    "peer_crl_file": "--peer-crl-file",
    "peer_cert_allowed_san": "--peer-cert-allowed-san",
    "peer_tls_transition": "--peer-tls-transition",
    "insecure": "--insecure",
    "ca_file": "--cacert",
    "client_cert_file": "--cert",
    "client_key_file": "--key",
    "force": "--force",
    "certificates": "--dir",
    "procfile": "--procfile",
    "duration_s": "--duration",
    "value_bytes": "--value-size",
    "read_percent": "--reads",
}
#: Flags of commands other than `serve`, which no environment variable sets.
WITHOUT_VARIABLE = {"--force", "--dir", "--procfile", "--duration", "--value-size", "--reads"}


def variable_of(flag: str) -> str:
    """The environment variable that sets the same as a flag."""
    return f"RAFTKV_TRIO_{flag.strip('-').replace('-', '_').upper()}"


def ignored_service_url() -> str | None:
    """The value of RAFTKV_TRIO_PORT, if that is the URL of a Kubernetes Service and so no port."""
    value = os.environ.get(variable_of("--port"), "")
    return value if _SERVICE_URL.match(value) else None


def _sets_the_flag(variable: str) -> bool:
    if variable == variable_of("--port") and ignored_service_url():
        return False
    return bool(os.environ.get(variable))  # an empty variable counts as unset


def check_utf_8(arguments: Sequence[str]) -> None:
    """Raise ConfigError if one of these arguments, or a variable of ours, is not UTF-8.

    Python decodes such bytes to characters that cannot be encoded: the log, a message or a hash would fail.
    """
    given = {}
    for before, argument in zip(["", *arguments], arguments, strict=False):
        secret = [flag for flag in SECRET_FLAGS if before == flag or argument.startswith(f"{flag}=")]
        what = f"the value of {secret[0]}" if secret else f"argument {os.fsencode(argument)!r}"
        given[what] = argument
    for variable, value in os.environ.items():
        if variable in map(variable_of, SECRET_FLAGS):
            given[f"the variable {variable}"] = value
        elif variable.startswith("RAFTKV_TRIO_"):
            given[f"the variable {variable}, {os.fsencode(value)!r},"] = value
    for what, text in given.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{what} is not UTF-8; write it in UTF-8") from error


def naming_flags(sentence: str) -> str:
    """A sentence of the library with each field in backticks replaced by what the user has to change.

    That is the environment variable if one sets the field, otherwise the flag.
    """

    def name(field: re.Match[str]) -> str:
        flag = FLAG_OF.get(field[1])
        if flag is None:
            return field[0]
        is_given = any(argument == flag or argument.startswith(f"{flag}=") for argument in sys.argv)
        variable = variable_of(flag)
        is_set = flag not in WITHOUT_VARIABLE and _sets_the_flag(variable)
        return variable if is_set and not is_given else flag

    return re.sub(r"`(\w+)`", name, sentence)


def address(text: str | None, flag: str) -> PeerAddress | None:
    """The address that a flag names, with or without a scheme. Raises ConfigError, which names the flag."""
    return None if text is None else PeerAddress.parse(text, flag, needs_scheme=False)


def client_address(text: str | None, flag: str) -> ClientAddress | None:
    """The same for an address at which clients are served: its scheme says whether with TLS."""
    return None if text is None else ClientAddress.parse(text, flag, needs_scheme=False)


def _endpoints_of_the_procfile() -> list[str]:
    try:
        return [address.url for address in client_addresses(read_procfile(Path("Procfile"))).values()]
    except ConfigError:
        return []  # there is none, or it is for another program: none of it has been asked for


def default_endpoints() -> list[str]:
    """The nodes of the Procfile in the working directory; without such nodes, one on its default port."""
    return _endpoints_of_the_procfile() or [DEFAULT_ENDPOINT]


endpoints_option = option(
    "--endpoint",
    "endpoints",
    envvar="RAFTKV_TRIO_ENDPOINT",
    metavar="URL",
    multiple=True,
    default=default_endpoints,
    show_default=DEFAULT_ENDPOINTS,
    help="REST API of a member to ask. Repeat it in case a member is down.",
)


_file = partial(option, metavar="FILE", type=click.Path(path_type=Path))
_TRUST_FLAGS = (
    _file(
        "--cacert",
        envvar="RAFTKV_TRIO_CACERT",
        help="CAs of members that speak TLS.  [default: the system's]",
    ),
    _file("--cert", envvar="RAFTKV_TRIO_CERT", help="Certificate to show to members, in PEM."),
    _file("--key", envvar="RAFTKV_TRIO_KEY", help="Its private key."),
)


def trust_options(command: Callable[..., int]) -> Callable[..., int]:
    """The flags that say whom a command trusts, and what it shows.

    It gets whom it trusts over TLS, and the certificate that it shows, as `trust`; the user is that of
    `login_of_flags`.
    """

    @wraps(command)
    def with_trust(*, cacert: Path | None, cert: Path | None, key: Path | None, **values: Any) -> int:
        from raftkv_trio.tls.clients import Trust

        trust = Trust(ca_file=cacert, client_cert_file=cert, client_key_file=key)
        return command(trust=trust, **values)

    decorated: Callable[..., int] = login_options(with_trust)
    for decorate in reversed(_TRUST_FLAGS):
        decorated = decorate(decorated)
    return decorated


def ask_members(
    endpoints: tuple[str, ...],
    timeout: float,
    trust: "Trust",
    ask: Callable[[list[ClientAddress], "Trust", "Login | None"], Awaitable[Answer]],
) -> Answer:
    """What the members that `--endpoint` names answer.

    `ask` gets their addresses, whom it may trust, and as which user it asks.

    Raises what `ask` raises, and ConfigError for a malformed address or timeout. If nobody did what was asked
    and no endpoint was given, the error says which were asked instead.
    """
    addresses = addresses_of(endpoints, timeout)
    is_default = click.get_current_context().get_parameter_source("endpoints") is ParameterSource.DEFAULT
    if is_default and any(address.is_tls for address in addresses):
        trust = trust_of_the_procfile(trust)
    login = login_of_flags(needs_tls=all(address.is_tls for address in addresses))

    import trio

    from raftkv_trio.client.rest import NoAnswer, NobodyDid

    try:
        return trio.run(ask, addresses, trust, login)
    except (NoAnswer, NobodyDid) as error:
        if not is_default:
            raise
        if _endpoints_of_the_procfile():
            hint = "without --endpoint this asks the nodes of ./Procfile; name members with --endpoint"
        else:
            hint = f"no ./Procfile names nodes, so this asks {DEFAULT_ENDPOINT}; name members with --endpoint"
        raise RaftKVError(f"{error}\n{hint}") from error


def trust_of_the_procfile(trust: "Trust") -> "Trust":
    """What the flags leave open, as the Procfile's nodes have it: they run on this machine."""
    from raftkv_trio.local.procfile import trust_of_nodes

    of_nodes = trust_of_nodes(read_procfile(Path("Procfile")), Path())
    shown = trust if trust.client_cert_file is not None else of_nodes
    return replace(
        trust,
        ca_file=trust.ca_file or of_nodes.ca_file,
        client_cert_file=shown.client_cert_file,
        client_key_file=shown.client_key_file,
    )


def addresses_of(endpoints: tuple[str, ...], timeout: float, flag: str = "--endpoint") -> list[ClientAddress]:
    """The addresses that `flag` names; its variable may have several, separated by commas or spaces.

    Raises ConfigError for a malformed address or timeout.
    """
    if not timeout > 0:
        raise ConfigError(f"{_name_given('timeout', '--timeout')} must be positive")
    name = _name_given("endpoints", flag)
    urls = [url for given in endpoints for url in given.split(",")]
    return [ClientAddress.parse(url.strip(), name, needs_scheme=False) for url in urls]


def _name_given(parameter: str, flag: str) -> str:
    """What has set a parameter of the present command: its environment variable or its flag."""
    source = click.get_current_context().get_parameter_source(parameter)
    return variable_of(flag) if source is ParameterSource.ENVIRONMENT else flag
