"""Puts a new log in the place of the old one, which is kept: each step is durable before the next.

    wal.mending      the new log while it is built
    wal.mended       the new log, whole
    wal.replaced-<n>  the old log, moved out of the way; then `wal.mended` becomes `wal`

A crash leaves the old log where it was, or no log and the new one whole. Then only its name is missing,
which `finish_swap` gives it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from raftkv_trio.offline.repair import move_aside
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import Disk, Identity, SnapshotId
from raftkv_trio.storage.wal import begin_log, open_log

_UNFINISHED, _FINISHED = "wal.mending", "wal.mended"
_BATCH_BYTES = 1024 * 1024


def take_snapshot(disk: Disk, path: Path, file: Path) -> list[str]:
    """Copy a snapshot's file, which is whole, to the directory `path` if it is in another one.

    Returns sentences on what was done. Raises OSError.
    """
    target = path / "snap" / file.name
    if file == target:  # it is this directory's own, and stays where it is
        return []
    # A file of that name here is damaged, or it would have been chosen. It is kept all the same.
    done = [move_aside(disk, path, target)] if disk.exists(target) else []
    temporary = target.with_name(f"{file.name}.tmp")
    # An earlier attempt may have left a longer one.
    if disk.exists(temporary):
        disk.unlink(temporary)
    source, copy = disk.open(file, read_only=True), disk.open(temporary, create=True)
    try:
        offset = 0
        while data := source.read_at(offset, _BATCH_BYTES):
            copy.write_at(offset, data)
            offset += len(data)
        # Durable before it has its name, as when a node writes one. The new log will continue it.
        copy.datasync()
    finally:
        source.close()
        copy.close()
    disk.rename(temporary, target)
    disk.sync_directory(target.parent)
    return [*done, f"copied {file} to {target}"]


def build_log(
    disk: Disk,
    path: Path,
    identity: Identity,
    base: SnapshotId,
    hard_state: HardState,
    entries: Sequence[Entry],
    *,
    segment_bytes: int,
) -> None:
    """Build a log beside the one of the directory `path`; whole and durable when this returns.

    Raises OSError, StorageError.
    """
    # What an earlier attempt left is built again: the decision may be another one now. Emptied and synced, so
    # that after a loss of power no old segment stands among the new ones.
    unfinished, finished = path / _UNFINISHED, path / _FINISHED
    for leftover in (unfinished, finished):
        disk.make_directory(leftover)
        for name in disk.list_directory(leftover):
            disk.unlink(leftover / name)
        disk.sync_directory(leftover)
    # By the log's own writer, so that it is a log like any other, and every record is synced.
    begin_log(disk, unfinished, identity.encode(), base, segment_bytes=segment_bytes)
    # Opened as at a start, so what was just made is read and verified once before entries go behind it.
    log = open_log(disk, unfinished, identity.encode(), segment_bytes=segment_bytes)
    try:
        for batch in _batches(entries):
            log.append(hard_state, batch)
    finally:
        # No closing record: each batch is durable, and the last commit index is in the last one.
        log.close(clean=False)
    # The rename says that it is whole: `finish_swap` trusts the name alone.
    disk.rename(unfinished, finished)
    disk.sync_directory(path)


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The entries in batches of about a mebibyte; at least one, so that the hard state is written."""
    batch: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        batch.append(entry)
        size_bytes += len(entry.data)
        if size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    yield batch


def swap_logs(disk: Disk, path: Path) -> Path:
    """Put the log that was built in the place of the old one; returns where that is kept. Raises OSError."""
    # An earlier repair's is kept, too: two attempts may have judged different damage.
    number = 1
    while disk.exists(kept := path / f"wal.replaced-{number}"):
        number += 1
    disk.make_directory(path / "wal")  # it may have been lost, too
    # One rename cannot exchange two directories. Between the two there is no log: synced here, so that the
    # second rename is never durable without the first, and both logs are there at every moment.
    disk.rename(path / "wal", kept)
    disk.sync_directory(path)
    finish_swap(disk, path)
    return kept


def finish_swap(disk: Disk, path: Path) -> bool:
    """Give a log that was built its name if the old one is out of the way; returns whether it did.

    Raises OSError.
    """
    log, finished = path / "wal", path / _FINISHED
    # An empty directory is no log: a start that was tried after the crash has made it.
    if disk.exists(log) and disk.list_directory(log):
        return False
    # Nothing to finish, or an empty directory that `build_log` has made for its rename.
    if not disk.exists(finished) or not disk.list_directory(finished):
        return False
    disk.rename(finished, log)
    disk.sync_directory(path)
    return True
