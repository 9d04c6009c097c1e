"""Durability: the write-ahead log, snapshots and the data directory, synchronous over a small Disk port."""

from raftkv_trio.storage.data_directory import (
    BOOTSTRAP_INDEX,
    BOOTSTRAP_TERM,
    Bootstrap,
    is_new,
    open_storage,
)
from raftkv_trio.storage.disk import Disk, DiskFile, OsDisk, is_no_room, trouble
from raftkv_trio.storage.incoming_snapshot import IncomingSnapshot
from raftkv_trio.storage.node_storage import NodeStorage
from raftkv_trio.storage.small_files import Identity
from raftkv_trio.storage.snapshot_file import SnapshotId, SnapshotMeta, VerifiedSnapshot, verify_snapshot

__all__ = [
    "BOOTSTRAP_INDEX",
    "BOOTSTRAP_TERM",
    "Bootstrap",
    "Disk",
    "DiskFile",
    "Identity",
    "IncomingSnapshot",
    "NodeStorage",
    "OsDisk",
    "SnapshotId",
    "SnapshotMeta",
    "VerifiedSnapshot",
    "is_new",
    "is_no_room",
    "open_storage",
    "trouble",
    "verify_snapshot",
]
