"""What a leader knows of one follower's log, and how fast it may send to it (flow control).

Rules: `match < next` always. PROBE sends one append and waits for its answer; REPLICATE streams, bounded by
`Inflights`; SNAPSHOT sends nothing until the snapshot is answered. A paused follower gets its next append
when it answers anything at all, a heartbeat included.
"""

from collections import deque
from enum import Enum


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "StateProbe"
    REPLICATE = "StateReplicate"
    SNAPSHOT = "StateSnapshot"


class Inflights:
    """Appends sent and not answered: (last index, bytes) in order, bounded in number and in bytes.

    The message that reaches the limit of bytes may go over it; the one after it waits.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_sent", "bytes")

    def __init__(self, max_messages: int, max_bytes: int | None) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._sent: deque[tuple[int, int]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def full(self) -> bool:
        return len(self._sent) >= self._max_messages or (
            self._max_bytes is not None and self.bytes >= self._max_bytes
        )

    def add(self, last_index: int, size_bytes: int) -> None:
        self._sent.append((last_index, size_bytes))
        self.bytes += size_bytes

    def free_up_to(self, index: int) -> None:
        """Forget the appends whose last index is at most `index`."""
        sent = self._sent
        while sent and sent[0][0] <= index:
            self.bytes -= sent.popleft()[1]

    def clear(self) -> None:
        self._sent.clear()
        self.bytes = 0


class Progress:
    """One follower, as its leader sees it.

    Attributes:
        match: highest index known to be in the follower's log.
        next: index of the first entry of the next append.
        pending_snapshot: in SNAPSHOT, the index of the snapshot that was sent; else None.
        recent_active: whether it was heard since the last CheckQuorum.
        append_paused: in PROBE and REPLICATE, no append leaves until something is answered.
        sent_commit: highest commit index told to it and not known to be lost.
    """

    __slots__ = (
        "append_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, *, next_index: int, inflights: Inflights, is_learner: bool, match: int = 0) -> None:
        self.match = match
        self.next = next_index
        self.state = ProgressState.PROBE
        self.pending_snapshot: int | None = None
        self.recent_active = False
        self.append_paused = False
        self.is_learner = is_learner
        self.inflights = inflights
        self.sent_commit = 0

    def __str__(self) -> str:
        parts = [f"{self.state.value} match={self.match} next={self.next}"]
        if self.is_learner:
            parts.append("learner")
        if self.paused:
            parts.append("paused")
        if self.pending_snapshot is not None:
            parts.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            parts.append("inactive")
        if self.inflights:
            parts.append(f"inflight={len(self.inflights)}{'[full]' if self.inflights.full else ''}")
        return " ".join(parts)

    @property
    def paused(self) -> bool:
        """Whether no append may be sent now."""
        return self.append_paused or self.state is ProgressState.SNAPSHOT

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.append_paused = False
        self.pending_snapshot = None
        self.inflights.clear()

    def become_probe(self) -> None:
        """Look for the follower's end of log, from behind the snapshot if one was sent."""
        behind_snapshot = (self.pending_snapshot or 0) + 1
        self._enter(ProgressState.PROBE)
        self.next = max(self.match + 1, behind_snapshot)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """An append of `count` entries has left; never called in SNAPSHOT."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            self.append_paused = self.inflights.full
        elif count:
            self.append_paused = True

    def can_bump_commit(self, commit: int) -> bool:
        """Whether telling `commit` may move the follower's commit index further than what it was told."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """The follower has everything up to `index`; False where that is no news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.append_paused = False
        return True

    def maybe_decrease(self, rejected: int, match_hint: int) -> bool:
        """The follower refused an append behind `rejected`; False where that is old news.

        `match_hint` is the highest index at which the logs may still agree.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            # a probe is outstanding one at a time, so only an answer to the last one counts
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, match_hint + 1), self.match + 1)
            self.append_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
