"""What verifies of a damaged log, and how entries of several logs of one cluster fit together; only read.

A record's header has a CRC of its own, so what lies behind damage is found and read. Each record repeats the
hard state and the snapshot that the log continues: only damage behind the last one leaves these two unknown.

Entries fit together by Log Matching (paper, section 5.3): of one index and term there is one entry, and one
that stands before it. Which one that is, is known where a log has both side by side with no damage between,
or where both are of one term, whose leader appended one after the other.
"""

from collections.abc import Iterator
from pathlib import Path

from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.offline.segment_scan import Damaged, Verified, scan_segment
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import Disk, Identity, SnapshotId
from raftkv_trio.storage.record import CUT, INSTALL, SEGMENT, LogRecord, decode_record
from raftkv_trio.storage.segments import SegmentName, list_segments, possible_ends, read_segment
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT


class Pieces:
    """Entries out of all the logs, by term and index, and what stood before each where a log shows it."""

    def __init__(self) -> None:
        self._entries: dict[SnapshotId, Entry] = {}
        self._before: dict[SnapshotId, SnapshotId] = {}

    def add(self, entry: Entry, before: SnapshotId | None) -> None:
        """Take an entry that a log has behind `before`; raises ConfigError where another log contradicts."""
        place = SnapshotId(entry.term, entry.index)
        known = self._before.get(place, before)
        if self._entries.setdefault(place, entry) != entry or (before is not None and known != before):
            raise ConfigError(
                f"entry {entry.index} of term {entry.term} differs between the directories: they are not"
                " those of one cluster"
            )
        if before is not None:
            self._before[place] = before

    def run(self, base: SnapshotId, last: SnapshotId) -> list[Entry]:
        """The entries of the log that continues the snapshot `base` and ends with `last`.

        Raises ConfigError where one of them, or which one it was, is not known.
        """
        entries: list[Entry] = []
        place = last
        while place.index > base.index:
            entry = self._entries.get(place)
            if entry is None:
                raise ConfigError(f"entry {place.index} of term {place.term} is intact in none of them")
            entries.append(entry)
            before, of_one_term = self._before.get(place), SnapshotId(place.term, place.index - 1)
            if before is None and of_one_term in self._entries:
                before = of_one_term
            elif before is None and of_one_term.index > base.index:
                raise ConfigError(
                    f"entry {of_one_term.index}, which stood before entry {place.index} of term {place.term},"
                    " is intact in none of them"
                )
            place = before or base
        if place != base:
            raise ConfigError(
                f"the snapshot at index {base.index} is not of the log that can be put together"
            )
        return entries[::-1]


class Salvage:
    """What verifies of the log of one directory.

    Attributes:
        hard_state: that of the last record.
        snapshot: that which the log continued there.
        last: the last entry, by term and index, as of the last record that tells.
        is_last_known: there is no damage behind that record.
        is_hard_state_known: there is no damage behind the last record.
        term, commit_index: the largest in any record.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self.hard_state = HardState()
        self.snapshot = self.last = NO_SNAPSHOT
        self.is_last_known = self.is_hard_state_known = False
        self.term = self.commit_index = 0
        self._terms: dict[int, int] = {}  # of the log as it stood since the last damage, by index
        self._last_index: int | None = None
        self._batch: int | None = None

    def read(self, disk: Disk, pieces: Pieces) -> None:
        """Read it all, and add every entry to `pieces`; raises ConfigError, OSError."""
        directory = self.path / "wal"
        names = list_segments(disk, directory) if disk.exists(directory) else []
        ends = possible_ends(disk, directory, names)
        kind = CUT
        for name in names:
            if name is not ends[0] and name in ends and kind != CUT:
                break  # a crash came before anybody was told of anything in it
            for batch, kind, record in _records(disk, directory, name, may_end=name in ends):
                if record is None or (self._batch is not None and batch != self._batch + 1):
                    self.is_last_known = self.is_hard_state_known = False
                    self._last_index = None
                    self._terms.clear()
                if record is not None:
                    self._batch = batch
                    self._take(name, kind, record, pieces)
        if kind == CUT:  # the segment in which the log goes on is lost
            self.is_last_known = self.is_hard_state_known = False

    def _take(self, name: SegmentName, kind: int, record: LogRecord, pieces: Pieces) -> None:
        if kind == SEGMENT and record.identity != self.identity.encode():
            raise ConfigError(f"{self.path / 'wal' / str(name)} belongs to another data directory")
        self.hard_state, self.snapshot = record.hard_state, record.snapshot
        self.is_hard_state_known = True
        self.term = max(self.term, record.hard_state.term, record.snapshot.term)
        self.commit_index = max(self.commit_index, record.hard_state.commit, record.snapshot.index)
        if kind == INSTALL:
            self._terms.clear()
            self._last_index = record.snapshot.index
        elif kind == SEGMENT:
            self._last_index = name.first_index - 1
        self._terms[record.snapshot.index] = record.snapshot.term
        self.last = max(self.last, record.snapshot)
        if self._last_index is not None and self._last_index <= record.snapshot.index:
            self.last, self.is_last_known = record.snapshot, True
        if record.entries:
            for index in range(record.entries[0].index, self.last.index + 1):
                self._terms.pop(index, None)
        for entry in record.entries:
            term = self._terms.get(entry.index - 1)
            pieces.add(entry, None if term is None else SnapshotId(term, entry.index - 1))
            self._terms[entry.index] = entry.term
            self.last, self.is_last_known = SnapshotId(entry.term, entry.index), True
            self._last_index = entry.index


def _records(
    disk: Disk, directory: Path, name: SegmentName, *, may_end: bool
) -> Iterator[tuple[int, int, LogRecord | None]]:
    """Batch number, type and content of every record that verifies; without content where some do not."""
    data = read_segment(disk, directory / str(name))
    for found in scan_segment(data, name.number, may_end=may_end):
        match found:
            case Verified(_, header, payload):
                yield header.batch, header.type, _decoded(header.type, payload)
            case Damaged():
                yield 0, 0, None


def _decoded(kind: int, payload: bytes) -> LogRecord | None:
    try:
        return decode_record(kind, payload)
    except PeerProtocolError:
        return None
