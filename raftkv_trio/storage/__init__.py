"""Durability: the write-ahead log, snapshots and the data directory, synchronous over a small Disk port."""

from raftkv_trio.storage.disk import Disk, OsDisk
from raftkv_trio.storage.node_storage import (
    BOOTSTRAP_TERM,
    Bootstrap,
    Identity,
    NodeStorage,
    is_new,
    open_storage,
)

__all__ = [
    "BOOTSTRAP_TERM",
    "Bootstrap",
    "Disk",
    "Identity",
    "NodeStorage",
    "OsDisk",
    "is_new",
    "open_storage",
]
