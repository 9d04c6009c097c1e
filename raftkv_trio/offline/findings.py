"""What a check found in a data directory, as plain data. `check.py` fills it in; `report.py` prints it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.raft.types import HardState
from raftkv_trio.storage import Identity, SnapshotId


class Problem(NamedTuple):
    """Something wrong in a file; `offset` in bytes, None if no single place is wrong."""

    file: Path
    offset: int | None
    what: str


class SegmentSeen(NamedTuple):
    """A segment that is part of the log.

    Attributes:
        first_index: the index from which on no earlier segment counts.
        records: the number of records that verify.
        used_bytes: where the zeros at its end begin.
        size_bytes: its preallocated size.
    """

    file: Path
    first_index: int
    records: int
    used_bytes: int
    size_bytes: int


class SnapshotSeen(NamedTuple):
    """A snapshot's file; `is_whole` if all of it verifies."""

    file: Path
    id: SnapshotId
    size_bytes: int
    is_whole: bool


class Leftover(NamedTuple):
    """A file that no start needs; `is_data` if it may hold entries or a state all the same."""

    file: Path
    why: str
    is_data: bool


class TornTailSeen(NamedTuple):
    """A record that a crash left half-written at the end of the log."""

    file: Path
    offset: int
    size_bytes: int


@dataclass(slots=True)
class Findings:
    """All that a directory holds. A part that is not there, or that could not be read, is None.

    Attributes:
        known_members: the ids of the other nodes whose directories this one knows, in order.
        open_to_all: the directories that every user may write to; a start refuses them.
        origin: the hash of the backup that the directory was restored from.
        removed: the index at which the cluster removed this node, which does not start again.
        lost: an index that this node had acknowledged although its log does not reach it; it does not start
            again.
        auth_reset: the auth revision at which the next start has authentication disabled (`auth reset`).
        hard_state: that of the last record before the first damage.
        snapshot: the snapshot that the log continues; None if the log is damaged, so that it cannot say.
        entries: the first and the last index behind the snapshot, up to the first damage.
        feature_level: of the cluster, by that snapshot and these entries, committed or not; None if the
            snapshot cannot be read.
        is_log_sound: a start would accept the log.
        is_unfinished: a first start was cut short and nothing was acknowledged; the next start makes the
            directory anew.
    """

    path: Path
    identity: Identity | None = None
    known_members: list[int] | None = None
    open_to_all: list[Path] = field(default_factory=list)
    origin: bytes | None = None
    removed: int | None = None
    lost: int | None = None
    auth_reset: int | None = None
    hard_state: HardState | None = None
    snapshot: SnapshotId | None = None
    entries: tuple[int, int] | None = None
    feature_level: int | None = None
    segments: list[SegmentSeen] = field(default_factory=list)
    snapshots: list[SnapshotSeen] = field(default_factory=list)
    torn: TornTailSeen | None = None
    leftovers: list[Leftover] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_log_sound: bool = False
    is_unfinished: bool = False

    @property
    def is_snapshot_whole(self) -> bool:
        """Whether the snapshot that the log continues is here, and verifies to its end."""
        return any(seen.is_whole and seen.id == self.snapshot for seen in self.snapshots)

    @property
    def unneeded_damage(self) -> list[SnapshotSeen]:
        """The damaged snapshots that no start needs, since the log continues another one."""
        if self.snapshot is None:
            return []
        return [seen for seen in self.snapshots if not seen.is_whole and seen.id != self.snapshot]

    @property
    def is_repairable_alone(self) -> bool:
        """Whether all that is wrong can be repaired without the directories of other members."""
        unneeded = {seen.file for seen in self.unneeded_damage}
        return all(problem.file in unneeded for problem in self.problems)
