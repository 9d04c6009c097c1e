"""Flags that several commands share, and which flag sets which field of a configuration."""

import os
import re
import sys
from functools import partial
from pathlib import Path

import click

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import DEFAULT_HOST, DEFAULT_REST_PORT
from raftkv_trio.errors import ConfigError

option = partial(click.option, show_envvar=True, show_default=True)
procfile_option = click.option(
    "-f",
    "--procfile",
    type=click.Path(path_type=Path),
    default=Path("Procfile"),
    show_default=True,
    help="The Procfile; the control socket is beside it.",
)


#: The flag that sets each field of a configuration, for errors of the library, which name fields.
FLAG_OF = {
    "node_id": "--id",
    "members": "--cluster",
    "cluster_token": "--cluster-token",
    "data_dir": "--data-dir",
    "join": "--join",
    "listen": "--listen-peer",
    "snapshot_entries": "--snapshot-entries",
    "snapshot_log_bytes": "--snapshot-log-size",
    "catch_up_entries": "--catch-up-entries",
    "host": "--host",
    "port": "--port",
    "advertise": "--advertise-client",
    "request_timeout_s": "--request-timeout",
    "idle_timeout_s": "--idle-timeout",
    "header_timeout_s": "--header-timeout",
    "body_timeout_s": "--body-timeout",
    "send_timeout_s": "--send-timeout",
    "max_header_bytes": "--max-header-size",
    "max_value_bytes": "--max-value-size",
    "max_receiving_bytes": "--max-receiving-size",
    "max_connections": "--max-connections",
    "force": "--force",
    "procfile": "--procfile",
}
_WITHOUT_VARIABLE = {"--force", "--procfile"}


def variable_of(flag: str) -> str:
    """The environment variable that sets the same as a flag."""
    return f"RAFTKV_TRIO_{flag.strip('-').replace('-', '_').upper()}"


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
        return variable if variable in os.environ and not is_given and flag not in _WITHOUT_VARIABLE else flag

    return re.sub(r"`(\w+)`", name, sentence)


def address(text: str | None, flag: str) -> PeerAddress | None:
    """An address as a flag has it, with or without a scheme; raises ConfigError, naming the flag."""
    return None if text is None else PeerAddress.parse(text, flag, needs_scheme=False)


endpoints_option = option(
    "--endpoint",
    "endpoints",
    envvar="RAFTKV_TRIO_ENDPOINT",
    metavar="URL",
    multiple=True,
    default=[f"http://{DEFAULT_HOST}:{DEFAULT_REST_PORT}"],
    help="REST API of a member to ask; more of them where some may be down.",
)


def addresses_of(endpoints: tuple[str, ...], timeout: float) -> list[PeerAddress]:
    """What `--endpoint` names, or its variable with commas between them; raises ConfigError."""
    if not timeout > 0:
        raise ConfigError("--timeout must be positive")
    urls = [url for given in endpoints for url in given.split(",")]
    return [PeerAddress.parse(url.strip(), "--endpoint", needs_scheme=False) for url in urls]
