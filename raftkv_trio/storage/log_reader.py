"""Reading a log: its segments in order, every record verified, and what they add up to.

Nothing is written: what a crash left is reported (`tail`, `unused`), and the log's owner removes it. A start
and a check read a log in this one way.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.errors import CorruptLog, DecodeError, remedy
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
        hard_state: that of the last record.
        snapshot: the snapshot that the log continues.
        entries: the entries after the snapshot, without a gap.
    """

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotId = NO_SNAPSHOT
    entries: list[Entry] = field(default_factory=list)

    def take(self, kind: int, record: LogRecord) -> bool:
        """Take the next record; returns False if it cannot follow the records before it."""
        # Every record repeats the hard state, so the last one is right without the others.
        self.hard_state = record.hard_state
        if kind == INSTALL:
            # A leader's snapshot replaces the whole log. None of the old entries may stay, not even those
            # behind the snapshot's index: they need not be the leader's.
            self.entries.clear()
        if kind in (SEGMENT, SNAPSHOT, INSTALL):
            # A log never goes back to an older snapshot, so this record is not of this log.
            if record.snapshot.index < self.snapshot.index:
                return False
            self.snapshot = record.snapshot
            # A snapshot of the node's own leaves the entries behind it as they are.
            if self.entries:
                del self.entries[: max(0, self.snapshot.index + 1 - self.entries[0].index)]
        if record.entries:
            # Entries replace the log from their first index on, as a follower's log is overwritten (paper,
            # section 5.3): a record with an index that was read before is the later truth.
            if self.entries:
                keep = record.entries[0].index - self.entries[0].index
                if keep > len(self.entries):  # a gap, which no append leaves
                    return False
                del self.entries[max(0, keep) :]
            # If there are no entries yet these may begin behind a gap: after a purge, the first segment can
            # begin with entries behind a snapshot that is older than the one that allowed the purge. A later
            # record names that one; `LogReader.read` checks at the end that nothing is missing.
            self.entries.extend(record.entries)
        return True


class RecordRead(NamedTuple):
    """A record's type, file and offset, and its bytes."""

    kind: int
    path: Path
    offset: int
    data: bytes


class LogReader:
    """One reading of the log in a directory.

    Attributes:
        contents: what the records add up to.
        path, segment: the last segment that is part of the log.
        offset: where the log ends in that segment.
        last_records: the last record. If it begins the segment, the CUT that ends the segment before, too.
        batch: the number of the last record.
        tail: the bytes of a torn record behind the last one.
        unused: a segment behind the log's end, which a crash left before anything in it was acknowledged.
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
        """Read the whole log; raises CorruptLog, with file and offset, and OSError."""
        names = last_run(list_segments(self._disk, self._directory))
        # The first segment is made with the directory, so an empty log is a lost one. To start without it
        # could mean to vote a second time in a term.
        if not names:
            raise CorruptLog(
                f"{self._directory} holds no log, and without it this node has forgotten its votes:"
                f" {remedy(self._directory.parent)}"
            )
        # Only a segment in which the log may end can have a torn record. In all others the writer went on to
        # the next one after a sync.
        ends = possible_ends(self._disk, self._directory, names)
        for name in names:
            # Two ends are possible, and the segment before does not lead to this one: the writer was stopped
            # between the name of the new segment and the CUT (`WriteAheadLog._cut`).
            if name is not ends[0] and name in ends and not self._is_cut:
                self.unused = name
            else:
                self._read_segment(name, may_end=name in ends)
        # The segment that a CUT leads to was durable before the CUT. If it is not there it was lost, and what
        # was in it may have been acknowledged.
        if self._is_cut:
            raise CorruptLog(
                f"{self._directory} lacks segment {self.segment.number + 1}, in which the log goes on behind"
                f" {self.path}: {remedy(self._directory.parent)}"
            )
        contents = self.contents
        lacks_from = contents.snapshot.index + 1
        begins_at = contents.entries[0].index if contents.entries else lacks_from
        # Segments before the first one that is left may be missing only if the snapshot covers them. The name
        # tells this also if the log has no entries, in which case `begins_at` tells nothing.
        if names[0].first_index > lacks_from or begins_at != lacks_from:
            raise CorruptLog(
                f"{self._directory} lacks entries behind the snapshot at index {contents.snapshot.index}"
                f" (its first segment is {names[0]}): {remedy(self._directory.parent)}"
            )

    @property
    def _is_cut(self) -> bool:
        """Whether the last record that was read says that the log goes on in the next segment."""
        return bool(self.last_records) and self.last_records[-1].kind == CUT

    def _read_segment(self, name: SegmentName, *, may_end: bool) -> None:
        """Take every record of a segment; if `may_end`, the last one may be torn."""
        path = self._directory / str(name)
        data = read_segment(self._disk, path)
        # Segments are preallocated with zeros, and no record begins with one: behind the last record there
        # are zeros only.
        end = end_of_data(data)
        offset = 0
        while offset < end:
            header = decode_header(data, offset)
            payload = decode_payload(data, offset, header, name.number) if header else None
            if header is None or payload is None:
                # Behind a torn record nothing was acknowledged, so it can be cut off. Anything else that does
                # not verify may have been acknowledged, and cutting it off would forget it.
                if not may_end or not is_torn(data, offset, name.number):
                    raise CorruptLog.at(path, offset)
                if offset:  # a torn first record is no tail of a log; refused below
                    self.tail = data[offset:end]
                break
            # Numbers without a gap: a record that is missing, or stands twice, is noticed though all the
            # others verify. Any number may be the first, since older segments are purged.
            expected = header.batch if self.batch is None else self.batch + 1
            if header.batch != expected or (offset == 0) != (header.type == SEGMENT):
                raise CorruptLog.at(path, offset)
            self._take(path, offset, header.type, payload)
            self.batch = header.batch
            record = RecordRead(header.type, path, offset, data[offset : offset + header.record_bytes])
            # A CUT is written after the first record of the next segment, though it stands before it. If that
            # is the last record, the CUT was written last, and may be in the page cache only.
            self.last_records = [*(self.last_records if self._is_cut else ()), record]
            offset += header.record_bytes
        # A segment that counts has its first record durable before anything leads to it.
        if not offset:
            raise CorruptLog.at(path, 0)
        self.path, self.segment, self.offset = path, name, offset

    def _take(self, path: Path, offset: int, kind: int, payload: bytes) -> None:
        try:
            record = decode_record(kind, payload)
        except DecodeError as error:  # the CRCs fit, but what they protect is no record of ours
            raise CorruptLog.at(path, offset) from error
        # A segment copied from another member verifies. With it, this node would have voted as that one did.
        if kind == SEGMENT and record.identity != self._identity:
            raise CorruptLog(f"{path} belongs to another data directory; move it out of the way")
        if not self.contents.take(kind, record):
            raise CorruptLog.at(path, offset)
