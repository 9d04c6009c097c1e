"""What a node counts and times of itself. Counts only grow; an exporter copies them at one moment."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

#: Upper bounds of a histogram's buckets; a last bucket counts everything longer.
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of how long something took.

    Attributes:
        bounds_s: the upper bounds of the buckets.
        counts: how often, by bucket; the last one, after those of `bounds_s`, is for all that took longer.
        total_s: the sum of all durations.
    """

    bounds_s: ClassVar[tuple[float, ...]] = BOUNDS_S

    counts: tuple[int, ...]
    total_s: float


class Histogram:
    """Collects durations of one kind."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self._total_s += duration_s

    def durations(self) -> Durations:
        """Everything counted until now."""
        return Durations(tuple(self._counts), self._total_s)


class RoundTrips:
    """Times from the moment entries leave for a peer to its answer that they are durable there.

    For each peer one append is timed at a time, and its answer is recognised by the index. So nothing is kept
    for the appends in between; and if an answer is lost, the next one counts, which is when commits go on.
    """

    def __init__(self) -> None:
        self._sent: dict[int, tuple[int, float]] = {}  # peer id -> last index, when
        self._histograms: dict[int, Histogram] = {}

    def sent(self, peer_id: int, last_index: int, now_s: float) -> None:
        """Entries up to `last_index` leave for a peer."""
        self._sent.setdefault(peer_id, (last_index, now_s))

    def durable(self, peer_id: int, index: int, now_s: float) -> None:
        """A peer answers that its log is durable up to `index`."""
        last_index, sent_at_s = self._sent.get(peer_id, (index + 1, now_s))
        if last_index <= index:
            del self._sent[peer_id]
            self._histograms.setdefault(peer_id, Histogram()).observe(now_s - sent_at_s)

    def forget(self) -> None:
        """Time nothing that was sent before: there is a new term, and the answers may never come."""
        self._sent.clear()

    def durations(self, peer_id: int) -> Durations:
        """Everything counted for this peer until now."""
        return self._histograms.get(peer_id, Histogram()).durations()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMeasures:
    """What was sent to one peer, and what was dropped instead; a leader alone measures round trips."""

    sent_bytes: int
    dropped_bytes: int
    dropped_messages: int
    round_trips: Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMeasures:
    """A node's counts at one moment.

    Attributes:
        leader_changes: how often this node learnt of a new leader.
        proposals: those of this node's clients, by outcome: `applied`, the error's name in snake case, or as
            what the state machine refused the command (`RefusedResult`).
        pending_proposals, pending_bytes: the proposals that wait for their outcome now.
        refusals: what was refused of other nodes, by reason (`peers/refusals.py`).
        log_writes: for each write of the log, the time until it was durable.
        applies: for each slice of committed entries, the time in the state machine.
        peers: by node id.
    """

    leader_changes: int
    proposals: Mapping[str, int]
    pending_proposals: int
    pending_bytes: int
    refusals: Mapping[str, int]
    log_writes: Durations
    applies: Durations
    peers: Mapping[int, PeerMeasures]
