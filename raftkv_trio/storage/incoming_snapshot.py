"""A snapshot that another member sends: verified as it arrives, over several connections if one breaks."""

from collections.abc import Generator
from pathlib import Path

from raftkv_trio.errors import CorruptLog
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.snapshot_file import PartReader, SnapshotMeta, decode_meta, read_parts

_READ_BYTES = 1024 * 1024


class IncomingSnapshot:
    """A snapshot that is being received, in a file of its own, which a later connection can go on with.

    Opening it verifies what an earlier connection left, which blocks on the disk and raises OSError.

    Args:
        size_bytes: of the whole file, as the sender has announced it. No more is ever written.

    Attributes:
        offset: the length of what is here and verified; the sender goes on from there.
    """

    def __init__(self, disk: Disk, path: Path, size_bytes: int) -> None:
        self._disk = disk
        self._path = path
        self._size_bytes = size_bytes
        self._reader = PartReader(path)
        self._header = b""
        # Members' files of one snapshot have equal bytes (the state machine is deterministic), so a transfer
        # that one leader began can be ended by another. If they differ, the hash at the end does not fit.
        is_known = disk.exists(path)
        self._file: DiskFile | None = disk.open(path, create=True)
        try:
            if is_known:
                self._read_again(self._file)
        except OSError:
            self.close()
            raise
        # A sender is asked for whole parts: half of one may be here, but its CRC cannot be checked yet.
        self.offset = self._reader.verified_bytes

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here, and verified; not durable before `finish`."""
        return self._reader.is_whole

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises OSError, and CorruptLog if they do not verify: then all is removed."""
        assert self._file is not None
        if self.offset + len(data) > self._size_bytes:
            self.abandon()
            raise CorruptLog(f"{self._path} has more than the {self._size_bytes} bytes that were announced")
        # Not synced here: `finish` syncs all, and a loss of power before it costs no more than the transfer.
        try:
            # Verified before it is written. The offset moves by what came, whole parts or not: the reader
            # keeps the beginning of a part in memory until the rest comes.
            self._feed(data)
            self._file.write_at(self.offset, data)
        except (CorruptLog, OSError):
            self.abandon()
            raise
        self.offset += len(data)

    def finish(self, offered: SnapshotMeta) -> None:
        """Make the file durable.

        Raises CorruptLog if it is not whole, or not the snapshot that was offered; then it is removed if
        whole. Raises OSError. The file keeps the name of one that is being received:
        `SnapshotDirectory.adopt` gives it its own, right before the log's record.
        """
        assert self._file is not None
        if not self.is_whole:
            raise self._reader.missing()
        try:
            # An earlier connection left bytes behind these, which did not verify. A reader of the file would
            # take them for damage behind its end.
            if self._file.size() > self.offset or self.offset != self._size_bytes:
                raise self._reader.missing()
            # The file says itself which snapshot it is; under another name it would be restored as what it
            # is not. If it stayed, each later connection would find it whole, and fail again.
            if decode_meta(self._path, self._header) != offered:
                raise CorruptLog(f"{self._path} holds another snapshot than the one that was offered")
            self._file.datasync()
        except (CorruptLog, OSError):
            # After a failed sync the page cache shows bytes that may not be on the disk: a later connection
            # that verified them would be deceived. So the file goes, and the transfer begins again.
            self.abandon()
            raise
        self.close()

    def read_contents(self) -> Generator[bytes, None, None]:
        """The parts behind the header of a file that is whole, lazily; raises CorruptLog, OSError."""
        parts = read_parts(self._disk, self._path)
        next(parts)
        yield from parts

    def close(self) -> None:
        """Close the file and leave it for a later connection; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Close the file and remove it."""
        self.close()
        # A newer snapshot that was installed meanwhile has made it obsolete: `tidy` may have removed it.
        if self._disk.exists(self._path):
            self._disk.unlink(self._path)

    def _feed(self, data: bytes) -> None:
        parts = self._reader.feed(data)
        if parts and not self._header:  # the chunks are only verified; they are read when they are restored
            self._header = parts[0]

    def _read_again(self, file: DiskFile) -> None:
        """Verify what an earlier connection left, take the whole parts of it, and write these again."""
        # Verified first by a reader of its own, which may fail anywhere: it tells how much is good.
        reader, offset = PartReader(self._path), 0
        while data := file.read_at(offset, _READ_BYTES):
            try:
                reader.feed(data)
            except CorruptLog:  # the parts in front of the damage count
                break
            offset += len(data)
        # Only up to the last whole part: a part that a crash cut short is sent again from its beginning. And
        # written again: pages that the system failed to write back in the meantime are marked as clean, and
        # the sync of `finish` would pass over them.
        for begin in range(0, reader.verified_bytes, _READ_BYTES):
            data = file.read_at(begin, min(_READ_BYTES, reader.verified_bytes - begin))
            self._feed(data)
            file.write_at(begin, data)
