"""Linearizable reads without log entries (ReadIndex; dissertation, section 6.4), in rounds that reads share.

A read takes two waits. First for a commit index from the leader, after a quorum has confirmed that it still
leads; then until the state machine here has applied up to that index. So the read sees everything that was
acknowledged before it arrived.

A read may only use a round that is issued after the read has arrived: the index of an earlier round may lack
what was acknowledged in between. So while one round is issued, all reads that arrive share the next one.
"""

import heapq
from collections.abc import Iterable
from math import inf

import trio

from raftkv_trio.errors import NoLeader
from raftkv_trio.node.freshness import Freshness
from raftkv_trio.raft.types import ReadState
from raftkv_trio.sync import TimedEvent, Wakeup

UNANSWERED_TICKS = 3
#: Of a context: node id, boot nonce, sequence.
CONTEXT_BYTES = 24


class ReadRound:
    """Reads that share one ReadIndex request.

    Attributes:
        done: set when the round has ended, with `index` or, if the node stops, with `reason`.
        begun_at: a time before the round was first issued, on the clock of `Freshness`.
    """

    __slots__ = ("begun_at", "done", "index", "reason")

    def __init__(self, begun_at: float) -> None:
        self.begun_at = begun_at
        self.done = TimedEvent()
        self.index: int | None = None
        self.reason: str | None = None


class PendingReads:
    """The round that is issued, if any, and the round that gathers reads meanwhile."""

    def __init__(self, *, node_id: int, boot_nonce: int, wakeup: Wakeup, freshness: Freshness) -> None:
        self._freshness = freshness
        self._prefix = node_id.to_bytes(8, "big") + boot_nonce.to_bytes(8, "big")
        self._sequence = 0  # of the newest context
        self._first_sequence = 1  # of the first context of the issued round
        self._wakeup = wakeup
        self._gathering: ReadRound | None = None
        self._issued: ReadRound | None = None
        self._is_asked = False  # whether the issued round was issued; False if it must be issued again
        self._unanswered_ticks = 0
        self._closed: str | None = None

    async def wait_index(self, deadline: float = inf) -> int | None:
        """A commit index that the leader had after this call. Raises NoLeader if the node stops.

        Without a leader it waits until there is one; None if the deadline was found to have passed. Either
        way, and on cancellation, the round is left to its other reads.
        """
        read_round = self.join()
        if not await read_round.done.wait(deadline):
            return None
        if read_round.index is None:
            raise NoLeader(read_round.reason or "the read was not answered")
        return read_round.index

    def join(self) -> ReadRound:
        """The round that gathers reads now. Raises NoLeader if the node is stopping."""
        if self._closed is not None:
            raise NoLeader(self._closed)
        if self._gathering is None:
            self._gathering = ReadRound(self._freshness.now())
            self._wakeup.set()
        return self._gathering

    def next_context(self) -> bytes | None:
        """The driver: the context of a ReadIndex request to issue now; None if there is none to issue."""
        if self._issued is None and self._gathering is not None:
            self._issued, self._gathering = self._gathering, None
            self._issued.begun_at = self._freshness.now()
            self._first_sequence = self._sequence + 1
        if self._issued is None or self._is_asked:
            return None
        # A context of its own for each attempt, unique over all nodes and starts: an answer to another node's
        # request, or to one before a restart of this node, could be older than the reads in this round.
        self._sequence += 1
        self._unanswered_ticks = 0
        self._is_asked = True
        return self._prefix + self._sequence.to_bytes(8, "big")

    def answered(self, read_states: Iterable[ReadState]) -> None:
        """The driver: the core's answers. The first answer to any attempt of the round ends the round."""
        for read_state in read_states:
            if self._issued is not None and self._is_of_round(read_state.context):
                self._freshness.proved(self._issued.begun_at, read_state.index)
                self._issued.index = read_state.index
                self._issued.done.set()
                self._issued, self._is_asked = None, False
                self._wakeup.set()

    def _is_of_round(self, context: bytes) -> bool:
        # No read joins a round once it was issued, so every attempt was made after all its reads had arrived.
        # A late answer to an earlier attempt is as good as one to the newest, whichever leader gave it. If
        # only the newest counted, a round trip longer than `UNANSWERED_TICKS` would leave all reads without
        # an answer for ever.
        prefix, sequence = context[: len(self._prefix)], context[len(self._prefix) :]
        is_issued = self._first_sequence <= int.from_bytes(sequence, "big") <= self._sequence
        return prefix == self._prefix and is_issued

    def tick(self) -> None:
        """The driver, once a tick: issue a round again if it has had no answer for some ticks.

        A round without reads gathers if `Freshness` wants it, and none is out that tells it the same.
        """
        if self._freshness.take_wanted() and self._issued is None and self._closed is None:
            self.join()
        # The request or its answer may be lost. Asking again is safe: a later index covers at least as much.
        if self._is_asked:
            self._unanswered_ticks += 1
            if self._unanswered_ticks >= UNANSWERED_TICKS:
                self._is_asked = False

    def end_overdue(self, now: float) -> None:
        """End the reads whose deadline has passed, at this time."""
        for read_round in (self._issued, self._gathering):
            if read_round is not None:
                read_round.done.end_overdue(now)

    def leader_changed(self) -> None:
        """The driver: issue the round again, since the leader that was asked may never answer."""
        self._is_asked = False
        self._wakeup.set()

    def close(self, reason: str) -> None:
        """The node stops: end all reads that wait, with this reason."""
        self._closed = reason
        for read_round in (self._issued, self._gathering):
            if read_round is not None:
                read_round.reason = reason
                read_round.done.set()
        self._issued = self._gathering = None


class AppliedIndex:
    """The index up to which the state machine has applied the log, and the reads that wait for it.

    Attributes:
        is_restoring: whether a snapshot is replacing the machine's state, so that nothing may read it.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._waiting: list[tuple[int, int, trio.Event]] = []
        self._count = 0
        self._closed: str | None = None
        self.is_restoring = False

    async def wait(self, index: int) -> None:
        """Return once `index` is applied and no restore is under way. Raises NoLeader if the node stops.

        Cancellation leaves nothing behind but an event without a waiter.
        """
        # Checked again after each wakeup: a restore may have begun before this task was scheduled.
        while index > self.index or self.is_restoring:
            if self._closed is not None:
                raise NoLeader(self._closed)
            self._count += 1  # orders equal indexes: events have no order
            event = trio.Event()
            heapq.heappush(self._waiting, (index, self._count, event))
            await event.wait()

    def close(self, reason: str) -> None:
        """The node stops: end all waits, with this reason."""
        self._closed = reason
        while self._waiting:
            heapq.heappop(self._waiting)[2].set()

    def restoring(self) -> None:
        """The applier: a snapshot is replacing the machine's state, until the next `advance`."""
        self.is_restoring = True

    def advance(self, index: int) -> None:
        """The applier: everything up to `index` is applied, and the machine may be read."""
        self.index = index
        self.is_restoring = False
        while self._waiting and self._waiting[0][0] <= index:
            heapq.heappop(self._waiting)[2].set()
