"""`raftkv-trio member`: the members of a cluster, and what changes them."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from raftkv_trio.addresses import PeerAddress, parse_node_id
from raftkv_trio.cli.flags import addresses_of, endpoints_option, option
from raftkv_trio.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., int])
_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
_timeout_option = option(
    "--timeout", metavar="SECONDS", type=float, default=10.0, help="How long a member may take to answer."
)


def _switch(name: str, text: str) -> Callable[[Command], Command]:
    """Of this command alone: a variable that was forgotten must not force a change, nor leave one out."""
    return click.option(name, is_flag=True, allow_from_autoenv=False, help=text)


def _change_options(command: Command) -> Command:
    """The options of whatever changes members."""
    for decorate in (
        _switch("--dry-run", "Only say what it would do to the quorum, or why not."),
        _switch("--force", "Even where those who answer now would be no quorum."),
        _timeout_option,
        endpoints_option,
    ):
        command = decorate(command)
    return command


@click.group(no_args_is_help=False)
def member() -> None:
    """See and change the members of a cluster."""


@member.command("list", context_settings=_CONTEXT)
@endpoints_option
@_timeout_option
@option(
    "-w",
    "--write-out",
    type=click.Choice(["table", "json"], case_sensitive=False),
    default="table",
    help="Form of the output.",
)
def list_members(endpoints: tuple[str, ...], timeout: float, write_out: str) -> int:
    """Show the members as the leader sees them, or whoever answers."""
    from raftkv_trio.client.members import Cluster, as_json, table

    seen = _run(endpoints, timeout, Cluster.members)
    click.echo(as_json(seen) if write_out == "json" else table(seen))
    return 0


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@click.argument("url", metavar="URL")
@click.option(
    "--promote",
    type=click.Choice(["auto", "manual"]),
    default="auto",
    show_default=True,
    help="Whether it becomes a voter when it has caught up, or by `member promote`.",
)
@_change_options
def add(node_id: str, url: str, promote: str, **how: Any) -> int:
    """Add node ID, whose peers reach it at URL; then start it with --join. It begins as a learner."""
    peer_url = PeerAddress.parse(url).url
    change = {"action": "add", "id": parse_node_id(node_id), "url": peer_url, "promote": promote}
    return _change(change, f"node {node_id} is a learner; start it with --join", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@_change_options
def promote(node_id: str, **how: Any) -> int:
    """Make a voter of learner ID, which has to have caught up."""
    return _change({"action": "promote", "id": parse_node_id(node_id)}, f"node {node_id} is a voter", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@_change_options
def remove(node_id: str, **how: Any) -> int:
    """Remove node ID, which ends when it hears of it. Its id is never taken again."""
    return _change({"action": "remove", "id": parse_node_id(node_id)}, f"node {node_id} is removed", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@click.argument("url", metavar="URL")
@_change_options
def update(node_id: str, url: str, **how: Any) -> int:
    """Change the URL at which its peers reach node ID; then start it there with --listen-peer.

    It may have missed the change, and listens at its old address where it is not told otherwise.
    """
    change = {"action": "update", "id": parse_node_id(node_id), "url": PeerAddress.parse(url).url}
    return _change(
        change, f"node {node_id} is to be reached at {url}; start it there with --listen-peer", **how
    )


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="[ID]", required=False)
@endpoints_option
@_timeout_option
def transfer(node_id: str | None, endpoints: tuple[str, ...], timeout: float) -> int:
    """Have another voter lead, or node ID."""
    from raftkv_trio.client.members import Cluster

    to = None if node_id is None else parse_node_id(node_id)
    _run(endpoints, timeout, lambda cluster: Cluster.transfer(cluster, to))
    click.echo("another voter leads" if to is None else f"leadership is handed over to node {to}")
    return 0


def _change(
    change: Mapping[str, Any],
    done: str,
    *,
    endpoints: tuple[str, ...],
    timeout: float,
    force: bool,
    dry_run: bool,
) -> int:
    from raftkv_trio.client.members import Cluster

    if dry_run:
        click.echo(
            _run(endpoints, timeout, lambda cluster: Cluster.dry_run(cluster, [change], is_forced=force))
        )
    else:
        _run(endpoints, timeout, lambda cluster: Cluster.change(cluster, [change], is_forced=force))
        click.echo(done)
    return 0


def _run(endpoints: tuple[str, ...], timeout: float, what: Callable[[Any], Any]) -> Any:
    addresses = addresses_of(endpoints, timeout)

    import trio

    from raftkv_trio.client.members import open_cluster

    async def run() -> Any:
        async with open_cluster(addresses, timeout) as cluster:
            return await what(cluster)

    return trio.run(run)


@member.command("force-new-cluster")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--data-dir",
    metavar="NEW",
    required=True,
    type=click.Path(path_type=Path),
    help="Data directory to make, for a node of the same id.",
)
@_switch("--yes", "Do not ask.")
def force_new_cluster(directory: Path, data_dir: Path, yes: bool) -> int:
    """Make one member the whole of a new cluster, when the majority of the old one is lost for good.

    DIR is the data directory of a stopped member, best of the one with the highest last index that `check`
    tells of. It stays; NEW has all that it holds. What only the lost members had is gone, even where it was
    acknowledged, and what DIR holds counts as committed, even where nobody was told so. Do this on one member
    only, and never start a member of the old cluster again: both would take writes, each its own.
    """
    from raftkv_trio.offline.force_new_cluster import force_new_cluster as force

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
        f"serve it with --id {forced.node_id} --cluster {forced.node_id}={forced.url} --data-dir"
        f" {forced.directory}; add others under new ids"
    )
    return 0
