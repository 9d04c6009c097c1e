"""Reading a log: its segments in order, every record verified, and what they add up to. Nothing is written.

A segment's file is `<number>-<first index>.wal`: no entry from that index on in an earlier segment still
counts, so that a snapshot of everything before it makes those segments superfluous. They are removed oldest
first; after a crash in between, what counts is the unbroken run of numbers up to the last one.
"""

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
    has_record_behind,
    is_torn,
)
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT, SnapshotId

_SUFFIX = ".wal"


class SegmentName(NamedTuple):
    """A segment's number, from 1, and the index from which on no earlier segment counts."""

    number: int
    first_index: int

    @classmethod
    def parse(cls, name: str) -> "SegmentName | None":
        number, dash, first_index = name.removesuffix(_SUFFIX).partition("-")
        if not (name.endswith(_SUFFIX) and dash and number.isdecimal()):
            return None
        try:
            return cls(int(number), int(first_index, 16))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.number:08d}-{self.first_index:016x}{_SUFFIX}"


def segments(disk: Disk, directory: Path) -> list[SegmentName]:
    """The segments in a directory, in their order."""
    return sorted([name for n in disk.list_directory(directory) if (name := SegmentName.parse(n))])


def last_run(names: list[SegmentName]) -> list[SegmentName]:
    """The longest run of numbers without a gap that ends with the last one."""
    first = len(names) - 1
    while first > 0 and names[first - 1].number == names[first].number - 1:
        first -= 1
    return names[max(first, 0) :]


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
        self.records = 0
        self._disk = disk
        self._directory = directory
        self._identity = identity

    def read(self) -> None:
        """Read it all; raises CorruptLog, with file and offset, and OSError."""
        names = last_run(segments(self._disk, self._directory))
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
                    raise corrupt(path, offset)
                if offset:
                    self.tail = data[offset:end]
                break
            expected = header.batch if self.batch is None else self.batch + 1
            if header.batch != expected or (offset == 0) != (header.type == SEGMENT):
                raise corrupt(path, offset)
            self._take(path, offset, header.type, payload)
            self.batch = header.batch
            self.records += 1
            record = RecordRead(header.type, path, offset, data[offset : offset + header.record_bytes])
            self.last_records = [*(self.last_records if self._is_cut else ()), record]
            offset += header.record_bytes
        if not offset:
            raise corrupt(path, 0)
        self.path, self.segment, self.offset = path, name, offset

    def _take(self, path: Path, offset: int, kind: int, payload: bytes) -> None:
        try:
            record = decode_record(kind, payload)
        except PeerProtocolError as error:
            raise corrupt(path, offset) from error
        if kind == SEGMENT and record.identity != self._identity:
            raise CorruptLog(f"{path} belongs to another data directory; move it out of the way")
        if not self.contents.take(kind, record):
            raise corrupt(path, offset)


def read_segment(disk: Disk, path: Path) -> bytes:
    """All of a segment's file; raises OSError."""
    file = disk.open(path, read_only=True)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()


def possible_ends(disk: Disk, directory: Path, names: list[SegmentName]) -> list[SegmentName]:
    """The segments in whose last record a crash may have come: the last one, and maybe the one before.

    That is so where the last one has nothing behind its first record. It counts then if the one before ends
    with a CUT; where that is torn or missing, nobody was told of anything in the last one. Raises OSError.
    """
    if len(names) < 2:
        return names
    last = names[-1]
    is_used = has_record_behind(read_segment(disk, directory / str(last)), 0, last.number)
    return names[-1:] if is_used else names[-2:]


def corrupt(path: Path, offset: int) -> CorruptLog:
    """What to say of a file that does not verify."""
    return CorruptLog(f"{path} is corrupt at offset {offset}: {REMEDY}", path, offset)
