"""Commands that ask running members: `status`, `snapshot` and `backup`."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftkv_trio.cli.shared_flags import (
    ask_members,
    endpoints_option,
    option,
    trust_options,
    write_out_option,
)
from raftkv_trio.errors import ConfigError, RaftKVError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftkv_trio.addresses import PeerAddress
    from raftkv_trio.tls.clients import Trust

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}


@click.command(context_settings=_CONTEXT)
@endpoints_option
@trust_options
@write_out_option
@option(
    "--timeout", metavar="SECONDS", type=float, default=3.0, help="Time limit for the answer of each member."
)
def status(endpoints: tuple[str, ...], trust: "Trust", write_out: str, timeout: float) -> int:
    """Show the status of all members.

    Each member reports its own role, term, indexes and health. The exit code is 0 if at least one member
    answers.
    """
    from raftkv_trio.client.status import as_json, survey, table

    reports = ask_members(
        endpoints, timeout, trust, lambda asked, trust, login: survey(asked, timeout, trust, login)
    )
    click.echo(as_json(reports) if write_out == "json" else table(reports))
    return 0


@click.command(context_settings=_CONTEXT)
@endpoints_option
@trust_options
@option("--timeout", metavar="SECONDS", type=float, default=600.0, help="Time limit for each member.")
def snapshot(endpoints: tuple[str, ...], trust: "Trust", timeout: float) -> int:
    """Make members take a snapshot now.

    Each member named by --endpoint takes a snapshot of everything that it has applied, and has a line that
    says so, or why it took none. The exit code is 0 if all of them did.
    """
    from raftkv_trio.client.snapshots import take_snapshots

    def say_who_is_slow(slow: "Sequence[PeerAddress]") -> None:
        urls = ", ".join(address.url for address in slow)
        click.echo(f"waiting for {urls}, for at most {timeout:g} s in all (--timeout)", err=True)

    take = partial(take_snapshots, timeout_s=timeout, waits=say_who_is_slow)
    outcomes = ask_members(
        endpoints, timeout, trust, lambda asked, trust, login: take(asked, trust=trust, login=login)
    )
    for outcome in outcomes:
        click.echo(outcome.line)
    failed = sum(outcome.failure is not None for outcome in outcomes)
    if failed:
        raise RaftKVError(f"{failed} of {len(outcomes)} members took no snapshot; the lines above say why")
    return 0


@click.command(context_settings=_CONTEXT)
@endpoints_option
@trust_options
@option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=600.0,
    help="Time limit for each part of the transfer.",
)
@click.option("--force", is_flag=True, allow_from_autoenv=False, help="Replace FILE if it exists.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def backup(endpoints: tuple[str, ...], trust: "Trust", timeout: float, force: bool, file: Path) -> int:
    """Save the cluster's state to FILE.

    The backup has everything that was acknowledged before it began, and is verified before FILE is written.
    `restore` makes a new cluster from it. If FILE is -, the backup goes to standard output, once it is
    verified. Until then it is in a temporary file, in TMPDIR.
    """
    if (to_stdout := str(file) == "-") and sys.stdout is not None and sys.stdout.isatty():
        raise ConfigError("standard output is a terminal; redirect it, or name a file instead of -")

    from raftkv_trio.cli.progress import is_terminal
    from raftkv_trio.client.backup import fetch_backup

    fetch = partial(fetch_backup, file=file, timeout_s=timeout, force=force, shows_progress=is_terminal())
    taken = ask_members(
        endpoints, timeout, trust, lambda asked, trust, login: fetch(asked, trust=trust, login=login)
    )
    line = f"{taken.file}: index {taken.meta.index}, {taken.size_bytes} bytes, hash {taken.hash.hex()}"
    click.echo(line, err=to_stdout)
    return 0
