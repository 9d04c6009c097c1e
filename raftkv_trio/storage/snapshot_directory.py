"""The snapshot files of a data directory. Which of them is the newest, the log says."""

from collections.abc import Generator
from pathlib import Path

from raftkv_trio.errors import REMEDY, CorruptLog
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

KEPT = 3


class SnapshotDirectory:
    """What is in `snap/`. Every method may block on the disk, and raises OSError.

    Attributes:
        newest: the one that the log continues.
    """

    def __init__(self, disk: Disk, directory: Path, newest: SnapshotId) -> None:
        self._disk = disk
        self._directory = directory
        self.newest, _ = self.read_head(newest)

    def begin(self, meta: SnapshotMeta, envelope: bytes) -> SnapshotFile:
        """Begin a snapshot of this node's own."""
        return SnapshotFile(self._disk, self._directory, meta, envelope)

    def receive(self, snapshot: SnapshotId, size_bytes: int) -> IncomingSnapshot:
        """Begin to receive a snapshot, or go on with what is here of it."""
        path = self._directory / f"{snapshot.file_name}.part"
        incoming = IncomingSnapshot(self._disk, path)
        if incoming.offset > size_bytes:  # of another file of that name
            incoming.abandon()
            incoming = IncomingSnapshot(self._disk, path)
        return incoming

    def adopt(self, snapshot: SnapshotId) -> SnapshotMeta:
        """What was received whole has its name from now on; raises CorruptLog."""
        path = self._directory / snapshot.file_name
        self._disk.rename(path.with_name(f"{path.name}.part"), path)
        self._disk.sync_directory(self._directory)
        return self.read_head(snapshot)[0]

    def open(self, snapshot: SnapshotId) -> DiskFile:
        """The bytes of a snapshot; they can be read to the end even when it is removed meanwhile."""
        return self._disk.open(self._directory / snapshot.file_name, read_only=True)

    def chunks(self, snapshot: SnapshotId) -> Generator[bytes, None, None]:
        """The state machine's chunks, lazily; raises CorruptLog."""
        yield from read_chunks(self._disk, self._directory / snapshot.file_name)

    def tidy(self, *, starting: bool = False) -> None:
        """Keep the newest one and the two before it, and what is being received after it.

        When `starting` nobody writes any file: what was being written, or never got into the log, goes too.
        """
        newest = self.newest  # before the names are read: the log writer may adopt a later one meanwhile
        whole: list[SnapshotId] = []
        superfluous: list[str] = []
        for name in self._disk.list_directory(self._directory):
            snapshot = SnapshotId.parse(name)
            if snapshot is None:
                continue
            is_newer = snapshot.index > newest.index
            if name == snapshot.file_name and (not is_newer or not starting):
                whole.append(snapshot)
            elif not is_newer or (starting and not name.endswith(".part")):
                superfluous.append(name)
        whole.sort(key=lambda snapshot: snapshot.index)
        superfluous += [snapshot.file_name for snapshot in whole[:-KEPT]]
        for name in superfluous:
            self._disk.unlink(self._directory / name)
        if superfluous:
            self._disk.sync_directory(self._directory)

    def read_head(self, snapshot: SnapshotId) -> tuple[SnapshotMeta, bytes]:
        """Which moment a snapshot is of, and the node's own part of it; raises CorruptLog."""
        path = self._directory / snapshot.file_name
        if not self._disk.exists(path):
            raise CorruptLog(f"{path} is missing, which the log continues: {REMEDY}")
        parts = read_parts(self._disk, path)
        try:
            meta = decode_meta(path, next(parts))
            if meta.id != snapshot:
                raise CorruptLog(f"{path} holds another snapshot: {REMEDY}")
            return meta, next(parts)
        finally:
            parts.close()
