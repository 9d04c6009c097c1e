"""`raftkv-trio member force-new-cluster`: one member goes on alone when the majority is lost for good.

Without a majority nobody can tell what was committed: the lost members may have acknowledged entries that
this one has and does not know to be committed, or entries that it never had. So this is no repair but a new
cluster, with a new id, that begins with all that this member has. It is made as by a restore of a backup.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom

from raftkv_trio.addresses import cluster_id_of, restored_cluster_id
from raftkv_trio.errors import ConfigError
from raftkv_trio.offline.replay import replay
from raftkv_trio.offline.restore import restore_directory, verify_backup
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import (
    BOOTSTRAP_INDEX,
    Bootstrap,
    Disk,
    OsDisk,
    SnapshotMeta,
    is_new,
    open_storage,
)
from raftkv_trio.storage.data_directory import forcing
from raftkv_trio.storage.small_files import read_identity
from raftkv_trio.storage.snapshot_file import SnapshotFile


@dataclass(frozen=True, slots=True)
class Forced:
    """A new cluster of one member.

    Attributes:
        directory: its data directory.
        index: of the last entry that its state holds.
        url: where peers reach the one member.
        doubtful: the number of entries in that state which this member did not know to be committed.
        former: the members of the old cluster.
    """

    directory: Path
    node_id: int
    cluster_id: int
    index: int
    url: str
    doubtful: int
    former: tuple[int, ...]


def force_new_cluster(directory: Path, target: Path) -> Forced:
    """Make, in `target`, the directory of the only member of a new cluster from a stopped member's directory.

    The new cluster has every entry of the old log, committed or not: nobody can tell any more, and no entry
    that was acknowledged may be lost. The old directory stays as a clean stop leaves it.

    Raises:
        ConfigError: `target` exists, or `directory` is not that of a stopped member that has run.
        StorageError, OSError: a directory cannot be read or written.
    """
    disk = OsDisk()
    work = forcing(target)
    for taken in (target, work):
        if taken.exists():
            raise ConfigError(f"{taken} exists already; remove it, or name another with `data_dir`")
    if is_new(disk, directory):
        raise ConfigError(f"{directory} is no data directory of a node that has run")
    node_id = read_identity(disk, directory).node_id
    # Opened as at a start: locked, verified, and refused if any of it is damaged.
    storage = open_storage(disk, directory, node_id=node_id, bootstrap=None, rng=SystemRandom())
    try:
        machine, envelope, own, meta, doubtful = replay(storage)
        if meta.index < BOOTSTRAP_INDEX:
            raise ConfigError(f"{directory} is of a node that was still to join, and holds nothing")
        removed_at = envelope.removed.get(node_id)
        # A removal that is known to be committed holds: the others went on without this node. One that is
        # not may never have happened, and nobody is left who could tell; so the member goes on.
        if own is None or (removed_at is not None and removed_at <= meta.index - doubtful):
            raise ConfigError(
                f"{directory} is of node {node_id}, which was removed from its cluster; take the directory of"
                " a member that stayed"
            )
        # The lost members count as removed: should one come back, it is refused under its old id.
        others = sorted(envelope.members.keys() - {node_id})
        removed = {**envelope.removed, **dict.fromkeys(others, meta.index)}
        removed.pop(node_id, None)
        alone = replace(envelope, members={node_id: own}, removed=removed).encode()
        disk.make_directory(work)
        backup = verify_backup(disk, _write(disk, work, meta, alone, machine.snapshot()))
        # The cluster id is hashed from the old one, the remaining member and the state, so that two members
        # which are both forced make two clusters. And it is made as for a restore, so that a later start
        # with this member as `members` finds that the directory fits.
        origin = hashlib.sha256(b"forced\n%x\n%s" % (storage.identity.cluster_id, backup.hash)).digest()
        backup = replace(backup, hash=origin)
        bootstrap = Bootstrap(
            cluster_id=restored_cluster_id(cluster_id_of({node_id: own.address}, ""), origin),
            conf_state=ConfState(voters=(node_id,)),
            envelope=alone,
        )
        restore_directory(disk, target, backup, node_id=node_id, bootstrap=bootstrap, rng=SystemRandom())
        return Forced(
            target, node_id, bootstrap.cluster_id, meta.index, own.address.url, doubtful, (node_id, *others)
        )
    finally:
        storage.close(clean=True)
        shutil.rmtree(work, ignore_errors=True)


def _write(disk: Disk, directory: Path, meta: SnapshotMeta, envelope: bytes, chunks: Iterator[bytes]) -> Path:
    file = SnapshotFile(disk, directory, meta, envelope)
    try:
        for chunk in chunks:
            file.write([chunk])
        return file.finish()
    finally:
        file.close()
