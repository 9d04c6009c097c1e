"""Commands on data directories of stopped nodes: `check` and `restore`."""

from pathlib import Path

import click

from raftkv_trio.addresses import parse_cluster, parse_node_id
from raftkv_trio.cli.shared_flags import option
from raftkv_trio.config import DEFAULT_CLUSTER, NodeConfig
from raftkv_trio.errors import ConfigError

_CONTEXT = {"auto_envvar_prefix": "RAFTKV_TRIO"}

_SOUND, _WRONG = 0, 1


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Repair what can be repaired without losing anything.")
@click.option(
    "--with",
    "others",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Data directory of another member, to replace what is damaged. Repeat it for each member.",
)
@click.option(
    "--no-contents",
    is_flag=True,
    help="Do not check that snapshots hold keys and values: for a program with another state machine.",
)
@click.option("-w", "--write-out", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def check(directory: Path, repair: bool, others: tuple[Path, ...], no_contents: bool, write_out: str) -> int:
    """Check the data directory of a stopped node.

    It prints what DIR holds and what is wrong with it. The exit code is 0 if nothing is wrong, otherwise 1.
    Without --repair nothing is written.

    With --repair a torn record at the end of the log is cut off and kept, files that a crash left unfinished
    are removed, and damaged files that no start needs are moved to DIR/aside.

    With --repair --with DIR a damaged log is rebuilt from the data directories of the other members. Stop all
    members first, then copy their directories to this machine, and give one --with for each. The copies are
    only read, and the damaged log is kept as DIR/wal.replaced-1. If it cannot be known what was lost, nothing
    is changed and the exit code is 2.
    """
    from raftkv_trio.cli.progress import disk_with_progress
    from raftkv_trio.kv import Store
    from raftkv_trio.offline.inspection import inspect_directory
    from raftkv_trio.offline.report import as_json, as_text

    if others and not repair:
        raise ConfigError("--with needs --repair")
    if len({path.resolve() for path in (directory, *others)}) <= len(others):
        raise ConfigError("a directory is given twice; --with is for those of the other members")
    with disk_with_progress("check", sum(map(_size_bytes, (directory, *others)))) as disk:
        inspection = inspect_directory(
            directory, repairs=repair, others=others, disk=disk, machine=None if no_contents else Store()
        )
    click.echo(as_json(inspection) if write_out == "json" else as_text(inspection))
    return _SOUND if inspection.is_sound else _WRONG


@click.command(context_settings=_CONTEXT)
@option("--id", "id_text", envvar="RAFTKV_TRIO_ID", metavar="N", default="1", help="Id of the new node.")
@option(
    "--cluster", metavar="URLS", default=DEFAULT_CLUSTER, help="Peer URLs of all new members, as for `serve`."
)
@option(
    "--cluster-token", metavar="TEXT", default="", help="Distinguishes clusters that use the same addresses."
)
@option("--data-dir", type=click.Path(path_type=Path), help="Data directory.  [default: ./raftkv-trio-ID]")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def restore(id_text: str, cluster: str, cluster_token: str, data_dir: Path | None, file: Path) -> int:
    """Make a new cluster from a backup.

    It makes the data directory of one member of a new cluster, whose state is that of the backup in FILE. Run
    it for each member with the same FILE, --cluster and --cluster-token, then run `serve` with these flags.
    If FILE is -, the backup is read from standard input, and copied to a temporary file, in TMPDIR, first.
    """
    from raftkv_trio.cli.progress import disk_with_progress
    from raftkv_trio.offline.restore import restore_node

    node_id = parse_node_id(id_text)
    config = NodeConfig(
        node_id=node_id,
        members=parse_cluster(cluster),
        data_dir=data_dir or Path(f"raftkv-trio-{node_id}"),
        cluster_token=cluster_token,
    )
    with disk_with_progress("restore", 2 * _size_bytes(file)) as disk:  # it is verified first
        cluster_id, meta = restore_node(config, file, disk=disk)
    click.echo(f"{config.data_dir}: node {node_id} of the new cluster {cluster_id:x}, at index {meta.index}")
    return 0


def _size_bytes(path: Path) -> int:
    """Of a file, or of the log and the snapshots in a data directory; 0 if that cannot be seen."""
    files = [path] if path.is_file() else [*path.glob("wal/*"), *path.glob("snap/*")]
    return sum(file.stat().st_size for file in files if file.is_file())
