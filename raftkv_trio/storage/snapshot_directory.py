"""The snapshot files of a data directory. Which of them is the newest, the log says."""

from collections.abc import Generator
from pathlib import Path

from raftkv_trio.errors import REMEDY, CorruptLog
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.snapshot_file import (
    PartReader,
    SnapshotFile,
    SnapshotId,
    SnapshotMeta,
    decode_meta,
    read_parts,
)

KEPT = 3
_READ_BYTES = 1024 * 1024


class Snapshots:
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

    def receive(self, snapshot: SnapshotId, size_bytes: int) -> "IncomingSnapshot":
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
        parts = read_parts(self._disk, self._directory / snapshot.file_name)
        next(parts), next(parts)
        yield from parts

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


class IncomingSnapshot:
    """A snapshot that is being received, in a file of its own, which a later connection can go on with.

    Attributes:
        offset: so many bytes are here, and verified; more is to come from there on.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._reader = PartReader(path)
        self._header = b""
        is_known = disk.exists(path)
        self._file: DiskFile | None = disk.open(path, create=True)
        try:
            if is_known:
                self._read_again(self._file)
        except OSError:
            self.close()
            raise
        self.offset = self._reader.verified_bytes

    @property
    def is_whole(self) -> bool:
        return self._reader.is_whole

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises CorruptLog where they are none of a snapshot: then nothing counts."""
        assert self._file is not None
        try:
            self._feed(data)
            self._file.write_at(self.offset, data)
        except (CorruptLog, OSError):
            self.abandon()
            raise
        self.offset += len(data)

    def finish(self) -> SnapshotMeta:
        """Make durable what came; which snapshot it is. Raises CorruptLog where it is not the whole."""
        assert self._file is not None
        if not self.is_whole:
            raise self._reader.missing()
        try:
            if self._file.size() > self.offset:  # an earlier connection left more, of which nothing verified
                raise self._reader.missing()
            self._file.datasync()
        except (CorruptLog, OSError):  # what is in the page cache now is not to be believed
            self.abandon()
            raise
        self.close()
        return decode_meta(self._path, self._header)

    def close(self) -> None:
        """Leave what came, for a later connection; again does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Leave nothing."""
        self.close()
        self._disk.unlink(self._path)

    def _feed(self, data: bytes) -> None:
        parts = self._reader.feed(data)
        if parts and not self._header:
            self._header = parts[0]

    def _read_again(self, file: DiskFile) -> None:
        """Verify what an earlier connection left, and count what is whole of it.

        It is written again: after a sync that failed, the page cache takes for written what is not.
        """
        reader, offset = PartReader(self._path), 0
        while data := file.read_at(offset, _READ_BYTES):
            try:
                reader.feed(data)
            except CorruptLog:  # what is in front of it counts
                break
            offset += len(data)
        for begin in range(0, reader.verified_bytes, _READ_BYTES):
            data = file.read_at(begin, min(_READ_BYTES, reader.verified_bytes - begin))
            self._feed(data)
            file.write_at(begin, data)
