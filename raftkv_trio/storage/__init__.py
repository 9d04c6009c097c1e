"""Durability: the write-ahead log, snapshots and the data directory, synchronous over a small Disk port."""

from raftkv_trio.storage.disk import Disk, OsDisk
from raftkv_trio.storage.node_storage import (
    BOOTSTRAP_TERM,
    Bootstrap,
    Identity,
    NodeStorage,
    open_storage,
)

__all__ = ["BOOTSTRAP_TERM", "Bootstrap", "Disk", "Identity", "NodeStorage", "OsDisk", "open_storage"]
