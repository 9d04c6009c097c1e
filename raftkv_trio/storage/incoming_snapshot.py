"""A snapshot that arrives from another member, in pieces and over several connections if need be."""

from pathlib import Path

from raftkv_trio.errors import CorruptLog
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.snapshot_file import PartReader, SnapshotMeta, decode_meta

_READ_BYTES = 1024 * 1024


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
