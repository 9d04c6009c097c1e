"""What a leader knows of one follower's log, and how fast it may send to it (flow control).

Always `match < next`. There are three states:

- PROBE: the leader does not know where the logs agree. It sends one append and waits for the answer.
- REPLICATE: the leader streams appends without waiting for answers (dissertation, section 10.2.2), as many as
  `Inflights` allows.
- SNAPSHOT: the leader sends no append until the snapshot is installed or has failed.

A paused follower gets its next append when it answers anything at all, heartbeats included.
"""

from collections import deque
from enum import Enum


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "StateProbe"
    REPLICATE = "StateReplicate"
    SNAPSHOT = "StateSnapshot"


class Inflights:
    """Appends that were sent and not answered: (last index, bytes), bounded in number and in bytes.

    The append that reaches the limit of bytes may exceed it; the next one waits. So an append that is larger
    than the limit can be sent at all.
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
        """Whether no append with entries may be sent until the follower has answered one."""
        return len(self._sent) >= self._max_messages or (
            self._max_bytes is not None and self.bytes >= self._max_bytes
        )

    def add(self, last_index: int, size_bytes: int) -> None:
        """An append was sent: it ends at `last_index`, and holds entries of `size_bytes`."""
        self._sent.append((last_index, size_bytes))
        self.bytes += size_bytes

    def free_up_to(self, index: int) -> None:
        """Forget the appends whose last index is at most `index`."""
        # One answer acknowledges all entries up to its index. Answers to earlier appends may be lost.
        sent = self._sent
        while sent and sent[0][0] <= index:
            self.bytes -= sent.popleft()[1]

    def clear(self) -> None:
        """Forget all appends, since what became of them is not known."""
        self._sent.clear()
        self.bytes = 0


class Progress:
    """One follower, as its leader sees it.

    Attributes:
        match: the highest index known to be in the follower's log, and durable there.
        next: the index of the first entry of the next append.
        pending_snapshot: in SNAPSHOT, the index of the snapshot that was sent; else None.
        recent_active: whether the follower was heard from since the last CheckQuorum.
        append_paused: in PROBE and REPLICATE, no append is sent until the follower answers something.
        probe_wait_ticks: until then the probe that was sent is not repeated; 0: it may be.
        sent_commit: the highest commit index that the follower was told, unless that message is known to be
            lost.
    """

    __slots__ = (
        "append_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "probe_interval_ticks",
        "probe_wait_ticks",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, *, next_index: int, inflights: Inflights, is_learner: bool, match: int = 0) -> None:
        self.match = match
        self.next = next_index
        # Nothing is known of the follower's log, so look for where it agrees with the leader's.
        self.state = ProgressState.PROBE
        self.pending_snapshot: int | None = None
        self.recent_active = False
        self.append_paused = False
        self.probe_interval_ticks = self.probe_wait_ticks = 0
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
        # Each state starts with a clean sheet: old appends in flight must not hold up what it sends.
        self.state = state
        self.append_paused = False
        self.pending_snapshot = None
        self.inflights.clear()
        self.end_probe()

    def become_probe(self) -> None:
        """Look for the end of the follower's log, from behind the snapshot if one was sent."""
        # Appends in flight may be lost, so begin again behind `match`, or behind the snapshot if it arrived.
        behind_snapshot = (self.pending_snapshot or 0) + 1
        self._enter(ProgressState.PROBE)
        self.next = max(self.match + 1, behind_snapshot)
        # A follower commits up to its last new entry at most. So of what it was told, only this is certain.
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """Stream from behind `match` on."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Send nothing until the snapshot at `index` is installed, or has failed."""
        self._enter(ProgressState.SNAPSHOT)
        # `match` stays as it is: the snapshot counts for commit when the follower acknowledges it. What a
        # snapshot covers is committed, so with it the follower knows that commit index.
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """Note that an append of `count` entries was sent; never called in SNAPSHOT."""
        if self.state is ProgressState.REPLICATE:
            if count:
                # As if it arrived. If it is lost, the follower refuses the next append, which then does not
                # match its log, and the leader probes.
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            self.append_paused = self.inflights.full
        elif count:
            # In PROBE, until it is known where the logs agree, more entries would most likely be refused. A
            # probe without entries costs nothing and does not pause, as in etcd.
            self.append_paused = True

    def space_probe(self, least_ticks: int, most_ticks: int) -> None:
        """Do not repeat the probe that was sent for a while: twice as long as the last time."""
        # A follower whose disk hangs, or that restores a snapshot, answers heartbeats and acknowledges
        # nothing. It has the probe, and acknowledges it as soon as it can.
        self.probe_interval_ticks = min(max(least_ticks, 2 * self.probe_interval_ticks), most_ticks)
        self.probe_wait_ticks = self.probe_interval_ticks

    def end_probe(self) -> None:
        """The probe was answered, or is known to be lost: the next one may be sent at once."""
        self.probe_interval_ticks = self.probe_wait_ticks = 0

    def can_bump_commit(self, commit: int) -> bool:
        """Whether an append that tells `commit` may move the follower's commit index."""
        # Not if all that was sent is committed by what the follower was told: it cannot commit entries that
        # it does not have.
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Note that the follower has everything up to `index`; False if that is nothing new."""
        # Answers can be overtaken, and entries that a follower has acknowledged are durable: never backwards.
        if index <= self.match:
            return False
        self.match = index
        # While streaming, `next` is ahead of the answers.
        self.next = max(self.next, index + 1)
        self.append_paused = False
        self.end_probe()
        return True

    def maybe_decrease(self, rejected: int, match_hint: int) -> bool:
        """Move `next` back after a refused append; False if the answer is an old one.

        `rejected` is the index before the entries of that append, `match_hint` the highest index at which the
        two logs may agree.
        """
        if self.state is ProgressState.REPLICATE:
            # A follower never loses what it has acknowledged, so up to `match` the logs agree, and no guess
            # is needed. The refusal was sent before the answer that moved `match`.
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            # One probe is under way at a time, so only the answer to the last one counts.
            if self.next - 1 != rejected:
                return False
            # Back by one entry at least, by the hint if it is further, and never behind what is known to
            # match.
            self.next = max(min(rejected, match_hint + 1), self.match + 1)
            self.append_paused = False
            self.end_probe()
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
