"""The keys that a user may read, or write: the ranges of all permissions, joined where they touch."""

from bisect import bisect_right
from collections.abc import Collection, Iterable

from raftkv_trio.kv.auth.commands import KeyRange
from raftkv_trio.kv.txn import TO_THE_LAST

#: No key is empty, so a range that begins with nothing begins with this one.
_FIRST_KEY = b"\0"


class Intervals:
    """A set of keys, as intervals in order with a gap between each two."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[KeyRange]) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []  # None: to the last key
        for start, end in sorted(map(_interval, ranges), key=_start):
            last = self._ends[-1] if self._ends else b""
            if self._ends and (last is None or start <= last):
                if last is not None and (end is None or end > last):
                    self._ends[-1] = end
            else:
                self._starts.append(start)
                self._ends.append(end)

    def contain(self, key: bytes, range_end: bytes | None = None) -> bool:
        """Whether all keys that the range could ever have are in the intervals.

        A range whose end comes before its key never has any. Then the keys between the two count.
        """
        key = key or _FIRST_KEY
        if range_end is not None and range_end != TO_THE_LAST and range_end < key:
            key, range_end = range_end, key
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        if end is None:
            return True
        if range_end == TO_THE_LAST:
            return False
        if range_end is None or key == range_end:
            return key < end
        return range_end <= end

    def contain_all(self, keys: Collection[bytes]) -> bool:
        """Whether all of these keys, in whatever order, are in the intervals."""
        if not keys:
            return True
        # As a rule they are in one interval. A lease may have many keys, and each put asks for all of them.
        first, last = min(keys), max(keys)
        return self.contain(first, last + b"\0") or all(map(self.contain, keys))


def _interval(key_range: KeyRange) -> tuple[bytes, bytes | None]:
    key, range_end = key_range
    if range_end is None:
        return key, key + b"\0"
    return key, None if range_end == TO_THE_LAST else range_end


def _start(interval: tuple[bytes, bytes | None]) -> bytes:
    return interval[0]
