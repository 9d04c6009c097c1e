"""Commands that ask running members."""

import sys
from functools import partial
from pathlib import Path

import click

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.cli.flags import addresses_of, endpoints_option, option
from raftkv_trio.config import DEFAULT_HOST, DEFAULT_REST_PORT
from raftkv_trio.errors import ConfigError

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}


@click.command(context_settings=_CONTEXT)
@endpoints_option
@option(
    "-w",
    "--write-out",
    type=click.Choice(["table", "json"], case_sensitive=False),
    default="table",
    help="Form of the output.",
)
@option(
    "--timeout", metavar="SECONDS", type=float, default=3.0, help="How long each member may take to answer."
)
def status(endpoints: tuple[str, ...], write_out: str, timeout: float) -> int:
    """Show all members as each sees itself: role, term, indexes, lag, health.

    The exit code is 0 where at least one member answers.
    """
    addresses = addresses_of(endpoints, timeout)

    import trio

    from raftkv_trio.client.status import as_json, survey, table

    reports = trio.run(survey, addresses, timeout)
    click.echo(as_json(reports) if write_out == "json" else table(reports))
    return 0


@click.command(context_settings=_CONTEXT)
@endpoints_option
@option("--timeout", metavar="SECONDS", type=float, default=600.0, help="How long each member may take.")
def snapshot(endpoints: tuple[str, ...], timeout: float) -> int:
    """Have each member that is named take a snapshot of all that it has applied, now.

    The exit code is 0 where all of them did.
    """
    addresses = addresses_of(endpoints, timeout)

    import trio

    from raftkv_trio.client.snapshots import take_snapshots

    for line in trio.run(take_snapshots, addresses, timeout):
        click.echo(line)
    return 0


@click.command(context_settings=_CONTEXT)
@option(
    "--endpoint",
    envvar="RAFTKV_TRIO_ENDPOINT",
    metavar="URL",
    default=f"http://{DEFAULT_HOST}:{DEFAULT_REST_PORT}",
    help="REST API of any member.",
)
@option(
    "--timeout", metavar="SECONDS", type=float, default=600.0, help="How long the member may send nothing."
)
@click.option("--force", is_flag=True, allow_from_autoenv=False, help="Replace FILE where it exists.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def backup(endpoint: str, timeout: float, force: bool, file: Path) -> int:
    """Write all that the running cluster holds to FILE, checked to its end; `restore` reads it."""
    address = PeerAddress.parse(endpoint, "--endpoint", needs_scheme=False)
    if not timeout > 0:
        raise ConfigError("--timeout must be positive")

    import trio

    from raftkv_trio.client.backup import fetch_backup

    shows_progress = sys.stderr.isatty()
    taken = trio.run(
        partial(fetch_backup, address, file, timeout_s=timeout, force=force, shows_progress=shows_progress)
    )
    click.echo(f"{taken.file}: index {taken.meta.index}, {taken.size_bytes} bytes, hash {taken.hash.hex()}")
    return 0
