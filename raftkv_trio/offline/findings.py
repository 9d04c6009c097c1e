"""What a check found in a data directory, as plain data: `check.py` fills it in, `report.py` prints it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.raft.types import HardState
from raftkv_trio.storage import Identity, SnapshotId


class Problem(NamedTuple):
    """Something wrong; `offset` in bytes, None where it is not about one place."""

    file: Path
    offset: int | None
    what: str


class SegmentSeen(NamedTuple):
    """A segment that counts.

    Attributes:
        records: those that verify.
        used_bytes, size_bytes: up to where it is written, and preallocated.
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
    """What nobody needs; `is_data` if it may hold something all the same."""

    file: Path
    why: str
    is_data: bool


class TornTail(NamedTuple):
    """What a crash left half-written at the end of the log."""

    file: Path
    offset: int
    size_bytes: int


@dataclass(slots=True)
class Findings:
    """What there is. What could not be read is None, or is not there.

    Attributes:
        snapshot: the one that the log continues; None where the log cannot say for sure.
        entries: the first and the last index behind it.
        known_directory_ids: those of the other members.
        origin: the hash of the backup that the directory was restored from.
        removed: the index at which the cluster has removed this node, which does not start again.
        is_log_sound: a start would accept the log.
        is_unfinished: a first start was cut short, and nothing was acknowledged; the next one makes all anew.
    """

    path: Path
    identity: Identity | None = None
    known_directory_ids: dict[int, bytes] | None = None
    origin: bytes | None = None
    removed: int | None = None
    hard_state: HardState | None = None
    snapshot: SnapshotId | None = None
    entries: tuple[int, int] | None = None
    segments: list[SegmentSeen] = field(default_factory=list)
    snapshots: list[SnapshotSeen] = field(default_factory=list)
    torn: TornTail | None = None
    leftovers: list[Leftover] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_log_sound: bool = False
    is_unfinished: bool = False

    @property
    def is_snapshot_whole(self) -> bool:
        """Whether the one that the log continues is."""
        return any(seen.is_whole and seen.id == self.snapshot for seen in self.snapshots)
