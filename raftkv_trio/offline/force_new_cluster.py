"""`raftkv-trio member force-new-cluster`: one member goes on alone when the majority is lost for good."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom

from raftkv_trio.addresses import cluster_id_of, restored_cluster_id
from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import Store
from raftkv_trio.node.applier import apply_entries
from raftkv_trio.node.recovery import restore_machine
from raftkv_trio.offline.restore import restore_directory, verify_backup
from raftkv_trio.payload.envelope import Envelope, Member
from raftkv_trio.payload.membership import Membership
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import (
    BOOTSTRAP_INDEX,
    Bootstrap,
    Disk,
    NodeStorage,
    OsDisk,
    SnapshotMeta,
    is_new,
    open_storage,
)
from raftkv_trio.storage.small_files import read_identity
from raftkv_trio.storage.snapshot_file import SnapshotFile


@dataclass(frozen=True, slots=True)
class Forced:
    """A new cluster of one member.

    Attributes:
        index: what its state is that of.
        url: where peers reach the one member.
        doubtful: how many of the entries that it holds may never have been acknowledged.
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
    """Make of a stopped member's directory that of the only member of a new cluster, in `target`.

    It has every entry of the old log, committed or not: nobody can tell any more, and none that was
    acknowledged may be lost. But of its own removal, where that is not known to be committed, nothing comes:
    whoever could tell is lost. The old directory stays as a clean stop leaves it. The cluster id is hashed
    from the old one, the remaining member and the state, so that no two members make the same; and as for
    `restore`, so that a start with that member as `members` knows its own.

    Raises ConfigError where one of the two is not as it must be, StorageError, OSError.
    """
    disk = OsDisk()
    work = target.with_name(f"{target.name}.forcing")
    for taken in (target, work):
        if taken.exists():
            raise ConfigError(f"{taken} exists already; remove it, or name another with `data_dir`")
    if is_new(disk, directory):
        raise ConfigError(f"{directory} is no data directory of a node that has run")
    node_id = read_identity(disk, directory).node_id
    storage = open_storage(disk, directory, node_id=node_id, bootstrap=None, rng=SystemRandom())
    try:
        machine, envelope, own, meta, doubtful = _replay(storage)
        if meta.index < BOOTSTRAP_INDEX:
            raise ConfigError(f"{directory} is of a node that was still to join, and holds nothing")
        removed_at = envelope.removed.get(node_id)
        if own is None or (removed_at is not None and removed_at <= meta.index - doubtful):
            raise ConfigError(
                f"{directory} is of node {node_id}, which was removed from its cluster; take that of a member"
                " that was to stay"
            )
        others = sorted(envelope.members.keys() - {node_id})
        removed = {**envelope.removed, **dict.fromkeys(others, meta.index)}
        removed.pop(node_id, None)
        alone = Envelope(members={node_id: own}, removed=removed).encode()
        work.mkdir(parents=True)
        backup = verify_backup(disk, _write(disk, work, meta, alone, machine.snapshot()))
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


def _replay(storage: NodeStorage) -> tuple[Store, Envelope, Member | None, SnapshotMeta, int]:
    """All that a directory holds, applied.

    The store, the members, the one that it is of as it last was one, up to where, and what may be too much.
    """
    machine, meta = Store(), storage.snapshot
    restore_machine(machine, storage)
    node_id = storage.identity.node_id
    envelope = Envelope.decode(storage.read_envelope(meta.id))
    own = envelope.members.get(node_id)

    def changed(envelope: Envelope) -> None:
        nonlocal own
        own = envelope.members.get(node_id, own)

    membership = Membership(envelope, meta.conf_state, changed)
    entries = storage.take_entries()
    apply_entries(machine, membership, entries)
    if entries:
        meta = SnapshotMeta(entries[-1].index, entries[-1].term, membership.conf_state)
    committed = max(storage.hard_state.commit, storage.snapshot.index)
    return machine, membership.envelope, own, meta, max(0, meta.index - committed)


def _write(disk: Disk, directory: Path, meta: SnapshotMeta, envelope: bytes, chunks: Iterator[bytes]) -> Path:
    file = SnapshotFile(disk, directory, meta, envelope)
    try:
        for chunk in chunks:
            file.write([chunk])
        return file.finish()
    finally:
        file.close()
