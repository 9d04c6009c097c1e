"""The snapshot files of a data directory, `snap/`. The log says which of them is the newest.

So a whole file counts for nothing until a record of the log names it. A crash between the two leaves a file
that a start removes; the other order would leave a log that continues a snapshot which is not there.
"""

import errno
import os
from collections.abc import Generator
from pathlib import Path

from raftkv_trio.errors import CorruptLog, remedy
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.incoming_snapshot import IncomingSnapshot
from raftkv_trio.storage.snapshot_file import (
    SnapshotFile,
    SnapshotId,
    SnapshotMeta,
    decode_meta,
    read_chunks,
    read_parts,
)

KEPT = 3  # whole snapshots
#: How many received snapshots may wait to be installed: while one is, a newer one may come.
MAX_WAITING = 2


class SnapshotDirectory:
    """The files in `snap/`. Every method may block on the disk, and raises OSError.

    Attributes:
        newest: the snapshot that the log continues. Its owner sets it when the log's record is durable.

    Raises CorruptLog if the snapshot that the log continues is missing or its head does not verify.
    """

    def __init__(self, disk: Disk, directory: Path, newest: SnapshotId) -> None:
        self._disk = disk
        self._directory = directory
        self._begun: SnapshotFile | None = None  # the last one
        # Read now and not when it is needed: a directory whose snapshot is gone is refused at the start.
        self.newest, _ = self.read_head(newest)
        self._adopted_bytes = self._read_size(newest)
        self._waiting: set[SnapshotId] = set()  # changed by several threads, each time in one operation

    @property
    def newest_bytes(self) -> int:
        """The size of the newest snapshot's file. Does not block."""
        begun = self._begun
        return begun.size_bytes if begun is not None and begun.id == self.newest.id else self._adopted_bytes

    def begin(self, meta: SnapshotMeta, envelope: bytes) -> SnapshotFile:
        """Begin a snapshot of this node's own, one at a time. Until it ends `tidy` leaves its file alone."""
        self._begun = SnapshotFile(self._disk, self._directory, meta, envelope)
        return self._begun

    def receive(self, snapshot: SnapshotId, size_bytes: int, spared_bytes: int = 0) -> IncomingSnapshot:
        """Begin to receive a snapshot of a member, or go on with what is here of it.

        What is here of other snapshots is removed: their senders have given up, or have newer ones by now. So
        there is one unfinished file at most, beside `MAX_WAITING` that wait for `adopt`.

        Args:
            spared_bytes: how much room must be left on the disk behind it.

        It must not wait for `adopt`: its file is whole, and stays as it is.

        Raises OSError: with ENOSPC, at once, if the file would not fit; with EBUSY while too many wait.
        """
        # Read before the names: `adopt` renames a file, and only then takes it out of these.
        waiting = self.waiting
        assert snapshot not in waiting
        if len(waiting) >= MAX_WAITING:
            raise OSError(errno.EBUSY, "earlier snapshots are still being installed", str(self._directory))
        path = self._directory / f"{snapshot.file_name}.part"
        kept = {path.name, *[f"{other.file_name}.part" for other in waiting]}
        for name in self._disk.list_directory(self._directory):
            if name.endswith(".part") and name not in kept:
                self._disk.unlink(self._directory / name)
        incoming = IncomingSnapshot(self._disk, path, size_bytes)
        # More is here than the sender has: another member's file of the same snapshot, of other length.
        if incoming.offset > size_bytes:
            incoming.abandon()
            incoming = IncomingSnapshot(self._disk, path, size_bytes)
        # Asked first, and not found out at the end of a transfer that is then repeated. What is here of the
        # file goes too: the log needs that room more.
        if self._disk.room(self._directory) < size_bytes - incoming.offset + spared_bytes:
            incoming.abandon()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return incoming

    @property
    def waiting(self) -> set[SnapshotId]:
        """The snapshots that were received whole, and wait for `adopt`. Does not block.

        The core knows of each, or will, so it is adopted or forgotten sooner or later.
        """
        return {snapshot for snapshot in self._waiting.copy() if snapshot.index > self.newest.index}

    def keep_received(self, snapshot: SnapshotId) -> None:
        """The core hears of this received snapshot, so its file stays for `adopt`. Does not block."""
        self._waiting.add(snapshot)

    def forget_received(self, snapshot: SnapshotId) -> None:
        """Nobody will `adopt` this snapshot: its file goes when the next one comes. Does not block."""
        self._waiting.discard(snapshot)

    def adopt(self, snapshot: SnapshotId) -> SnapshotMeta:
        """Give a snapshot that was received, whole and durable, its name; raises CorruptLog.

        It counts only when the log's record says so.
        """
        path = self._directory / snapshot.file_name
        # The receiver has synced the contents, so only the name is missing.
        self._disk.rename(path.with_name(f"{path.name}.part"), path)
        self.forget_received(snapshot)
        self._disk.sync_directory(self._directory)
        self._adopted_bytes = self._read_size(snapshot)
        return self.read_head(snapshot)[0]

    def open(self, snapshot: SnapshotId) -> DiskFile:
        """Open a snapshot's file; it can be read to its end even if `tidy` removes it meanwhile."""
        return self._disk.open(self._directory / snapshot.file_name, read_only=True)

    def chunks(self, snapshot: SnapshotId) -> Generator[bytes, None, None]:
        """The state machine's chunks of a snapshot, lazily; raises CorruptLog."""
        yield from read_chunks(self._disk, self._directory / snapshot.file_name)

    def tidy(self, *, starting: bool = False) -> None:
        """Remove obsolete files: keep the last three whole snapshots, and what is being written or received.

        Older ones than the newest are kept since a message to a follower may name one that was the newest a
        moment ago, and for a rebuild of a damaged log.

        Args:
            starting: nobody writes a file yet, so files that were being written, or that the log does not
                know of, are obsolete too. If it is False this may run beside the log writer.
        """
        # Read before the names: the log writer may adopt a later snapshot meanwhile. With the older one fewer
        # files are obsolete, never more.
        newest = self.newest
        # This file may be obsolete already, if a leader's newer snapshot was installed meanwhile. Its writer
        # does not know that before the machine is restored, and needs the name until then.
        being_written = self._begun.temporary.name if self._begun and self._begun.is_open else None
        whole: list[SnapshotId] = []
        obsolete: list[str] = []
        for name in self._disk.list_directory(self._directory):
            snapshot = SnapshotId.parse(name)
            if snapshot is None or name == being_written:
                continue
            is_newer = snapshot.index > newest.index
            # A newer whole file waits for its record in the log. At a start there is none to come: the file
            # was taken or received right before a crash, and can be again.
            if name == snapshot.file_name and (not is_newer or not starting):
                whole.append(snapshot)
            # At a start, half of a received file goes too: it may never be continued, and without room the
            # node could not even begin.
            elif not is_newer or starting:
                obsolete.append(name)
        whole.sort(key=lambda snapshot: snapshot.index)
        # By index. The newest is among the last three: at most two others wait for their records, one that
        # was taken here and one that was received.
        obsolete += [snapshot.file_name for snapshot in whole[:-KEPT]]
        for name in obsolete:
            self._disk.unlink(self._directory / name)
        # One sync for all: a file that comes back after a loss of power is removed the next time.
        if obsolete:
            self._disk.sync_directory(self._directory)

    def _read_size(self, snapshot: SnapshotId) -> int:
        file = self.open(snapshot)
        try:
            return file.size()
        finally:
            file.close()

    def read_head(self, snapshot: SnapshotId) -> tuple[SnapshotMeta, bytes]:
        """A snapshot's header and the node's own part of it; raises CorruptLog.

        The chunks behind them are not read: that takes long, and they are verified when they are restored.
        """
        path = self._directory / snapshot.file_name
        if not self._disk.exists(path):
            raise CorruptLog(f"{path} is missing, and the log continues it: {remedy(self._directory.parent)}")
        # Closed here and not by the garbage collector, since a part of it is not read.
        parts = read_parts(self._disk, path)
        try:
            meta = decode_meta(path, next(parts))
            # A file that was copied or renamed by hand verifies, and holds another moment of the log.
            if meta.id != snapshot:
                raise CorruptLog(
                    f"{path} holds another snapshot than its name says: {remedy(self._directory.parent)}"
                )
            return meta, next(parts)
        finally:
            parts.close()
