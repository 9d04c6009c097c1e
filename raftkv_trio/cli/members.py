"""Commands that ask running members."""

import click

from raftkv_trio.cli.flags import option
from raftkv_trio.config import DEFAULT_HOST, DEFAULT_REST_PORT, PeerAddress
from raftkv_trio.errors import ConfigError

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
_endpoints_option = option(
    "--endpoint",
    "endpoints",
    envvar="RAFTKV_TRIO_ENDPOINT",
    metavar="URL",
    multiple=True,
    default=[f"http://{DEFAULT_HOST}:{DEFAULT_REST_PORT}"],
    help="REST API of a member to ask; more of them where some may be down.",
)


@click.command(context_settings=_CONTEXT)
@_endpoints_option
@option(
    "-w", "--write-out", type=click.Choice(["table", "json"]), default="table", help="Form of the output."
)
@option(
    "--timeout", metavar="SECONDS", type=float, default=3.0, help="How long each member may take to answer."
)
def status(endpoints: tuple[str, ...], write_out: str, timeout: float) -> int:
    """Show all members as each sees itself: role, term, indexes, lag, health.

    The exit code is 0 where at least one member answers.
    """
    addresses = _addresses(endpoints, timeout)

    import trio

    from raftkv_trio.survey import as_json, survey, table

    reports = trio.run(survey, addresses, timeout)
    click.echo(as_json(reports) if write_out == "json" else table(reports))
    return 0


@click.command(context_settings=_CONTEXT)
@_endpoints_option
@option("--timeout", metavar="SECONDS", type=float, default=600.0, help="How long each member may take.")
def snapshot(endpoints: tuple[str, ...], timeout: float) -> int:
    """Have each member that is named take a snapshot of all that it has applied, now.

    The exit code is 0 where all of them did.
    """
    addresses = _addresses(endpoints, timeout)

    import trio

    from raftkv_trio.client import take_snapshots

    for line in trio.run(take_snapshots, addresses, timeout):
        click.echo(line)
    return 0


def _addresses(endpoints: tuple[str, ...], timeout: float) -> list[PeerAddress]:
    if not timeout > 0:
        raise ConfigError("--timeout must be positive")
    return [PeerAddress.parse(url if "://" in url else f"http://{url}", "--endpoint") for url in endpoints]
