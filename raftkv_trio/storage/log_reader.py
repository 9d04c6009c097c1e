"""Reading a log: its segments in order, every record verified, what they add up to. Nothing is written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.errors import REMEDY, CorruptLog, PeerProtocolError
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.disk import Disk
from raftkv_trio.storage.record import (
    CUT,
    INSTALL,
    SEGMENT,
    SNAPSHOT,
    LogRecord,
    decode_header,
    decode_payload,
    decode_record,
    end_of_data,
    is_torn,
)
from raftkv_trio.storage.segments import SegmentName, last_run, list_segments, possible_ends, read_segment
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT, SnapshotId


@dataclass(slots=True)
class LogContents:
    """What the records of a log add up to.

    Attributes:
        snapshot: the one that the log continues.
        entries: those after it, without a gap.
    """

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotId = NO_SNAPSHOT
    entries: list[Entry] = field(default_factory=list)

    def take(self, kind: int, record: LogRecord) -> bool:
        """Take the next record; False where it cannot follow what there is."""
        self.hard_state = record.hard_state
        if kind == INSTALL:
            self.entries.clear()
        if kind in (SEGMENT, SNAPSHOT, INSTALL):
            if record.snapshot.index < self.snapshot.index:
                return False
            self.snapshot = record.snapshot
            if self.entries:
                del self.entries[: max(0, self.snapshot.index + 1 - self.entries[0].index)]
        if record.entries:
            if self.entries:
                keep = record.entries[0].index - self.entries[0].index
                if keep > len(self.entries):
                    return False
                del self.entries[max(0, keep) :]
            self.entries.extend(record.entries)
        return True


class RecordRead(NamedTuple):
    """A record's type, its place, and its bytes."""

    kind: int
    path: Path
    offset: int
    data: bytes


class LogReader:
    """One reading of the log in a directory.

    Attributes:
        contents: what it adds up to.
        path, segment: the last segment that is part of it.
        offset: where that one ends.
        last_records: its last record; if that begins the segment, the one that ends the segment before, too.
        batch: the number of its last record.
        tail: what a crash left half-written behind it, to be cut off.
        unused: the segment after it, which a crash left before anything could be in it.
    """

    def __init__(self, disk: Disk, directory: Path, identity: bytes) -> None:
        self.contents = LogContents()
        self.path = directory
        self.segment = SegmentName(0, 0)
        self.offset = 0
        self.last_records: list[RecordRead] = []
        self.batch: int | None = None
        self.tail = b""
        self.unused: SegmentName | None = None
        self._disk = disk
        self._directory = directory
        self._identity = identity

    def read(self) -> None:
        """Read it all; raises CorruptLog, with file and offset, and OSError."""
        names = last_run(list_segments(self._disk, self._directory))
        if not names:
            raise CorruptLog(
                f"{self._directory} holds no log, and without it this node has forgotten its votes: {REMEDY}"
            )
        ends = possible_ends(self._disk, self._directory, names)
        for name in names:
            if name is not ends[0] and name in ends and not self._is_cut:
                self.unused = name
            else:
                self._read_segment(name, may_end=name in ends)
        if self._is_cut:
            raise CorruptLog(
                f"{self._directory} lacks segment {self.segment.number + 1}, in which the log goes on behind"
                f" {self.path}: {REMEDY}"
            )
        contents = self.contents
        lacks_from = contents.snapshot.index + 1
        begins_at = contents.entries[0].index if contents.entries else lacks_from
        if names[0].first_index > lacks_from or begins_at != lacks_from:
            raise CorruptLog(
                f"{self._directory} lacks entries behind the snapshot at index {contents.snapshot.index}"
                f" (its first segment is {names[0]}): {REMEDY}"
            )

    @property
    def _is_cut(self) -> bool:
        """Whether the last record that was read says that the log goes on in another segment."""
        return bool(self.last_records) and self.last_records[-1].kind == CUT

    def _read_segment(self, name: SegmentName, *, may_end: bool) -> None:
        """Take every record of a segment; if that may end the log, the last one may be torn."""
        path = self._directory / str(name)
        data = read_segment(self._disk, path)
        end = end_of_data(data)
        offset = 0
        while offset < end:
            header = decode_header(data, offset)
            payload = decode_payload(data, offset, header, name.number) if header else None
            if header is None or payload is None:
                if not may_end or not is_torn(data, offset, name.number):
                    raise CorruptLog.at(path, offset)
                if offset:
                    self.tail = data[offset:end]
                break
            expected = header.batch if self.batch is None else self.batch + 1
            if header.batch != expected or (offset == 0) != (header.type == SEGMENT):
                raise CorruptLog.at(path, offset)
            self._take(path, offset, header.type, payload)
            self.batch = header.batch
            record = RecordRead(header.type, path, offset, data[offset : offset + header.record_bytes])
            self.last_records = [*(self.last_records if self._is_cut else ()), record]
            offset += header.record_bytes
        if not offset:
            raise CorruptLog.at(path, 0)
        self.path, self.segment, self.offset = path, name, offset

    def _take(self, path: Path, offset: int, kind: int, payload: bytes) -> None:
        try:
            record = decode_record(kind, payload)
        except PeerProtocolError as error:
            raise CorruptLog.at(path, offset) from error
        if kind == SEGMENT and record.identity != self._identity:
            raise CorruptLog(f"{path} belongs to another data directory; move it out of the way")
        if not self.contents.take(kind, record):
            raise CorruptLog.at(path, offset)
