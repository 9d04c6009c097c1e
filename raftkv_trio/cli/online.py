"""Commands that ask running members."""

import click

from raftkv_trio.cli.flags import addresses_of, endpoints_option, option

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}


@click.command(context_settings=_CONTEXT)
@endpoints_option
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

    from raftkv_trio.client.rest import take_snapshots

    for line in trio.run(take_snapshots, addresses, timeout):
        click.echo(line)
    return 0
