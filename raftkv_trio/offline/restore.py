"""A data directory made of a backup: one member of a new cluster, whose first snapshot is the backup's state.

The snapshot has the backup's index, so that indexes go on from there, and the term of every bootstrap. The
directory has its name when all of it is durable: a start never finds a part, which it would take for new.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from raftkv_trio.addresses import restored_cluster_id
from raftkv_trio.config import DEFAULT_SEGMENT_BYTES, NodeConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.backup import Backup, verify_backup
from raftkv_trio.storage.disk import Disk, write_whole_file
from raftkv_trio.storage.node_storage import (
    BOOTSTRAP_TERM,
    DIRECTORY_ID_BYTES,
    Bootstrap,
    Identity,
    sync_parents,
    write_known,
    write_origin,
)
from raftkv_trio.storage.small_files import seal
from raftkv_trio.storage.snapshot_file import (
    SnapshotFile,
    SnapshotMeta,
    read_parts,
)
from raftkv_trio.storage.wal import begin_log


def restore_directory(
    disk: Disk,
    path: Path,
    backup: Backup,
    *,
    node_id: int,
    bootstrap: Bootstrap,
    rng: random.Random,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> SnapshotMeta:
    """Make the data directory `path`, which must not exist; the snapshot that it begins with.

    Raises ConfigError where it, or what an earlier attempt left, exists; OSError.
    """
    unfinished = path.with_name(f"{path.name}.restoring")
    for taken in (path, unfinished):
        if disk.exists(taken):
            raise ConfigError(f"{taken} exists already; remove it, or name another with `data_dir`")
    for directory in (unfinished / "wal", unfinished / "snap"):
        disk.make_directory(directory)
    disk.open(unfinished / "lock", create=True).close()
    identity = Identity(
        cluster_id=bootstrap.cluster_id,
        node_id=node_id,
        directory_id=rng.getrandbits(8 * DIRECTORY_ID_BYTES).to_bytes(DIRECTORY_ID_BYTES, "big"),
    )
    meta = SnapshotMeta(backup.meta.index, BOOTSTRAP_TERM, bootstrap.conf_state)
    begin_log(disk, unfinished / "wal", identity.encode(), meta.id, segment_bytes=segment_bytes)
    snapshot = SnapshotFile(disk, unfinished / "snap", meta, bootstrap.envelope)
    try:
        for chunk in _chunks(disk, backup.file):
            snapshot.write([chunk])
        snapshot.finish()
    finally:
        snapshot.close()
    write_origin(disk, unfinished, backup.hash)
    write_known(disk, unfinished, {})
    write_whole_file(disk, unfinished / "identity", seal(identity.encode()))
    disk.rename(unfinished, path)
    sync_parents(disk, path)
    return meta


def _chunks(disk: Disk, file: Path) -> Iterator[bytes]:
    parts = read_parts(disk, file)
    next(parts), next(parts)
    yield from parts


def restore_node(config: NodeConfig, file: Path) -> tuple[int, SnapshotMeta]:
    """Make the directory of a node of a new cluster; the cluster's id, and the snapshot it begins with.

    Raises ConfigError where the backup does not verify, before anything is made, or the directory exists;
    OSError where it cannot be written.
    """
    disk = OsDisk()
    backup = verify_backup(disk, file)
    bootstrap = Bootstrap(
        cluster_id=restored_cluster_id(config.cluster_id, backup.hash),
        conf_state=ConfState(voters=tuple(sorted(config.members))),
        envelope=Envelope.of(config.members).encode(),
    )
    meta = restore_directory(
        disk,
        config.data_dir,
        backup,
        node_id=config.node_id,
        bootstrap=bootstrap,
        rng=random.SystemRandom(),
        segment_bytes=config.segment_bytes,
    )
    return bootstrap.cluster_id, meta
