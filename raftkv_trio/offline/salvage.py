"""What is left of damaged logs: the records that verify, and how entries of several logs fit together.

Nothing is written. A record's header has a CRC of its own, so records behind damage are found and read. Each
record repeats the hard state and the snapshot that the log continues: only damage behind the last record
leaves these two unknown.

Entries fit together by Log Matching (paper, section 5.3): there is one entry of an index and a term, and one
entry that stands before it. Which one stands before it is known if a log has both side by side with no damage
between them, or if both are of one term, whose leader appended one after the other.
"""

from collections.abc import Iterator
from pathlib import Path

from raftkv_trio.errors import ConfigError, DecodeError
from raftkv_trio.offline.segment_scan import Damaged, Verified, scan_segment
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import Disk, Identity, SnapshotId
from raftkv_trio.storage.record import CUT, INSTALL, SEGMENT, LogRecord, decode_record
from raftkv_trio.storage.segments import SegmentName, list_segments, possible_ends, read_segment
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT


class Pieces:
    """The entries of all the logs, by term and index, and the one before each if a log shows it."""

    def __init__(self) -> None:
        self._entries: dict[SnapshotId, Entry] = {}
        self._before: dict[SnapshotId, SnapshotId] = {}

    def add(self, entry: Entry, before: SnapshotId | None) -> None:
        """Take an entry that a log has behind `before`; raises ConfigError if another log contradicts."""
        # Also entries that were overwritten later: they do no harm, since they are found by their term, and
        # may be what another log needs.
        place = SnapshotId(entry.term, entry.index)
        known = self._before.get(place, before)
        # Within one cluster this cannot be (Log Matching). So nothing is built of what is not understood.
        if self._entries.setdefault(place, entry) != entry or (before is not None and known != before):
            raise ConfigError(
                f"entry {entry.index} of term {entry.term} differs between the directories: they are not"
                " those of one cluster"
            )
        if before is not None:
            self._before[place] = before

    def run(self, base: SnapshotId, last: SnapshotId) -> list[Entry]:
        """The entries of the log that continues the snapshot `base` and ends with `last`.

        Raises ConfigError if an entry is intact nowhere, or it is not known which one it was.
        """
        # Backwards, since an entry determines the ones before it, and not those behind it.
        entries: list[Entry] = []
        place = last
        while place.index > base.index:
            entry = self._entries.get(place)
            if entry is None:
                raise ConfigError(f"entry {place.index} of term {place.term} is intact in none of them")
            entries.append(entry)
            # If no log shows the two side by side: a leader appends the entries of its term one after the
            # other, so if there is one of this term at the index before, it is the one.
            before, of_one_term = self._before.get(place), SnapshotId(place.term, place.index - 1)
            if before is None and of_one_term in self._entries:
                before = of_one_term
            # At the first entry behind the snapshot nothing needs to be known: what comes before is in it.
            elif before is None and of_one_term.index > base.index:
                raise ConfigError(
                    f"entry {of_one_term.index}, which stood before entry {place.index} of term {place.term},"
                    " is intact in none of them"
                )
            place = before or base
        # Same index, other term: the snapshot is of another history than these entries.
        if place != base:
            raise ConfigError(
                f"the snapshot at index {base.index} is not of the log that can be put together"
            )
        return entries[::-1]


class Salvage:
    """What verifies of the log of one directory.

    Attributes:
        hard_state: that of the last record.
        snapshot: the snapshot that the log continued at the last record.
        last: the log's last entry, by term and index, as far as the records tell.
        is_last_known: there is no damage behind the record that tells of `last`.
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
        # The log as it stood at the record that was read last, as far as it is known without a gap since the
        # last damage: the term of each index, and the last index, None if that is not known.
        self._terms: dict[int, int] = {}
        self._last_index: int | None = None
        self._batch: int | None = None

    def read(self, disk: Disk, pieces: Pieces) -> None:
        """Read the whole log, and add every entry to `pieces`; raises ConfigError, OSError."""
        directory = self.path / "wal"
        # All segments, not only the last run of numbers: one in the middle may be what was lost.
        names = list_segments(disk, directory) if disk.exists(directory) else []
        ends = possible_ends(disk, directory, names)
        kind = CUT  # with no segment at all, the log's end is as unknown as behind a CUT
        for name in names:
            # Nothing leads to the last segment, and nothing but its first record is in it.
            if name is not ends[0] and name in ends and kind != CUT:
                break  # as at a start: a crash came before anything in it was acknowledged
            for batch, kind, record in _records(disk, directory, name, may_end=name in ends):
                # Damage, or numbers with a gap: records are missing. What they did to the log is not known,
                # so all that was known about how the log stands is forgotten; the entries remain.
                if record is None or (self._batch is not None and batch != self._batch + 1):
                    self.is_last_known = self.is_hard_state_known = False
                    self._last_index = None
                    self._terms.clear()
                if record is not None:
                    self._batch = batch
                    self._take(name, kind, record, pieces)
        # The segment to which the CUT leads is lost, and with it the end of the log.
        if kind == CUT:
            self.is_last_known = self.is_hard_state_known = False

    def _take(self, name: SegmentName, kind: int, record: LogRecord, pieces: Pieces) -> None:
        if kind == SEGMENT and record.identity != self.identity.encode():
            raise ConfigError(f"{self.path / 'wal' / str(name)} belongs to another data directory")
        # Every record says these, so damage before it does not matter to them.
        self.hard_state, self.snapshot = record.hard_state, record.snapshot
        self.is_hard_state_known = True
        self.term = max(self.term, record.hard_state.term, record.snapshot.term)
        self.commit_index = max(self.commit_index, record.hard_state.commit, record.snapshot.index)
        # Three things tell where the log ends without a look at the records before: a snapshot that replaced
        # all of it, the name of a new segment, and, below, the entries of a record.
        if kind == INSTALL:
            self._terms.clear()
            self._last_index = record.snapshot.index
        elif kind == SEGMENT:
            self._last_index = name.first_index - 1
        # The snapshot ends with this entry, so it stands before the first one behind it.
        self._terms[record.snapshot.index] = record.snapshot.term
        self.last = max(self.last, record.snapshot)
        if self._last_index is not None and self._last_index <= record.snapshot.index:
            self.last, self.is_last_known = record.snapshot, True
        # Entries replace the log from their first index on, and so the terms that were known from there on.
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
    """Batch number, type and content of every record that verifies; (0, 0, None) for damage between them."""
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
    except DecodeError:  # the CRCs fit and the contents make no sense: as bad as damage
        return None
