"""Durability: the write-ahead log, snapshots and the data directory, synchronous over a small Disk port."""

from raftkv_trio.storage.backup import Backup, verify_backup
from raftkv_trio.storage.disk import Disk, DiskFile, OsDisk, is_no_room, trouble
from raftkv_trio.storage.node_storage import (
    BOOTSTRAP_INDEX,
    BOOTSTRAP_TERM,
    Bootstrap,
    Identity,
    NodeStorage,
    is_new,
    open_storage,
)
from raftkv_trio.storage.snapshot_directory import IncomingSnapshot
from raftkv_trio.storage.snapshot_file import SnapshotId, SnapshotMeta

__all__ = [
    "BOOTSTRAP_INDEX",
    "BOOTSTRAP_TERM",
    "Backup",
    "Bootstrap",
    "Disk",
    "DiskFile",
    "Identity",
    "IncomingSnapshot",
    "NodeStorage",
    "OsDisk",
    "SnapshotId",
    "SnapshotMeta",
    "is_new",
    "is_no_room",
    "open_storage",
    "trouble",
    "verify_backup",
]
