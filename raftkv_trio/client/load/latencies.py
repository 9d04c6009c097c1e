"""How long requests took, in buckets whose bounds grow by one percent."""

import math
from collections.abc import Iterator, Sequence

_GROWTH = math.log(1.01)
_SHORTEST_S = 1e-6
_LONGEST_S = 1e5  # a longer time counts as this one; `max_s` is exact
_BUCKETS = int(math.log(_LONGEST_S / _SHORTEST_S) / _GROWTH) + 1


class Latencies:
    """Durations of one kind. A percentile is at most one percent too high; the longest is exact.

    Attributes:
        count: how many.
        max_s: the longest; 0 if there is none.
    """

    __slots__ = ("_buckets", "count", "max_s")

    def __init__(self) -> None:
        self._buckets = [0] * (_BUCKETS + 1)
        self.count = 0
        self.max_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration."""
        self._buckets[_bucket(duration_s)] += 1
        self.count += 1
        if duration_s > self.max_s:
            self.max_s = duration_s

    def percentile(self, percent: float) -> float | None:
        """The shortest time in seconds within which this part of all was done; None if there is none."""
        if not self.count:
            return None
        needed = math.ceil(self.count * percent / 100)
        seen = 0
        for number, count in enumerate(self._buckets):
            seen += count
            if seen >= needed:
                return min(_upper_bound_s(number), self.max_s)
        return self.max_s

    def histogram(self, bounds_s: Sequence[float]) -> list[int]:
        """How many took at most each of these ascending bounds and longer than the one before.

        A last number counts those that took longer than all bounds.
        """
        counts = [0] * (len(bounds_s) + 1)
        for number, count in self._filled():
            counts[sum(_upper_bound_s(number) > bound * 1.005 for bound in bounds_s)] += count
        return counts

    def _filled(self) -> Iterator[tuple[int, int]]:
        return ((number, count) for number, count in enumerate(self._buckets) if count)


def _bucket(duration_s: float) -> int:
    if duration_s <= _SHORTEST_S:
        return 0
    return min(math.ceil(math.log(duration_s / _SHORTEST_S) / _GROWTH), _BUCKETS)


def _upper_bound_s(number: int) -> float:
    return _SHORTEST_S * math.exp(number * _GROWTH)
