"""`raftkv-trio member`: see and change the members of a cluster."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raftkv_trio.addresses import ClientAddress, PeerAddress, parse_node_id
from raftkv_trio.cli.confirming import confirm
from raftkv_trio.cli.shared_flags import (
    ask_members,
    endpoints_option,
    option,
    trust_options,
    write_out_option,
)
from raftkv_trio.errors import ConfigError, RaftKVError

if TYPE_CHECKING:
    from raftkv_trio.client.login import Login
    from raftkv_trio.tls.clients import Trust

Command = TypeVar("Command", bound=Callable[..., int])
_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}
_timeout_option = option(
    "--timeout", metavar="SECONDS", type=float, default=10.0, help="Time limit for an answer."
)


def _switch(name: str, text: str) -> Callable[[Command], Command]:
    """A switch that no environment variable sets: a forgotten one must not force a change, or suppress it."""
    return click.option(name, is_flag=True, allow_from_autoenv=False, help=text)


def _change_options(command: Command) -> Command:
    """The options that all changes of members have."""
    decorators: tuple[Callable[[Any], Any], ...] = (
        _switch("--dry-run", "Print the effect on the quorum, or the refusal; change nothing."),
        _switch(
            "--force",
            "Make the change even if the members that respond now would be no quorum after it.",
        ),
        _timeout_option,
        trust_options,
        endpoints_option,
    )
    for decorate in decorators:
        command = decorate(command)
    return command


@click.group(no_args_is_help=False)
def member() -> None:
    """See and change the members."""


@member.command("list", context_settings=_CONTEXT)
@endpoints_option
@trust_options
@_timeout_option
@write_out_option
def list_members(endpoints: tuple[str, ...], trust: "Trust", timeout: float, write_out: str) -> int:
    """List the members, as the leader sees them.

    If the leader cannot be reached, the list is that of the member that answers. A member that does not
    acknowledge new entries is asked what is wrong.
    """
    from raftkv_trio.client.members import Cluster, as_json, table

    async def ask(cluster: Cluster) -> str:
        seen = await cluster.members()
        if write_out == "json":
            return as_json(seen)
        return "\n".join([table(seen), *await cluster.why_inactive(seen)])

    click.echo(_run(endpoints, timeout, trust, ask))
    return 0


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@click.argument("url", metavar="URL")
@click.option(
    "--promote",
    type=click.Choice(["auto", "manual"]),
    default="auto",
    show_default=True,
    help="auto: becomes a voter when it has caught up; manual: `member promote` makes it one.",
)
@_change_options
def add(node_id: str, url: str, promote: str, **how: Any) -> int:
    """Add a node to the cluster.

    Node ID becomes a learner, and the other members reach it at URL. Then start it with --join.
    """
    peer_url = PeerAddress.parse(url).url
    change = {"action": "add", "id": parse_node_id(node_id), "url": peer_url, "promote": promote}
    return _change(change, f"node {node_id} is a learner; start it with --join", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@_change_options
def promote(node_id: str, **how: Any) -> int:
    """Make a learner a voter.

    Learner ID must have caught up with the leader.
    """
    return _change({"action": "promote", "id": parse_node_id(node_id)}, f"node {node_id} is a voter", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@_change_options
def remove(node_id: str, **how: Any) -> int:
    """Remove a node from the cluster.

    Node ID shuts down when it learns of its removal. The id can never be used again.
    """
    return _change({"action": "remove", "id": parse_node_id(node_id)}, f"node {node_id} is removed", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@click.argument("url", metavar="URL")
@_change_options
def update(node_id: str, url: str, **how: Any) -> int:
    """Change the peer URL of a node.

    The other members reach node ID at URL from then on. Then start it there with --listen-peer: a node that
    missed the change would listen at its old address.
    """
    change = {"action": "update", "id": parse_node_id(node_id), "url": PeerAddress.parse(url).url}
    return _change(change, f"members reach node {node_id} at {url}; start it there with --listen-peer", **how)


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="[ID]", required=False)
@endpoints_option
@trust_options
@_timeout_option
def transfer(node_id: str | None, endpoints: tuple[str, ...], trust: "Trust", timeout: float) -> int:
    """Transfer leadership to another voter.

    Without an ID the leader chooses the voter.
    """
    from raftkv_trio.client.members import Cluster

    to = None if node_id is None else parse_node_id(node_id)
    leader = _run(endpoints, timeout, trust, lambda cluster: Cluster.transfer(cluster, to))
    click.echo("leadership is transferred" if leader is None else f"node {leader} leads")
    return 0


@member.command(context_settings=_CONTEXT)
@click.argument("node_id", metavar="ID")
@endpoints_option
@trust_options
@_timeout_option
def forget(node_id: str, endpoints: tuple[str, ...], trust: "Trust", timeout: float) -> int:
    """Have a node's data directory forgotten.

    All other members forget by which data directory they know node ID, and take the next one that it shows.
    Use this if a stranger was first under the id of a node that was just added. The leader refuses it for a
    voter, and for a learner that has acknowledged entries. Then remove node ID, and add the node under a new
    id.
    """
    from raftkv_trio.client.members import Cluster

    forgotten = parse_node_id(node_id)
    outcome = _run(endpoints, timeout, trust, lambda cluster: Cluster.forget(cluster, forgotten))
    click.echo("\n".join(outcome.lines))
    if outcome.failed:
        raise RaftKVError(
            f"{outcome.failed} of {len(outcome.lines)} members did not forget node {forgotten}; the lines"
            " above say why; give the command again when they answer"
        )
    return 0


def _change(
    change: Mapping[str, Any],
    done: str,
    *,
    endpoints: tuple[str, ...],
    trust: "Trust",
    timeout: float,
    force: bool,
    dry_run: bool,
) -> int:
    from raftkv_trio.client.members import Cluster

    if dry_run:
        click.echo(
            _run(
                endpoints, timeout, trust, lambda cluster: Cluster.dry_run(cluster, [change], is_forced=force)
            )
        )
    else:
        _run(endpoints, timeout, trust, lambda cluster: Cluster.change(cluster, [change], is_forced=force))
        click.echo(done)
    return 0


def _run(endpoints: tuple[str, ...], timeout: float, trust: "Trust", what: Callable[[Any], Any]) -> Any:
    from raftkv_trio.client.members import open_cluster

    async def ask(addresses: list[ClientAddress], trust: "Trust", login: "Login | None") -> Any:
        async with open_cluster(addresses, timeout, trust, login) as cluster:
            return await what(cluster)

    return ask_members(endpoints, timeout, trust, ask)


@member.command("set-addresses")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("addresses", metavar="ID=URL...", nargs=-1, required=True)
def set_addresses(directory: Path, addresses: tuple[str, ...]) -> int:
    """Recover when all members have moved at once.

    DIR is the data directory of a stopped member. In it the members that are named get these peer URLs, and
    nothing else changes. Do this in the directory of every member, with the same ID=URL, before you start
    any of them. To move one member while the others run, use `member update`.
    """
    from raftkv_trio.offline.set_addresses import set_addresses as set_them

    given = dict(_address_of(text) for text in addresses)
    if len(given) < len(addresses):
        raise ConfigError("an ID is given twice; name each member once")
    moved = set_them(directory, given)
    members = ",".join(f"{i}={address.url}" for i, address in moved.members.items())
    click.echo(f"{directory}: node {moved.node_id} of {members}")
    if moved.unknown:
        ids = ", ".join(map(str, moved.unknown))
        click.echo(f"it knows no member {ids}: right if this node has missed the change that added it")
    if moved.kept is not None:
        click.echo(f"its log as it was is kept as {moved.kept}; remove that when all members work")
    click.echo("do the same in the directory of every other member before you start any of them")
    return 0


def _address_of(text: str) -> tuple[int, PeerAddress]:
    node_id, equals, url = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not of the form ID=URL, for example 2=http://10.0.0.2:2379")
    return parse_node_id(node_id), PeerAddress.parse(url)


@member.command("force-new-cluster")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--data-dir",
    metavar="NEW",
    required=True,
    type=click.Path(path_type=Path),
    help="Data directory to make; the node keeps its id.",
)
@_switch("--yes", "Do not ask for confirmation.")
def force_new_cluster(directory: Path, data_dir: Path, yes: bool) -> int:
    """Recover when the majority is lost for good.

    It makes a new cluster of one member from DIR, the data directory of a stopped member; take the one with
    the highest last index that `check` reports. DIR stays as it is, and NEW has everything that DIR holds.

    Writes that only the lost members had are gone, even if they were acknowledged. Writes that DIR holds
    count as committed, even if they were never acknowledged. Do this on one member only, and never start
    another member of the old cluster again: both clusters would accept writes.
    """
    from raftkv_trio.offline.force_new_cluster import force_new_cluster as force

    if not yes:
        confirm(
            "this gives up what only the other members hold",
            f"Everything that only the other members have, and {directory} does not, is given up. None of"
            " them may ever be started again.",
            "Are they lost for good?",
        )
    forced = force(directory, data_dir)
    others = ", ".join(str(i) for i in forced.former if i != forced.node_id) or "none"
    click.echo(
        f"{forced.directory}: node {forced.node_id}, alone in the new cluster {forced.cluster_id:x}, at index"
        f" {forced.index}; {forced.doubtful} of its entries may never have been acknowledged\n"
        f"removed, never start them again: {others}\n"
        f"serve it with --id {forced.node_id} --cluster {forced.node_id}={forced.url} --data-dir"
        f" {forced.directory}; add others under new ids"
    )
    return 0
