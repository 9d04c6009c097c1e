"""Flags that several commands share."""

from functools import partial
from pathlib import Path

import click

from raftkv_trio.config import PeerAddress

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
    if text is None:
        return None
    return PeerAddress.parse(text if "://" in text else f"http://{text}", flag)
