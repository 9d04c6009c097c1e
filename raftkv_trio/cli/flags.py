"""Flags that several commands share."""

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
