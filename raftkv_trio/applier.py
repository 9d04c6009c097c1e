"""The applier: plays etcd's ApplyThread. Feeds committed entries to the state machine, in order, once.

It reads the commit stream, one batch at a time, and answers the driver after each, so that at most one
batch is outstanding and the driver never waits. A long batch is applied in slices with a checkpoint between.
"""

from collections.abc import Callable, Sequence

import trio

from raftkv_trio.errors import CorruptLog, PeerProtocolError
from raftkv_trio.machine import Committed, StateMachine
from raftkv_trio.measures import Histogram
from raftkv_trio.ports import Clock
from raftkv_trio.proposals import Applied, ProposalTable
from raftkv_trio.raft.types import Entry, EntryType
from raftkv_trio.reads import AppliedIndex
from raftkv_trio.wire import ProposalId, decode_proposal

SLICE_ENTRIES = 128


class Applier:
    """Applies what comes out of the commit stream and settles the proposals that waited for it."""

    def __init__(
        self,
        machine: StateMachine,
        proposals: ProposalTable,
        applied: AppliedIndex,
        applied_term: int,
        commits: trio.MemoryReceiveChannel[Sequence[Entry]],
        clock: Clock,
        done: Callable[[], None],
    ) -> None:
        self.applies = Histogram()
        self._machine = machine
        self._proposals = proposals
        self._applied = applied
        self._term = applied_term
        self.commits = commits
        self._clock = clock
        self.done = done

    async def run(self) -> None:
        """Apply until cancelled. Cancellation falls between slices, and the next start rebuilds all."""
        # Not closed here: the driver may be in its last turn when both are cancelled, and still feed us.
        async for entries in self.commits:
            for start in range(0, len(entries), SLICE_ENTRIES):
                begun_at = self._clock.now()
                self.apply(entries[start : start + SLICE_ENTRIES])
                self.applies.observe(self._clock.now() - begun_at)
                await trio.lowlevel.checkpoint()
            self.done()

    def take(self) -> Sequence[Entry] | None:
        """The batch that waits on the commit stream, if any; `done` is due once all of it is applied."""
        try:
            return self.commits.receive_nowait()
        except trio.WouldBlock:
            return None

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply one slice and settle what waited for it."""
        ids: list[ProposalId] = []
        commands: list[Committed] = []
        for entry in entries:
            if entry.type is not EntryType.NORMAL or not entry.data:
                continue  # a new leader's empty entry; configurations do not change yet
            try:
                proposal_id, command = decode_proposal(entry.data)
            except PeerProtocolError as error:
                raise CorruptLog(f"committed entry {entry.index} cannot be read: {error}") from error
            ids.append(proposal_id)
            commands.append(Committed(entry.term, entry.index, command))
        results = self._machine.apply(commands) if commands else ()
        self._settle(ids, commands, results)
        last = entries[-1]
        if last.term > self._term:
            self._term = last.term
            self._proposals.term_applied(last.term)
        self._applied.advance(last.index)

    def _settle(
        self, ids: Sequence[ProposalId], commands: Sequence[Committed], results: Sequence[object]
    ) -> None:
        for proposal_id, committed, result in zip(ids, commands, results, strict=True):
            self._proposals.applied(proposal_id, Applied(committed.term, committed.index, result))
