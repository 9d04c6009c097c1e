"""What must hold for the acknowledged rows of all writers."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from tests.patroni.writers import Write


def lost(writes: Iterable[Write], rows: Iterable[str]) -> set[str]:
    """Acknowledged rows that are not there at the end."""
    return {write.id for write in writes} - set(rows)


def two_primaries(writes: Iterable[Write]) -> Iterator[tuple[Write, Write]]:
    """Acknowledged writes that show two primaries at one time.

    Either both databases have written on the same timeline, or a write began on an old timeline after a write
    on a later one was acknowledged.
    """
    databases: dict[int, Write] = {}
    for write in writes:
        first = databases.setdefault(write.timeline, write)
        if first.database != write.database:
            yield first, write
    by_end = sorted(writes, key=lambda write: write.end_s)
    for write in by_end:
        for other in by_end:
            if other.end_s >= write.begin_s:
                break
            if other.timeline > write.timeline:
                yield other, write
                break


def longest_gap_s(writes: Iterable[Write], begin_s: float, end_s: float) -> float:
    """The longest time without an acknowledgement within a stretch of time."""
    ends = sorted(write.end_s for write in writes if begin_s < write.end_s < end_s)
    return max(later - earlier for earlier, later in pairwise([begin_s, *ends, end_s]))
