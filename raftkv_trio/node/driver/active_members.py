"""Which members are active: the one answer to this question outside the core.

`Progress.recent_active` serves the core alone, for its quorum check. The core clears it once an election
timeout, so that right after that no member would seem active. And the core sets it for a new member that has
not sent anything yet.
"""

from raftkv_trio.world import Clock


class ActiveMembers:
    """A member is active if a message of it came within the last election timeout; this node always is."""

    def __init__(self, own_id: int, clock: Clock, election_timeout_s: float) -> None:
        self._own_id = own_id
        self._clock = clock
        self._election_timeout_s = election_timeout_s
        self._heard_at: dict[int, float] = {}

    def heard(self, node_id: int) -> None:
        """The driver: a message of this member has come."""
        self._heard_at[node_id] = self._clock.now()

    def __contains__(self, node_id: int) -> bool:
        if node_id == self._own_id:
            return True
        heard_at = self._heard_at.get(node_id)
        return heard_at is not None and self._clock.now() - heard_at <= self._election_timeout_s
