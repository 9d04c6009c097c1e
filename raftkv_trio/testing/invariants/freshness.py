"""Reads without a quorum (`max-stale`): a node is as fresh as it says.

Checked after each turn of each node, whether a client reads or not: what the node would promise at this
moment must hold. A client whose request names an age is promised no more than that.
"""

from bisect import bisect_left

from raftkv_trio.testing.invariants.violation import FRESHNESS, Violation


class FreshnessCheck:
    """Knows what was acknowledged when, in virtual time."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._highest: list[int] = []  # index that was acknowledged by then

    def acknowledged(self, now: float, index: int) -> None:
        """A client was told now that the entry at this index is applied."""
        self._times.append(now)
        self._highest.append(max(index, self._highest[-1] if self._highest else 0))

    def check(self, node_id: int, as_of: float | None, applied_index: int) -> None:
        """A node claims to hold all that was acknowledged before `as_of`; raises Violation if it does not."""
        before = 0 if as_of is None else bisect_left(self._times, as_of)
        if before and self._highest[before - 1] > applied_index:
            raise Violation(
                FRESHNESS,
                f"node {node_id} has applied up to index {applied_index} and says that it is fresh as of"
                f" {as_of:.3f}, when index {self._highest[before - 1]} was acknowledged already",
            )
