"""The write-ahead log: segments of records, appended in batches, each batch one write and one fdatasync.

The rules of this file:
- nothing counts as durable before `append` returns; after any error of the disk every later call raises too;
- every record is durable before the next one is written, so a crash can tear the last record only;
- only the last record can be torn, and only as `record.is_torn` says: then it is cut off and kept aside;
- a segment is used only when its first record and its name are durable, and then a CUT in the segment before;
- a commit index alone is a hint and has no record: it goes with the next one. The commit of a conf change has
  a record: without it a node could start with voters that have left, and need their votes to learn that;
- anything else that does not verify is corruption: `CorruptLog`, with file and offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raftkv_trio.errors import StorageError
from raftkv_trio.raft.types import Entry, EntryType, HardState
from raftkv_trio.storage.disk import Disk, DiskFile, describe_os_error
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
    """What a crash left of a half-written record: cut off at `offset` of `file`, and copied to `kept`."""

    file: Path
    offset: int
    kept: Path


class WriteAheadLog:
    """An open log, positioned behind its last record. Made by `open_log`.

    One thread at a time may call its methods; attributes and properties may be read beside it.

    Attributes:
        hard_state: the last one; its commit index may be newer than the one on the disk.
        snapshot: the snapshot that the log continues.
        entries: the entries after the snapshot, as recovered; the caller may take them.
        last_index: the index of the last entry, or of the snapshot if there is none.
        segment: the number of the segment that is written to; its name and the segments before are durable.
        torn_tail: what was cut off when the log was opened; None if nothing was.
    """

    def __init__(self, disk: Disk, directory: Path, identity: bytes, segment_bytes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self.segment_bytes = segment_bytes
        # The current segment: its file, the offset for the next record, and where records must end. The bytes
        # behind that are kept for the CUT that ends the segment.
        self._file: DiskFile | None = None
        self._path = directory
        self.segment = 0
        self._offset = 0
        self._room_ends = 0
        self._batch = 0  # the number of the last record
        self._broken: str | None = None  # why nothing is written any more
        self.hard_state = HardState()
        self.snapshot = NO_SNAPSHOT
        self.entries: list[Entry] = []
        self.last_index = 0
        # The indexes of the conf changes of which the disk does not know yet that they are committed.
        self._changes: list[int] = []
        self.torn_tail: TornTail | None = None

    @property
    def is_half_free(self) -> bool:
        """Whether at least half of the current segment is free."""
        return self._room_ends - self._offset >= self.segment_bytes // 2

    def must_write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Whether `append` of these writes a record: they are more than a commit index that may be lost."""
        # Term and vote in memory are the durable ones, since a change of either is written at once. A commit
        # index may be lost: the leader tells it again, or a new one finds it (paper, section 5.4.2).
        return bool(entries) or (
            hard_state is not None
            and (hard_state[:2] != self.hard_state[:2] or self._commits_change(hard_state))
        )

    def _commits_change(self, hard_state: HardState) -> bool:
        return bool(self._changes) and hard_state.commit >= self._changes[0]

    def _note_changes(self, entries: Sequence[Entry]) -> None:
        """Keep track of conf changes not yet known on the disk to be committed.

        Called when a record is durable that has `self.hard_state`, `self.snapshot` and `entries`.
        """
        # A conf change is settled when a durable record says that it is committed: a commit index at or above
        # it, or a snapshot, which holds nothing else. Until then `must_write` writes the record that says it.
        # Entries replace the log from their first index on, and so the conf changes noted from there on.
        settled = max(self.hard_state.commit, self.snapshot.index)
        kept = [i for i in self._changes if not entries or i < entries[0].index]
        new = [e.index for e in entries if e.type is not EntryType.NORMAL]
        self._changes = [i for i in (*kept, *new) if i > settled]

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write one batch; durable when this returns, unless it is no more than a commit index.

        Raises StorageError; every later call raises it too.
        """
        # Hard state and entries go in one record: a crash leaves both or neither. Apart, entries could be
        # left without their term, in which this node could vote twice, or a commit index without entries.
        new = hard_state or self.hard_state
        is_written = self.must_write(hard_state, entries)
        if is_written:
            self._append_record(BATCH, LogRecord(new, entries, self.snapshot))
            if entries:
                self.last_index = entries[-1].index
        # Also if nothing was written: the next record carries this commit index.
        self.hard_state = new
        if is_written:
            self._note_changes(entries)

    def continue_from(self, snapshot: SnapshotId) -> None:
        """Let the log continue a snapshot of entries that it holds; durable when this returns.

        The snapshot's file must be whole and durable. Raises StorageError, as `append`.
        """
        # This record is the only truth about which snapshot is the newest. It comes after the file has its
        # name and before anything that the snapshot covers is removed, so that a crash at any moment leaves
        # a log with a snapshot that it can continue.
        self._append_record(SNAPSHOT, LogRecord(self.hard_state, (), snapshot))
        self.snapshot = snapshot
        self._note_changes(())

    def install(self, hard_state: HardState | None, snapshot: SnapshotId, entries: Sequence[Entry]) -> None:
        """Replace the whole log by a leader's snapshot and the entries after it; durable when this returns.

        The snapshot's file must be whole and durable. Raises StorageError, as `append`.
        """
        new = hard_state or self.hard_state
        # One record again. In two, a crash between them would leave the snapshot with the entries of the old
        # log behind it, which may conflict with it (paper, section 7).
        self._append_record(INSTALL, LogRecord(new, entries, snapshot))
        self.hard_state, self.snapshot, self._changes = new, snapshot, []
        self._note_changes(entries)
        self.last_index = entries[-1].index if entries else snapshot.index

    def close(self, *, clean: bool) -> None:
        """Close the file, after a closing record if `clean` and the segment has room for one.

        Raises StorageError, OSError; the file is closed all the same.
        """
        if self._file is None:
            return
        try:
            # The closing record is not needed for safety. It makes the newest commit index durable, and with
            # it behind them all other records are certainly not torn: damage to the last one is then found.
            # It is not worth a new segment, whose preallocation could fail for lack of room.
            if clean and self._broken is None and self._offset + CUT_BYTES <= self._room_ends:
                self._append_record(CLOSE, LogRecord(self.hard_state, (), self.snapshot))
        finally:
            if self._file is not None:
                self._file.close()
            self._file = None

    def begin(self, snapshot: SnapshotId) -> None:
        """Make the first segment, durable; raises OSError."""
        # It exists from the first start on, though it holds no entry yet: a directory without any segment
        # has lost its log, and with it its votes, and can be refused.
        self.snapshot = snapshot
        self.last_index = snapshot.index
        self._cut(0)

    # ------------------------------------------------------------ writing

    def _append_record(self, kind: int, record: LogRecord) -> None:
        """Write one record at the end of the log, and return when it is durable."""
        if self._broken is not None:
            raise StorageError(self._broken)
        payload = record.encode()
        record_bytes = aligned(HEADER_BYTES + len(payload))
        try:
            # A record never spans two segments, so that each segment verifies without the others.
            if self._offset + record_bytes > self._room_ends:
                self._cut(record_bytes)
            self._write_record(kind, payload)
        except OSError as error:
            # Even a failed write ends the log: how much of it has reached the file is unknown, and a shorter
            # record in its place would leave the rest as garbage behind it.
            raise self._break(error) from error
        self._sync()

    def _write_record(self, kind: int, payload: bytes) -> None:
        """Write a record at the end of the current segment; not durable yet."""
        assert self._file is not None
        # Numbered without a gap over all segments: a start notices a record that is missing or repeated.
        self._batch += 1
        record = encode_record(kind, self._batch, payload, segment=self.segment, offset=self._offset)
        self._file.write_at(self._offset, record)
        self._offset += len(record)

    def _sync(self) -> None:
        assert self._file is not None
        try:
            # fdatasync is enough: the blocks are preallocated, so the file's size does not change, and
            # fdatasync writes all metadata that reading the data needs.
            self._file.datasync()
        except OSError as error:
            # Never retried: after a failed sync Linux marks the pages clean, so that a second sync returns
            # success for data that is not on the disk.
            raise self._break(error) from error

    def _break(self, error: OSError) -> StorageError:
        """Refuse every later write; returns the error to raise."""
        self._broken = f"{describe_os_error(error, self._path)}; the log is not written to any more"
        return StorageError(self._broken)

    def _cut(self, record_bytes: int) -> None:
        """Go on in a new segment with room for `record_bytes`; raises OSError.

        Three things become durable one after the other: the new segment's first record, its name, and a CUT
        at the end of the old segment.
        """
        number = self.segment + 1
        path = self._directory / str(SegmentName(number, self.last_index + 1))
        # The CUT is written last but numbered first: it stands before the new segment when the log is read.
        batch = self._batch + 2
        # The first record repeats all that is not an entry, so that the segments before can be removed.
        head = LogRecord(self.hard_state, (), self.snapshot, self._identity)
        begin = encode_record(SEGMENT, batch, head.encode(), segment=number, offset=0)
        size_bytes = max(self.segment_bytes, len(begin) + record_bytes + CUT_BYTES)
        # The spare has its blocks already: with it, votes can be written though the disk is full. Its rename
        # is made durable by the sync of the directory below, like the name of a new file.
        if self._disk.exists(self._directory / SPARE):
            self._disk.rename(self._directory / SPARE, path)
        file = self._disk.open(path, create=True)
        try:
            # Preallocated, so that later writes need no room, and full of zeros, by which `is_torn` tells
            # sectors that were never written.
            file.preallocate(size_bytes)
            # First its contents, then its name: a segment that is found after a loss of power has its first
            # record. If power is lost here, without the name, the old segment ends the log as before.
            file.write_at(0, begin)
            file.datasync()
            self._disk.sync_directory(self._directory)
            # If power is lost here, the new segment has only its first record and nothing leads to it. So
            # nothing in it was acknowledged, and a start removes it (`LogReader.unused`).
            if self._file is not None:
                # With the CUT the log goes on in the new segment, and a start that does not find it refuses.
                # So the CUT comes last: a crash must not leave one that leads to nothing. It must come, too:
                # without it, a new segment that is lost later with all its entries would not be missed.
                # There is room for it: `_room_ends` is CUT_BYTES before the end of the file.
                self._write_record(CUT, LogRecord(self.hard_state, (), self.snapshot).encode())
                self._file.datasync()
        except OSError:
            # What is there of the new segment stays: a start decides, by the rules above.
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        # The number is set only now: `purge_segments`, in another thread, takes this segment for durable.
        self._file, self._path, self._batch = file, path, batch
        self._offset, self._room_ends = len(begin), size_bytes - CUT_BYTES
        self.segment = number

    # ------------------------------------------------------------ recovery

    def recover(self) -> None:
        """Read the log, and make durable what was read; raises CorruptLog, OSError.

        A node tells others what it finds here, so everything found must survive the next loss of power.
        """
        # All is verified before anything is changed: a log that is refused stays as it was found.
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
        # Before anything is appended: otherwise the log could reach the same number by a cut of its own, and
        # find a file of that name.
        if reader.unused is not None:
            self._disk.unlink(self._directory / str(reader.unused))
        # Appended to where it ends, behind a CLOSE too. Its size was chosen when it was made, perhaps with
        # another `segment_bytes`.
        self._file = self._disk.open(self._path)
        self._room_ends = self._file.size() - CUT_BYTES
        if reader.tail:
            self._cut_off(reader.tail)
        # The last record may be in the page cache only, if its writer was killed before the sync; and if
        # the sync had failed, the cache takes it for written (Rebello et al., "Can Applications Recover
        # from fsync Failures?", 2020). So it is written again. The records before it need that not: each was
        # durable before the next one was written.
        for record in reader.last_records:
            self._write_again(record)
        # The killed writer may not have synced the name of the newest segment either.
        self._disk.sync_directory(self._directory)

    def _write_again(self, record: RecordRead) -> None:
        file = self._disk.open(record.path)
        try:
            file.write_at(record.offset, record.data)
            file.datasync()
        finally:
            file.close()

    def _cut_off(self, tail: bytes) -> None:
        """Copy the torn tail to a file of its own, durably, then make it zeros again, durably."""
        # First the copy, with its name: if the bytes were no torn write after all but damage, they are all
        # that is left of a record. A crash in between finds the same torn tail, and does the same again.
        assert self._file is not None
        kept = self._directory / f"torn-{self._path.name}-{self._offset}"
        copy = self._disk.open(kept, create=True)
        try:
            copy.write_at(0, tail)
            copy.datasync()
        finally:
            copy.close()
        self._disk.sync_directory(self._directory)
        # Zeros, durable before the next append: a shorter record in this place would be followed by the rest
        # of the torn one, which a start could not tell from damage.
        self._file.write_at(self._offset, bytes(len(tail)))
        self._file.datasync()
        self.torn_tail = TornTail(file=self._path, offset=self._offset, kept=kept)


def open_log(disk: Disk, directory: Path, identity: bytes, *, segment_bytes: int) -> WriteAheadLog:
    """Recover the log in `directory`; raises CorruptLog, StorageError.

    Args:
        identity: of the data directory; every segment must begin with it.
        segment_bytes: size of new segments; those that exist keep theirs.
    """
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    try:
        log.recover()
    except OSError as error:
        log.close(clean=False)
        raise StorageError(describe_os_error(error, directory)) from error
    return log


def begin_log(
    disk: Disk, directory: Path, identity: bytes, snapshot: SnapshotId, *, segment_bytes: int
) -> None:
    """Begin the log of a directory that is being made, in place of what is there of one; raises OSError."""
    # An earlier attempt may have left a segment, of another identity and perhaps of another first index. It
    # is removed and not written over, so that the new file has only zeros behind its first record.
    for name in list_segments(disk, directory):
        disk.unlink(directory / str(name))
    log = WriteAheadLog(disk, directory, identity, segment_bytes)
    try:
        log.begin(snapshot)
    finally:
        log.close(clean=False)
