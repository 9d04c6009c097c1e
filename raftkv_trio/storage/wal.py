"""The write-ahead log: segments of records, appended in batches, each batch one write and one fdatasync.

The rules of this file:
- nothing is durable before `append` returns; after any error of the disk every later call raises too;
- every record is durable before the next one is written, so that a crash can tear the last one only; a commit
  index, which is a hint, has no record of its own: it goes with the next one. But that of a conf change has:
  without it a node would begin with voters who may be no more, and whose votes it would need to learn that;
- only the last record can be torn, and only as `record.is_torn` says: then it is cut off and kept aside;
- a segment is used once its beginning and its name are durable, and then a record that ends the one before;
- anything else that does not verify is corruption: `CorruptLog`, with file and offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raftkv_trio.errors import StorageError
from raftkv_trio.raft.types import Entry, EntryType, HardState
from raftkv_trio.storage.disk import Disk, DiskFile, trouble
from raftkv_trio.storage.log_reader import LogReader, RecordRead
from raftkv_trio.storage.record import (
    BATCH,
    CLOSE,
    CUT,
    CUT_BYTES,
    HEADER_BYTES,
    INSTALL,
    SEGMENT,
    SNAPSHOT,
    LogRecord,
    aligned,
    encode_record,
)
from raftkv_trio.storage.segments import SPARE, SegmentName, list_segments
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT, SnapshotId


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """What a crash left half-written, cut off and kept in `kept`."""

    file: Path
    offset: int
    kept: Path


class WriteAheadLog:
    """An open log, positioned behind its last record. Made by `open_log`.

    Attributes:
        snapshot: the one that it continues.
        entries: those after it, as recovered; the caller may take them.
        last_index: of the log as it stands.
        segment: the number of the one that is written to; it and the one before it are durable.
    """

    def __init__(self, disk: Disk, directory: Path, identity: bytes, segment_bytes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self.segment_bytes = segment_bytes
        self._file: DiskFile | None = None
        self._path = directory
        self.segment = 0
        self._offset = 0
        self._room_ends = 0  # what is behind it is for the record that ends the segment
        self._batch = 0
        self._broken: str | None = None
        self.hard_state = HardState()
        self.snapshot = NO_SNAPSHOT
        self.entries: list[Entry] = []
        self.last_index = 0
        self._changes: list[int] = []  # indexes of the conf changes whose commit is not durable yet
        self.torn_tail: TornTail | None = None

    @property
    def has_half(self) -> bool:
        """Whether half of the segment that is written to is free."""
        return self._room_ends - self._offset >= self.segment_bytes // 2

    def must_write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Whether `append` of these writes: they are more than a commit index that need not be durable."""
        return bool(entries) or (
            hard_state is not None
            and (hard_state[:2] != self.hard_state[:2] or self._commits_change(hard_state))
        )

    def _commits_change(self, hard_state: HardState) -> bool:
        return bool(self._changes) and hard_state.commit >= self._changes[0]

    def _note_changes(self, entries: Sequence[Entry]) -> None:
        """The hard state and the snapshot are durable, and `entries` in place of what began where they do."""
        settled = max(self.hard_state.commit, self.snapshot.index)
        kept = [i for i in self._changes if not entries or i < entries[0].index]
        new = [e.index for e in entries if e.type is not EntryType.NORMAL]
        self._changes = [i for i in (*kept, *new) if i > settled]

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write one batch; durable when this returns, unless it is no more than a commit index.

        Raises StorageError; the log is of no use after that.
        """
        new = hard_state or self.hard_state
        is_written = self.must_write(hard_state, entries)
        if is_written:
            self._write(BATCH, LogRecord(new, entries, self.snapshot))
            if entries:
                self.last_index = entries[-1].index
        self.hard_state = new
        if is_written:
            self._note_changes(entries)

    def continue_from(self, snapshot: SnapshotId) -> None:
        """From here on the log continues a snapshot of what it holds; durable when this returns.

        Raises StorageError, as `append`.
        """
        self._write(SNAPSHOT, LogRecord(self.hard_state, (), snapshot))
        self.snapshot = snapshot
        self._note_changes(())

    def install(self, hard_state: HardState | None, snapshot: SnapshotId, entries: Sequence[Entry]) -> None:
        """Replace the whole log by a leader's snapshot and the entries after it; durable when this returns.

        Raises StorageError, as `append`.
        """
        new = hard_state or self.hard_state
        self._write(INSTALL, LogRecord(new, entries, snapshot))
        self.hard_state, self.snapshot, self._changes = new, snapshot, []
        self._note_changes(entries)
        self.last_index = entries[-1].index if entries else snapshot.index

    def close(self, *, clean: bool) -> None:
        """Leave a closing record where all went well and the segment has room for it, and close that."""
        if self._file is None:
            return
        try:
            if clean and self._broken is None and self._offset + CUT_BYTES <= self._room_ends:
                self._write(CLOSE, LogRecord(self.hard_state, (), self.snapshot))
        finally:
            if self._file is not None:
                self._file.close()
            self._file = None

    def begin(self, snapshot: SnapshotId) -> None:
        """Make the first segment, durable, so that a log that is lost later is missed; raises OSError."""
        self.snapshot = snapshot
        self.last_index = snapshot.index
        self._cut(0)

    # ------------------------------------------------------------ writing

    def _write(self, kind: int, record: LogRecord) -> None:
        """Append one record and sync."""
        if self._broken is not None:
            raise StorageError(self._broken)
        payload = record.encode()
        record_bytes = aligned(HEADER_BYTES + len(payload))
        try:
            if self._offset + record_bytes > self._room_ends:
                self._cut(record_bytes)
            self._put(kind, payload)
        except OSError as error:
            raise self._break(error) from error
        self._sync()

    def _put(self, kind: int, payload: bytes) -> None:
        assert self._file is not None
        self._batch += 1
        record = encode_record(kind, self._batch, payload, segment=self.segment, offset=self._offset)
        self._file.write_at(self._offset, record)
        self._offset += len(record)

    def _sync(self) -> None:
        assert self._file is not None
        try:
            self._file.datasync()
        except OSError as error:
            raise self._break(error) from error

    def _break(self, error: OSError) -> StorageError:
        self._broken = f"{trouble(error, self._path)}; the log is not written to any more"
        return StorageError(self._broken)

    def _cut(self, record_bytes: int) -> None:
        """Go on in a new segment with room for `record_bytes`: durable, name and all, before it is used."""
        number = self.segment + 1
        path = self._directory / str(SegmentName(number, self.last_index + 1))
        batch = self._batch + 2  # the number before it is that of the record that ends the last segment
        head = LogRecord(self.hard_state, (), self.snapshot, self._identity)
        begin = encode_record(SEGMENT, batch, head.encode(), segment=number, offset=0)
        size_bytes = max(self.segment_bytes, len(begin) + record_bytes + CUT_BYTES)
        if self._disk.exists(self._directory / SPARE):
            self._disk.rename(self._directory / SPARE, path)
        file = self._disk.open(path, create=True)
        try:
            file.preallocate(size_bytes)
            file.write_at(0, begin)
            file.datasync()
            self._disk.sync_directory(self._directory)
            if self._file is not None:
                self._put(CUT, LogRecord(self.hard_state, (), self.snapshot).encode())
                self._file.datasync()
        except OSError:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._path, self.segment, self._batch = file, path, number, batch
        self._offset, self._room_ends = len(begin), size_bytes - CUT_BYTES

    # ------------------------------------------------------------ recovery

    def recover(self) -> None:
        """Read the log, and make durable what was read; raises CorruptLog, OSError."""
        reader = LogReader(self._disk, self._directory, self._identity)
        reader.read()
        contents = reader.contents
        self.hard_state, self.snapshot, self.entries = (
            contents.hard_state,
            contents.snapshot,
            contents.entries,
        )
        self.last_index = self.entries[-1].index if self.entries else self.snapshot.index
        self._note_changes(self.entries)
        self.segment, self._path, self._offset = reader.segment.number, reader.path, reader.offset
        self._batch = reader.batch or 0
        if reader.unused is not None:
            self._disk.unlink(self._directory / str(reader.unused))
        self._file = self._disk.open(self._path)
        self._room_ends = self._file.size() - CUT_BYTES
        if reader.tail:
            self._cut_off(reader.tail)
        # The last record may be in the page cache only, if its writer was killed before the sync; and if
        # the sync had failed, the cache takes it for written (Rebello et al., "Can Applications Recover
        # from fsync Failures?", 2020). So it is written again.
        for record in reader.last_records:
            self._write_again(record)
        self._disk.sync_directory(self._directory)

    def _write_again(self, record: RecordRead) -> None:
        file = self._disk.open(record.path)
        try:
            file.write_at(record.offset, record.data)
            file.datasync()
        finally:
            file.close()

    def _cut_off(self, tail: bytes) -> None:
        """Keep the torn tail aside, durably, then make it zeros again."""
        assert self._file is not None
        kept = self._directory / f"torn-{self._path.name}-{self._offset}"
        copy = self._disk.open(kept, create=True)
        try:
            copy.write_at(0, tail)
            copy.datasync()
        finally:
            copy.close()
        self._disk.sync_directory(self._directory)
        self._file.write_at(self._offset, bytes(len(tail)))
        self._file.datasync()
        self.torn_tail = TornTail(file=self._path, offset=self._offset, kept=kept)


def open_log(disk: Disk, directory: Path, identity: bytes, *, segment_bytes: int) -> WriteAheadLog:
    """Recover the log in `directory`; raises CorruptLog, StorageError."""
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    try:
        log.recover()
    except OSError as error:
        log.close(clean=False)
        raise StorageError(trouble(error, directory)) from error
    return log


def begin_log(
    disk: Disk, directory: Path, identity: bytes, snapshot: SnapshotId, *, segment_bytes: int
) -> None:
    """Begin the log of a directory that is being made, in place of what is there of one; raises OSError."""
    for name in list_segments(disk, directory):
        disk.unlink(directory / str(name))
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    try:
        log.begin(snapshot)
    finally:
        log.close(clean=False)
