"""State machines that have applied the same log are in the same state."""

from bisect import bisect_right

from raftkv_trio.testing.invariants.violation import EQUAL_STATES, Violation


class EqualStates:
    """The hash of the state behind each index, as the first node had it; both methods raise Violation."""

    def __init__(self) -> None:
        self._states: dict[int, str] = {}  # by index
        self._indexes: list[int] = []  # ascending, since commands are applied in order

    def applied(self, node_id: int, index: int, state: str) -> None:
        """A node has applied the command at `index`; its state hash is now `state`."""
        if index not in self._states:
            self._indexes.append(index)
        if self._states.setdefault(index, state) != state:
            raise Violation(
                EQUAL_STATES,
                f"node {node_id} has another state at index {index} than others: `apply` is not"
                " deterministic, or `snapshot` does not give equal bytes for equal states",
            )

    def restored(self, node_id: int, index: int, state: str, level_since: int = 0) -> None:
        """A node has restored a snapshot at `index`, which may be behind the last command.

        Args:
            level_since: from which index on the cluster has the feature level of that state. The level is a
                part of the state, so there is nothing to compare with before the next command.
        """
        position = bisect_right(self._indexes, index)
        last = self._indexes[position - 1] if position else 0
        if last > level_since and self._states[last] != state:
            raise Violation(
                EQUAL_STATES,
                f"node {node_id} restores another state at index {index} than others have: `restore` does not"
                " restore all, or `snapshot` does not give equal bytes for equal states",
            )
