"""The disk: what a running node keeps in its data directory, so that no acknowledged entry or vote is lost.

The room is synchronous and knows no Trio: its calls block, so the node makes them in a worker thread. It
reaches the file system through `Disk`, a port with a real and a simulated form. How a stopped directory is
checked, repaired and restored is in `offline/`, which uses this room; nothing here knows of it.

The rules of the disk, and where each is kept:

1. fdatasync before anything is acknowledged: votes, entries, and the commit of a conf change (`wal.py`).
2. An error of a sync or of a write ends the node. It is never retried: the page cache cannot be believed
   after it, and for the same reason a start writes the last record again (`wal.py`).
3. Only the last record can be torn, since each record is durable before the next one is written. It counts
   as torn only if one of its 512-byte sectors was never written (`record.py`, `is_torn`). A start cuts it
   off and keeps a copy. Everything else that does not verify is corruption: the start is refused, and the
   error says file, offset and what to do.
4. A name is durable when its directory is synced: after each create, rename and unlink that something
   depends on. A file gets its final name when it is whole and durable.
5. A snapshot is a file first, then a record of the log, and then a reason to remove what it covers. The log
   alone says which snapshot is the newest (`snapshot_file.py`, `snapshot_directory.py`, `wal.py`).
6. A segment is used when its first record and its name are durable, and then a record that ends the segment
   before (`wal.py`, `_cut`). A spare segment is kept, so that votes can be written on a full disk
   (`segments.py`).
7. `identity` is written last when a directory is made, and marks it as whole (`data_directory.py`).

Which file does what, from the bottom up:

    disk.py                 the port to the file system, and its real form
    small_files.py          identity, peers, origin, removed, lost, auth-reset: replaced as a whole
    snapshot_file.py        the format of a snapshot, which is the format of a backup, too
    incoming_snapshot.py    a snapshot that another member sends
    snapshot_directory.py   the snapshots that are here
    record.py               the format of a record of the log; what is torn and what is damaged
    segments.py             the files of the log
    log_reader.py           reading a log
    wal.py                  writing it, and recovering it at a start
    node_storage.py         an open data directory: what the node calls
    data_directory.py       making and opening a data directory
"""

from raftkv_trio.storage.data_directory import (
    BOOTSTRAP_INDEX,
    BOOTSTRAP_TERM,
    DIRECTORY_ID_BYTES,
    Bootstrap,
    UnusableDirectory,
    is_new,
    open_storage,
)
from raftkv_trio.storage.disk import Disk, DiskFile, OsDisk, describe_os_error, is_no_room
from raftkv_trio.storage.incoming_snapshot import IncomingSnapshot
from raftkv_trio.storage.node_storage import NodeStorage
from raftkv_trio.storage.small_files import Identity
from raftkv_trio.storage.snapshot_file import SnapshotId, SnapshotMeta, VerifiedSnapshot, verify_snapshot

__all__ = [
    "BOOTSTRAP_INDEX",
    "BOOTSTRAP_TERM",
    "DIRECTORY_ID_BYTES",
    "Bootstrap",
    "Disk",
    "DiskFile",
    "Identity",
    "IncomingSnapshot",
    "NodeStorage",
    "OsDisk",
    "SnapshotId",
    "SnapshotMeta",
    "UnusableDirectory",
    "VerifiedSnapshot",
    "describe_os_error",
    "is_new",
    "is_no_room",
    "open_storage",
    "verify_snapshot",
]
