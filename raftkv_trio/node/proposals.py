"""Proposals that this node's clients wait for, and the one rule that tells their fate.

A proposal is *queued* until it is appended here or forwarded, and from then on *sent under a term*: the
leader of that term, and no other, may append it. So its entry, if it ever commits, has that term; and since
terms never decrease along a log, once an entry of a later term is applied without the proposal having been
seen before it, the proposal is certainly not applied and may be sent again. Nothing else may send it again
but a leader's own word that it did not append it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

import trio

from raftkv_trio.errors import (
    ChangeRefused,
    DiskFull,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalError,
    TooLarge,
)
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.records import record
from raftkv_trio.sync import Wakeup


@record
class Applied:
    """A proposal's entry was applied on this node, with this result of the state machine."""

    term: int
    index: int
    result: object


class Proposal:
    """One command, or change of members, on its way through the log; made by `Node.submit`.

    Attributes:
        is_change: whether `command` is a `ChangeRequest`.
        term: the term it was sent under; None while queued.
        held_up_by: why the leader has not taken it yet, where it says so.
    """

    __slots__ = (
        "__weakref__",
        "_done",
        "_outcome",
        "_table",
        "command",
        "held_up_by",
        "id",
        "is_change",
        "term",
    )

    def __init__(
        self, proposal_id: ProposalId, command: bytes, table: "ProposalTable", *, is_change: bool
    ) -> None:
        self.id = proposal_id
        self.command = command
        self.is_change = is_change
        self.term: int | None = None
        self.held_up_by: str | None = None
        self._table = table
        self._done = trio.Event()
        self._outcome: Applied | ProposalError = OutcomeUnknown("the proposal is still on its way")

    async def wait(self) -> Applied:
        """Wait until it is applied here.

        Raises:
            NoLeader, OutcomeUnknown: the node stops; the former only if it is certainly not applied.
            ChangeRefused: the leader does not take this change of members; certainly not applied.

        Cancellation leaves it on its way; call `give_up` then to learn what may have become of it.
        """
        await self._done.wait()
        return self.result()

    @property
    def is_settled(self) -> bool:
        """Whether its outcome is known."""
        return self._done.is_set()

    def result(self) -> Applied:
        """As `wait`; before it is settled, raises OutcomeUnknown."""
        if isinstance(self._outcome, ProposalError):
            raise self._outcome
        return self._outcome

    def give_up(self) -> ProposalError:
        """Stop waiting, and return what its caller must be told: `NoLeader` where it never left this node.

        A proposal given up while it was queued is never sent afterwards.
        """
        return self._table.give_up(self)

    def settle(self, outcome: Applied | ProposalError) -> None:
        """Give it its outcome and wake its waiters. Only the node calls this."""
        self._outcome = outcome
        self._done.set()


