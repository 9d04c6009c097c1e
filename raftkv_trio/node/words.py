"""What other members say of this node that would end it, and when this node believes it.

One member alone may be wrong, or hostile. So two must say the same, or the only other one that this node
knows.
"""

from collections.abc import Set

ENOUGH = 2


class Words:
    """The last word of each member on one question."""

    def __init__(self) -> None:
        self._said: dict[int, int] = {}

    def are_enough(self, peer_id: int, word: int, others: Set[int]) -> bool:
        """Note the word of a member; whether enough of the `others`, the members at present, say the same."""
        self._said[peer_id] = word
        agreeing = sum(self._said.get(node_id) == word for node_id in others)
        return 0 < min(ENOUGH, len(others)) <= agreeing
