"""Linearizable reads (ReadIndex; Raft dissertation, section 6.4): rounds of them, shared by all who wait.

A read may only use a round that was issued after the read arrived. So while one round is out, all that
arrive gather for the next. A round is issued again, under a new context, when the leader changes or when
it stays unanswered for some ticks: its request or its answer may have been lost.
"""

import heapq
from collections.abc import Iterable

import trio

from raftkv_trio.errors import NoLeader
from raftkv_trio.raft.types import ReadState
from raftkv_trio.sync import Wakeup

UNANSWERED_TICKS = 3


class ReadRound:
    """Reads that share one ReadIndex; `index` is set, or `reason`, when `done` is."""

    __slots__ = ("done", "index", "reason")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.index: int | None = None
        self.reason: str | None = None


class PendingReads:
    """The round that is out, if any, and the one that gathers."""

    def __init__(self, *, node_id: int, boot_nonce: int, wakeup: Wakeup) -> None:
        self._prefix = node_id.to_bytes(8, "big") + boot_nonce.to_bytes(8, "big")
        self._sequence = 0
        self._wakeup = wakeup
        self._gathering: ReadRound | None = None
        self._out: ReadRound | None = None
        self._context: bytes | None = None  # None while the round that is out must be issued (again)
        self._unanswered_ticks = 0
        self._closed: str | None = None

    async def wait_index(self) -> int:
        """The commit index of a moment after this call; raises NoLeader when the node stops.

        Cancellation leaves the round to the others who share it.
        """
        read_round = self.join()
        await read_round.done.wait()
        if read_round.index is None:
            raise NoLeader(read_round.reason or "the read was not answered")
        return read_round.index

    def join(self) -> ReadRound:
        """The round that gathers now; raises NoLeader once the node is stopping."""
        if self._closed is not None:
            raise NoLeader(self._closed)
        if self._gathering is None:
            self._gathering = ReadRound()
            self._wakeup.set()
        return self._gathering

    def next_context(self) -> bytes | None:
        """The context to issue a ReadIndex under now, or None where nothing is to be issued."""
        if self._out is None:
            self._out, self._gathering = self._gathering, None
        if self._out is None or self._context is not None:
            return None
        self._sequence += 1
        self._unanswered_ticks = 0
        self._context = self._prefix + self._sequence.to_bytes(8, "big")
        return self._context

    def answered(self, read_states: Iterable[ReadState]) -> None:
        """The core has answered reads; those to contexts that are no longer out are dropped."""
        for read_state in read_states:
            if self._out is not None and read_state.context == self._context:
                self._out.index = read_state.index
                self._out.done.set()
                self._out = self._context = None
                self._wakeup.set()

    def tick(self) -> None:
        if self._context is not None:
            self._unanswered_ticks += 1
            if self._unanswered_ticks >= UNANSWERED_TICKS:
                self._context = None

    def leader_changed(self) -> None:
        self._context = None
        self._wakeup.set()

    def close(self, reason: str) -> None:
        """The node stops: whoever waits is told."""
        self._closed = reason
        for read_round in (self._out, self._gathering):
            if read_round is not None:
                read_round.reason = reason
                read_round.done.set()
        self._out = self._gathering = self._context = None


class AppliedIndex:
    """How far the state machine has come, and those who wait for it to reach an index.

    Attributes:
        is_restoring: whether a snapshot is replacing its state, which is not to be read then.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._waiting: list[tuple[int, int, trio.Event]] = []
        self._count = 0
        self._closed: str | None = None
        self.is_restoring = False

    async def wait(self, index: int) -> None:
        """Return once `index` is applied; raises NoLeader when the node stops before.

        While a snapshot is being restored the machine is not to be read, and nobody returns.
        Cancellation leaves nothing but a spent event behind.
        """
        while index > self.index or self.is_restoring:
            if self._closed is not None:
                raise NoLeader(self._closed)
            self._count += 1  # orders equal indexes, which events cannot
            event = trio.Event()
            heapq.heappush(self._waiting, (index, self._count, event))
            await event.wait()

    def close(self, reason: str) -> None:
        """The node stops: whoever waits is told."""
        self._closed = reason
        while self._waiting:
            heapq.heappop(self._waiting)[2].set()

    def restoring(self) -> None:
        """The machine is being replaced by a snapshot, until `advance`."""
        self.is_restoring = True

    def advance(self, index: int) -> None:
        self.index = index
        self.is_restoring = False
        while self._waiting and self._waiting[0][0] <= index:
            heapq.heappop(self._waiting)[2].set()