class ProposalTable:
    """All proposals of this node that are not settled; bounded in number and bytes.

    Attributes:
        no_room: why the disk can take no new ones, if so.
    """

    def __init__(
        self,
        *,
        node_id: int,
        random: Random,
        wakeup: Wakeup,
        max_command_bytes: int,
        max_count: int,
        max_bytes: int,
    ) -> None:
        self._node_id = node_id
        self._boot_nonce = random.getrandbits(63)
        self._sequence = 0
        self._wakeup = wakeup
        self._max_command_bytes = max_command_bytes
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0
        self._open: dict[ProposalId, Proposal] = {}
        self._queued: dict[ProposalId, Proposal] = {}  # commands, oldest first
        self._queued_changes: dict[ProposalId, Proposal] = {}
        self._refused: dict[ProposalId, Proposal] = {}
        self._closed: str | None = None
        self.no_room: str | None = None
        self._outcomes = Counter[type](dict.fromkeys((Applied, *ProposalError.__subclasses__()), 0))

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open_bytes(self) -> int:
        """Bytes of the commands that are not settled."""
        return self._bytes

    def outcomes(self) -> Mapping[str, int]:
        """How many proposals ended how: `applied`, or an error's name in snake case."""
        return {
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower(): count
            for kind, count in self._outcomes.items()
        }

    @property
    def has_queued(self) -> bool:
        return bool(self._queued)

    @property
    def queued_changes(self) -> list[Proposal]:
        """The changes of members that are not sent, oldest first."""
        return list(self._queued_changes.values())

    def submit(self, command: bytes, *, is_change: bool = False) -> Proposal:
        """Queue a command, or a change of members.

        Raises TooLarge, Overloaded, DiskFull, or NoLeader once the node stops.
        """
        try:
            self._check(command)
        except ProposalError as error:
            self._outcomes[type(error)] += 1
            raise
        self._sequence += 1
        proposal_id = ProposalId(self._node_id, self._boot_nonce, self._sequence)
        proposal = Proposal(proposal_id, command, self, is_change=is_change)
        self._open[proposal.id] = proposal
        self._bytes += len(command)
        self._queue_of(proposal)[proposal.id] = proposal
        self._wakeup.set()
        return proposal

    def _check(self, command: bytes) -> None:
        if self._closed is not None:
            raise NoLeader(self._closed)
        if self.no_room is not None:
            raise DiskFull(f"{self.no_room}; make some")
        if len(command) > self._max_command_bytes:
            raise TooLarge(
                f"a command of {len(command)} bytes is over the limit of {self._max_command_bytes}"
            )
        if len(self._open) >= self._max_count or (
            self._bytes and self._bytes + len(command) > self._max_bytes
        ):
            raise Overloaded(
                f"{len(self._open)} proposals of {self._bytes} bytes wait already; try again later"
            )

    def next_queued(self, max_bytes: int) -> list[Proposal]:
        """The oldest queued proposals, up to `max_bytes` of commands (one at least); queued until `sent`."""
        batch: list[Proposal] = []
        size = 0
        for proposal in self._queued.values():
            size += len(proposal.command)
            if batch and size > max_bytes:
                break
            batch.append(proposal)
        return batch

    def sent(self, proposals: Iterable[Proposal], term: int) -> None:
        """From here on the leader of `term` may append these."""
        for proposal in proposals:
            proposal.term = term
            del self._queue_of(proposal)[proposal.id]

    def refused(self, proposal_id: ProposalId, term: int, reason: str | ChangeRefused) -> None:
        """The leader of `term` certainly did not append it.

        It may be sent again, from the next tick on, but not where the reason is that a change makes no sense.
        """
        proposal = self._open.get(proposal_id)
        if proposal is None or proposal.term != term:
            return
        proposal.term = None
        if isinstance(reason, ChangeRefused):
            self.refuse_change(proposal, reason)
        else:
            proposal.held_up_by = reason
            self._refused[proposal_id] = proposal

    def refuse_change(self, proposal: Proposal, error: ChangeRefused) -> None:
        """A change that is not sent makes no sense."""
        self._close(proposal, error)
        proposal.settle(error)

    def retry_refused(self) -> None:
        """Queue again what was refused; called once a tick, so that a refusing leader is not flooded."""
        self._queue_again(self._refused.values())
        self._refused.clear()

    def applied(self, proposal_id: ProposalId, outcome: Applied) -> None:
        """An entry with this id was applied; settles it if it is ours and still waited for."""
        proposal = self._open.pop(proposal_id, None)
        if proposal is not None:
            self._bytes -= len(proposal.command)
            self._outcomes[Applied] += 1
            proposal.settle(outcome)

    def term_applied(self, term: int) -> None:
        """The first entry of `term` is applied: what was sent under an earlier one is queued again."""
        lost = [p for p in self._open.values() if p.term is not None and p.term < term]
        for proposal in lost:
            proposal.term = None
        self._queue_again(lost)
        if lost:
            self._wakeup.set()

    def snapshot_applied(self, term: int) -> None:
        """A snapshot of that term stands in for entries that this node never sees.

        What was sent under this term or an earlier one may be among them, and nobody can tell.
        """
        for proposal in [p for p in self._open.values() if p.term is not None and p.term <= term]:
            proposal.settle(self.give_up(proposal))

    def give_up(self, proposal: Proposal) -> ProposalError:
        error: ProposalError
        what = "change" if proposal.is_change else "write"
        if proposal.term is None:
            why = f" ({proposal.held_up_by})" if proposal.is_change and proposal.held_up_by else ""
            error = NoLeader(f"no leader took the {what} in time{why}; it is certainly not applied")
        else:
            error = OutcomeUnknown(
                f"the {what} was sent but not confirmed in time; it may or may not be applied"
            )
        self._close(proposal, error)
        return error

    def _close(self, proposal: Proposal, error: ProposalError) -> None:
        if self._open.pop(proposal.id, None) is not None:
            self._queue_of(proposal).pop(proposal.id, None)
            self._refused.pop(proposal.id, None)
            self._bytes -= len(proposal.command)
            self._outcomes[type(error)] += 1

    def _queue_of(self, proposal: Proposal) -> dict[ProposalId, Proposal]:
        return self._queued_changes if proposal.is_change else self._queued

    def _queue_again(self, proposals: Iterable[Proposal]) -> None:
        for proposal in proposals:
            self._queue_of(proposal)[proposal.id] = proposal

    def close(self, reason: str) -> None:
        """The node stops: settle everything truthfully, and refuse what comes later."""
        self._closed = reason
        for proposal in list(self._open.values()):
            error = self.give_up(proposal)
            proposal.settle(type(error)(f"{reason}; {str(error).partition('; ')[2] or error}"))
