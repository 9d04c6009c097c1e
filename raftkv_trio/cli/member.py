"""`raftkv-trio member`: the members of a cluster, and what changes them."""

import sys
from pathlib import Path

import click

from raftkv_trio.errors import ConfigError


@click.group()
def member() -> None:
    """See and change the members of a cluster."""


@member.command("force-new-cluster")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--data-dir",
    metavar="NEW",
    required=True,
    type=click.Path(path_type=Path),
    help="Data directory to make, for a node of the same id.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def force_new_cluster(directory: Path, data_dir: Path, yes: bool) -> int:
    """Make one member the whole of a new cluster, when the majority of the old one is lost for good.

    DIR is the data directory of a stopped member, best of the one with the highest last index that `check`
    tells of. It stays; NEW has all that it holds. What only the lost members had is gone, even where it was
    acknowledged, and what DIR holds counts as committed, even where nobody was told so. Do this on one member
    only, and never start a member of the old cluster again: both would take writes, each its own.
    """
    from raftkv_trio.force import force_new_cluster as force

    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("this gives up what only the other members hold; say so with --yes")
        click.echo(
            f"What the members other than that of {directory} hold, and it does not, will be given up; none"
            " of them may ever be started again.",
            err=True,
        )
        click.confirm("Are they lost for good?", abort=True, err=True)
    forced = force(directory, data_dir)
    others = ", ".join(str(i) for i in forced.former if i != forced.node_id) or "nobody"
    click.echo(
        f"{forced.directory}: node {forced.node_id}, alone in the new cluster {forced.cluster_id:x}, at index"
        f" {forced.index}; {forced.doubtful} of its entries may never have been acknowledged\n"
        f"removed, and never to be started again: {others}\n"
        f"serve it with --id {forced.node_id} --data-dir {forced.directory}; add others under new ids"
    )
    return 0
