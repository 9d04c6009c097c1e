"""Which members are active: the one answer to this question outside the core.

A member that only answers heartbeats does not help to commit: its disk may be full or stalled, or it may
still be restoring a snapshot. So a member is active only if it acknowledges new entries.

`Progress.recent_active` serves the core alone, for its quorum check. The core clears it once an election
timeout, so that right after that no member would seem active. And the core sets it for a new member that has
not sent anything yet.
"""

from collections import deque

from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.world import Clock

#: In how many election timeouts a member has to acknowledge something. More than one: on a slow link, or with
#: a slow disk, one large value takes longer, while the member answers every heartbeat.
_TIMEOUTS_TO_ACKNOWLEDGE = 3


class ActiveMembers:
    """Which members respond, and on the leader, which of them are active: `node_id in active`.

    A member responds if a message of it came within the last election timeout. It is active if it responds,
    and has acknowledged all that was in the log three election timeouts ago, or something new since then.
    This node always is.
    """

    def __init__(self, raw: RawNode, clock: Clock, election_timeout_s: float) -> None:
        self._raw = raw
        self._clock = clock
        self._election_timeout_s = election_timeout_s
        self._acknowledge_timeout_s = _TIMEOUTS_TO_ACKNOWLEDGE * election_timeout_s
        self._heard_at: dict[int, float] = {}
        self._matches: dict[int, int] = {}
        self._grew_at: dict[int, float] = {}
        self._log_was: deque[tuple[float, int]] = deque()  # when, and its last index

    # ------------------------------------------------------------ by the driver

    def heard(self, node_id: int) -> None:
        """A message of this member has come."""
        self._heard_at[node_id] = self._clock.now()

    def tick(self) -> None:
        """Note how far the log and the acknowledgements have come."""
        now = self._clock.now()
        self._log_was.append((now, self._raw.last_index))
        while len(self._log_was) > 1 and self._is_over(self._log_was[1][0]):
            self._log_was.popleft()
        # Empty if this node does not lead: what a member acknowledges in a later term is new again.
        matches = {node_id: progress.match for node_id, progress in self._raw.status().progress.items()}
        for node_id, match in matches.items():
            if match > self._matches.get(node_id, 0):
                self._grew_at[node_id] = now
        self._matches = matches

    # ------------------------------------------------------------ by whoever decides

    def responds(self, node_id: int) -> bool:
        """Whether a message of this member came within the last election timeout."""
        return self.responded_within(node_id, self._election_timeout_s)

    def responded_within(self, node_id: int, seconds: float) -> bool:
        """Whether a message of this member came within that time."""
        heard_at = self._heard_at.get(node_id)
        return node_id == self._raw.id or (heard_at is not None and self._clock.now() - heard_at <= seconds)

    def acknowledged_within(self, node_id: int, seconds: float) -> bool:
        """On the leader: whether this member acknowledged something new within that time."""
        grew_at = self._grew_at.get(node_id)
        return grew_at is not None and self._clock.now() - grew_at <= seconds

    def __contains__(self, node_id: int) -> bool:
        if node_id == self._raw.id:
            return True
        progress = self._raw.status().progress.get(node_id)
        if progress is None or not self.responds(node_id):
            return False
        return progress.match >= self._due or self.acknowledged_within(node_id, self._acknowledge_timeout_s)

    @property
    def _due(self) -> int:
        """The last index that a member has had the time to acknowledge; 0 before there is one."""
        if not self._log_was or not self._is_over(self._log_was[0][0]):
            return 0
        return self._log_was[0][1]

    def _is_over(self, at: float) -> bool:
        return self._clock.now() - at > self._acknowledge_timeout_s
