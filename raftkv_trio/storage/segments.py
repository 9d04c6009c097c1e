"""The files of the log: their names, which of them count, the spare one, and the removal of obsolete ones.

A segment's file is `<number>-<first index>.wal`. The first index is where the log stood when the segment was
begun: no entry from that index on in an earlier segment still counts. So a snapshot of everything before it
makes the earlier segments obsolete. They are removed oldest first; after a crash in between, what counts is
the unbroken run of numbers up to the last one.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.storage.disk import Disk
from raftkv_trio.storage.record import has_record_behind
from raftkv_trio.storage.snapshot_file import SnapshotId

SPARE = "spare"
_SUFFIX = ".wal"


class SegmentName(NamedTuple):
    """A segment's number, from 1, and the index from which on no earlier segment counts."""

    number: int
    first_index: int

    @classmethod
    def parse(cls, name: str) -> "SegmentName | None":
        """The segment whose file has this name; None if it is another kind of file."""
        # Other files are ignored and not refused: spare, torn tails, and what an operator has put there.
        number, dash, first_index = name.removesuffix(_SUFFIX).partition("-")
        if not (name.endswith(_SUFFIX) and dash and number.isdecimal()):
            return None
        try:
            return cls(int(number), int(first_index, 16))
        except ValueError:
            return None

    def __str__(self) -> str:
        """The name of the segment's file."""
        return f"{self.number:08d}-{self.first_index:016x}{_SUFFIX}"


def list_segments(disk: Disk, directory: Path) -> list[SegmentName]:
    """The segments in a directory, by number; raises OSError."""
    # Sorted as numbers: as text, the order would break when a number outgrows its eight digits.
    return sorted([name for n in disk.list_directory(directory) if (name := SegmentName.parse(n))])


def last_run(names: list[SegmentName]) -> list[SegmentName]:
    """The longest run of consecutive numbers that ends with the last segment."""
    # A gap is a purge that a crash cut short: the unlinks of one purge reach the disk in any order. What is
    # before the gap was being removed, so nothing is lost by ignoring it. A gap for another reason is found
    # by the reader: the run then begins behind what the snapshot needs.
    first = len(names) - 1
    while first > 0 and names[first - 1].number == names[first].number - 1:
        first -= 1
    return names[max(first, 0) :]


def read_segment(disk: Disk, path: Path) -> bytes:
    """All of a segment's file; raises OSError."""
    # At once, since what is torn or damaged is told by what lies behind it. A segment fits into memory, and
    # one is read at a time.
    file = disk.open(path, read_only=True)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()


def possible_ends(disk: Disk, directory: Path, names: list[SegmentName]) -> list[SegmentName]:
    """The segments whose last record a crash may have torn: the last one, and maybe the one before.

    It may be the one before if the last segment has nothing behind its first record. Then the last segment
    counts if the one before ends with a CUT; if the CUT is torn or missing, nothing in the last segment was
    acknowledged. Raises OSError.
    """
    if len(names) < 2:  # before the first one there is nothing that could end the log
        return names
    last = names[-1]
    # A second record in the last segment is written only after the CUT is durable. With one there, damage at
    # the end of the segment before cannot be a torn write, and must not be taken for one.
    is_used = has_record_behind(read_segment(disk, directory / str(last)), 0, last.number)
    return names[-1:] if is_used else names[-2:]


def prepare_spare(disk: Disk, directory: Path, *, segment_bytes: int) -> None:
    """Have a preallocated file ready for the log's next segment; does nothing if there is one.

    May run beside the log's writer. Raises OSError.
    """
    spare, temporary = directory / SPARE, directory / f"{SPARE}.tmp"
    if disk.exists(spare):
        return
    # A file that an earlier attempt left is used again: nothing was ever written to it, so it is all zeros.
    file = disk.open(temporary, create=True)
    try:
        file.preallocate(segment_bytes)
        # Before the rename: a file called spare always has its blocks, whatever a loss of power undoes.
        file.datasync()
    finally:
        file.close()
    # The writer takes the spare by a rename too, so it gets all of it or finds none.
    disk.rename(temporary, spare)
    disk.sync_directory(directory)


def purge_segments(disk: Disk, directory: Path, snapshot: SnapshotId, segment: int) -> int:
    """Remove the segments before number `segment` that the snapshot makes obsolete; returns how many.

    May run beside the log's writer if the name of `segment` is durable and the log continues `snapshot`.
    Raises OSError.
    """
    # A later segment may be in the making beside us. After a loss of power it could be gone, and a segment
    # removed because of it would then be missing at the end of the log.
    names = [name for name in list_segments(disk, directory) if name.number <= segment]
    removed = 0
    for name, following in pairwise(names):
        # The entries of `name` that count are below the first index of the following segment, and the
        # snapshot covers these. The rest of `name` (hard state, snapshot, identity) stands again in the first
        # record of `following`; the last of `names` has no such pair and always stays.
        if following.first_index > snapshot.index + 1:
            break
        disk.unlink(directory / str(name))
        removed += 1
    # One sync for all: if the unlinks are lost the segments are back, and the next purge removes them.
    if removed:
        disk.sync_directory(directory)
    return removed
