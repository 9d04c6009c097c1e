"""The write-ahead log: segments of records, appended in batches, each batch one write and one fdatasync.

The rules of this file:
- nothing is durable before `append` returns; after any error of the disk every later call raises too;
- every record is durable before the next one is written, so that a crash can tear the last one only; a commit
  index, which is a hint, has no record of its own: it goes with the next one;
- only the last record can be torn, and only as `record.is_torn` says: then it is cut off and kept aside;
- anything else that does not verify is corruption: `CorruptLog`, with file and offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raftkv_trio.errors import CorruptLog, PeerProtocolError, StorageError
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.record import (
    BATCH,
    CLOSE,
    HEADER_BYTES,
    SEGMENT,
    aligned,
    decode_header,
    decode_payload,
    encode_record,
    has_record_behind,
    is_torn,
)
from raftkv_trio.wire import decode_log_batch, encode_log_batch

_SUFFIX = ".wal"


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """What a crash left half-written, cut off and kept in `kept`."""

    file: Path
    offset: int
    kept: Path


class WriteAheadLog:
    """An open log, positioned behind its last record. Made by `open_log`."""

    def __init__(self, disk: Disk, directory: Path, identity: bytes, segment_bytes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._file: DiskFile | None = None
        self._path = directory
        self._segment = 0
        self._offset = 0
        self._last_offset = 0  # of the last record that was recovered
        self._size = 0
        self._batch = 0
        self._broken: str | None = None
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.torn_tail: TornTail | None = None

    def must_write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Whether `append` of these writes: they are more than a commit index, which need not be durable."""
        return bool(entries) or (hard_state is not None and hard_state[:2] != self.hard_state[:2])

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write one batch; durable when this returns, unless only the commit index changed.

        Raises StorageError; the log is of no use after that.
        """
        new = hard_state or self.hard_state
        if self.must_write(hard_state, entries):
            next_index = entries[0].index if entries else 0
            self._write(BATCH, encode_log_batch(new, entries), next_index=next_index)
            self._sync()
        self.hard_state = new

    def close(self, *, clean: bool) -> None:
        """Leave a closing record where all went well, and close the segment."""
        if self._file is None:
            return
        if clean and self._broken is None:
            self._write(CLOSE, encode_log_batch(self.hard_state, ()), next_index=0)
            self._sync()
        self._file.close()
        self._file = None

    def begin(self) -> None:
        """Make the first segment, durable, so that a log that is lost later is missed; raises OSError."""
        self._cut(0, 0)

    # ------------------------------------------------------------ writing

    def _write(self, kind: int, payload: bytes, *, next_index: int) -> None:
        if self._broken is not None:
            raise StorageError(self._broken)
        record_bytes = aligned(HEADER_BYTES + len(payload))
        try:
            if self._file is None or self._offset + record_bytes > self._size:
                self._cut(next_index, record_bytes)
            self._put(kind, payload)
        except OSError as error:
            raise self._break(error) from error

    def _put(self, kind: int, payload: bytes) -> None:
        assert self._file is not None
        self._batch += 1
        record = encode_record(kind, self._batch, payload, segment=self._segment, offset=self._offset)
        self._file.write_at(self._offset, record)
        self._offset += len(record)

    def _sync(self) -> None:
        assert self._file is not None
        try:
            self._file.datasync()
        except OSError as error:
            raise self._break(error) from error

    def _break(self, error: OSError) -> StorageError:
        self._broken = f"{self._path}: {error.strerror or error}; the log is not written to any more"
        return StorageError(self._broken)

    def _cut(self, next_index: int, record_bytes: int) -> None:
        """Begin a new segment with room for `record_bytes`: durable, name and all, before it is used."""
        if self._file is not None:
            self._file.datasync()
            self._file.close()
        self._segment += 1
        self._path = self._directory / f"{self._segment:08d}-{next_index:016x}{_SUFFIX}"
        header = encode_log_batch(self.hard_state, ())
        self._file = self._disk.open(self._path, create=True)
        self._size = max(self._segment_bytes, record_bytes + 4096)
        self._file.preallocate(self._size)
        self._offset = 0
        self._put(SEGMENT, len(self._identity).to_bytes(4, "big") + self._identity + header)
        self._file.datasync()
        self._disk.sync_directory(self._directory)

    # ------------------------------------------------------------ recovery

    def recover(self) -> None:
        """Read every segment in order, and make durable what was read; raises CorruptLog, StorageError."""
        names = _segments(self._disk, self._directory)
        if not names:
            raise CorruptLog(
                f"{self._directory} holds no log, and without it this node has forgotten its votes:"
                " restore this node from a backup"
            )
        data = b""
        for position, name in enumerate(names):
            self._path = self._directory / name
            self._segment = _number(name)
            if self._file is not None:
                self._file.close()
            self._file = self._disk.open(self._path)
            self._size = self._file.size()
            data = self._file.read_at(0, self._size)
            self._offset = self._read_segment(data, last=position == len(names) - 1)
        if self._file is not None and self._offset == 0:  # a crash while it was being cut: nothing was in it
            self._file.close()
            self._file = None
            self._segment -= 1
            self._disk.unlink(self._path)
        elif self._file is not None:
            # The last record may be in the page cache only, if its writer was killed before the sync; and if
            # the sync had failed, the cache takes it for written (Rebello et al., "Can Applications Recover
            # from fsync Failures?", 2020). So it is written again.
            self._file.write_at(self._last_offset, data[self._last_offset : self._offset])
            self._file.datasync()
        self._disk.sync_directory(self._directory)

    def _read_segment(self, data: bytes, *, last: bool) -> int:
        offset = 0
        end = len(data.rstrip(b"\0"))
        while offset < end:
            header = decode_header(data, offset)
            payload = decode_payload(data, offset, header, self._segment) if header else None
            if header is None or payload is None:
                if not last or not is_torn(data, offset, self._segment):
                    raise self._corrupt(offset)
                self._cut_off(data, offset)
                break
            if header.batch != self._batch + 1 or (offset == 0) != (header.type == SEGMENT):
                raise self._corrupt(offset)
            self._batch = header.batch
            self._take(header.type, payload, offset)
            self._last_offset = offset
            offset += header.record_bytes
        if offset == 0 and not (last and self._batch):  # else it was just being cut
            raise self._corrupt(offset)
        return offset

    def _take(self, kind: int, payload: bytes, offset: int) -> None:
        if kind == SEGMENT:
            length = int.from_bytes(payload[:4], "big")
            if payload[4 : 4 + length] != self._identity:
                raise CorruptLog(f"{self._path} belongs to another data directory; move it out of the way")
            payload = payload[4 + length :]
        try:
            hard_state, entries = decode_log_batch(payload)
        except PeerProtocolError as error:
            raise self._corrupt(offset) from error
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            if self.entries:
                keep = entries[0].index - self.entries[0].index
                if not 0 <= keep <= len(self.entries):
                    raise self._corrupt(offset)
                del self.entries[keep:]
            self.entries.extend(entries)

    def _cut_off(self, data: bytes, offset: int) -> None:
        """Keep the torn tail aside, durably, then make it zeros again."""
        assert self._file is not None
        end = len(data.rstrip(b"\0"))
        kept = self._directory / f"torn-{self._path.name}-{offset}"
        copy = self._disk.open(kept, create=True)
        copy.write_at(0, data[offset:end])
        copy.datasync()
        copy.close()
        self._disk.sync_directory(self._directory)
        self._file.write_at(offset, bytes(end - offset))
        self._file.datasync()
        self.torn_tail = TornTail(file=self._path, offset=offset, kept=kept)

    def _corrupt(self, offset: int) -> CorruptLog:
        return CorruptLog(
            f"{self._path} is corrupt at offset {offset}: restore this node from a backup, or remove it from "
            "the cluster and add it under a new id"
        )


def _segments(disk: Disk, directory: Path) -> list[str]:
    return [name for name in disk.list_directory(directory) if name.endswith(_SUFFIX)]


def _number(name: str) -> int:
    return int(name.split("-")[0])


def open_log(disk: Disk, directory: Path, identity: bytes, *, segment_bytes: int) -> WriteAheadLog:
    """Recover the log in `directory`; raises CorruptLog, StorageError."""
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    try:
        log.recover()
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror or error}") from error
    return log


def begin_log(disk: Disk, directory: Path, identity: bytes, *, segment_bytes: int) -> None:
    """Begin the log of a directory that is being made, in place of one that a crash left without a batch.

    Raises CorruptLog where there is a log with more in it, and OSError.
    """
    for name in _segments(disk, directory):
        file = disk.open(directory / name)
        try:
            data = file.read_at(0, file.size())
        finally:
            file.close()
        if has_record_behind(data, 0, _number(name)):
            raise CorruptLog(
                f"{directory.parent} holds a log but no identity: restore this node from a backup"
            )
        disk.unlink(directory / name)
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    log.begin()
    log.close(clean=False)
