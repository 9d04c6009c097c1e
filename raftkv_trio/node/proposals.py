"""Proposals that this node's clients wait for, and the one rule that tells the fate of each.

A proposal is *queued* until this node appends or forwards it. From then on it is *sent under a term*: only
the leader of that term may append it. Therefore:

1. If its entry ever commits, the entry has that term.
2. Terms never decrease along a log (paper, section 5.3). So no entry of that term follows an entry of a later
   term.
3. Hence, if an entry of a later term is applied here and the proposal was not among the entries before it,
   the proposal is certainly not applied. It may be sent again.

One other event proves the same: the node that it was sent to, as the leader of that term, says itself that it
did not append the proposal.
Nothing else does: no new leader, no broken connection, no long wait.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from random import Random

import trio

from raftkv_trio.errors import (
    ChangeRefused,
    CommandRefused,
    DiskFull,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalError,
    TooLarge,
)
from raftkv_trio.node.command_check import CommandCheck
from raftkv_trio.node.tracing import Trace
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.wire import MAX_FORWARDED
from raftkv_trio.records import record
from raftkv_trio.state_machine import refused_as
from raftkv_trio.sync import Wakeup

#: A refused command is sent again after 1, 2, 4 ticks, and no later.
_MAX_RETRY_TICKS = 4


@record
class Applied:
    """The entry of a proposal was applied on this node; `result` is the state machine's."""

    term: int
    index: int
    result: object


class Proposal:
    """A command, or a change of the members, on its way through the log; `Node.submit` makes it.

    Attributes:
        is_change: whether `command` is an encoded `ChangeRequest`.
        term, leader_id: the term that it was sent under, and to which node; None while it is queued.
        deferred_because: why the leader has not appended it yet; None if the leader gave no reason.
        refusals, retry_tick: how often a leader refused to append it now, and when it is sent again.
        deadline: when it is given up, on Trio's clock.
        trace: of its way, if a client has asked for that.
    """

    __slots__ = (
        "__weakref__",
        "_done",
        "_outcome",
        "_table",
        "command",
        "deadline",
        "deferred_because",
        "id",
        "is_change",
        "leader_id",
        "refusals",
        "retry_tick",
        "term",
        "trace",
    )

    def __init__(
        self, proposal_id: ProposalId, command: bytes, table: "ProposalTable", *, is_change: bool
    ) -> None:
        self.id = proposal_id
        self.command = command
        self.is_change = is_change
        self.term: int | None = None
        self.leader_id: int | None = None
        self.deferred_because: str | None = None
        self.refusals = self.retry_tick = 0
        self.deadline = inf
        self.trace: Trace | None = None
        self._table = table
        self._done = trio.Event()
        self._outcome: Applied | ProposalError = OutcomeUnknown("the outcome is not known yet")

    async def wait(self) -> Applied:
        """Wait until the proposal is applied here.

        Raises:
            NoLeader: the node stops, or `deadline` has passed, and the proposal is certainly not applied.
            OutcomeUnknown: the same, but it may be applied; or the node has installed a snapshot that may
                include it.
            ChangeRefused: the leader refuses this change of the members; it is certainly not applied.
            TooLarge: the command is larger than the leader allows; it is certainly not applied.

        Cancellation leaves the proposal on its way. `give_up` then tells what may have become of it.
        """
        await self._done.wait()
        return self.result()

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self._done.is_set()

    def result(self) -> Applied:
        """Return or raise what `wait` does. Raises OutcomeUnknown before the proposal is settled."""
        if isinstance(self._outcome, ProposalError):
            raise self._outcome
        return self._outcome

    def give_up(self) -> ProposalError:
        """Stop waiting; return the error to tell the caller: `NoLeader` if the proposal was never sent.

        A proposal that was still queued is never sent afterwards. Otherwise the error is `OutcomeUnknown`.
        """
        return self._table.give_up(self)

    def settle(self, outcome: Applied | ProposalError) -> None:
        """End every `wait` with this outcome. Only the node calls this."""
        self._outcome = outcome
        self._done.set()


def _outcome_name(kind: type[Applied | ProposalError]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


_APPLIED = _outcome_name(Applied)


class ProposalTable:
    """All proposals of this node that are not settled, bounded in number and in bytes.

    Args:
        command_check: says which commands the state machine could not apply; None: it takes all.

    Attributes:
        disk_shortage: what the disk has no room for, in words, so that no write is accepted; None if it has.
        slowed_because: why this node, which leads, lets writes wait; None if it does not.
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
        command_check: CommandCheck | None = None,
    ) -> None:
        self._command_check = command_check
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
        self._ticks = 0
        self._closed: str | None = None
        self.disk_shortage: str | None = None
        self.slowed_because: str | None = None
        errors = [_outcome_name(kind) for kind in ProposalError.__subclasses__()]
        self._outcomes = Counter[str](dict.fromkeys((_APPLIED, *errors), 0))

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open_bytes(self) -> int:
        """Bytes of all commands that are not settled."""
        return self._bytes

    def outcomes(self) -> Mapping[str, int]:
        """The number of proposals by outcome: `applied`, an error's name in snake case, or a `refused_as`."""
        return dict(self._outcomes)

    @property
    def has_queued(self) -> bool:
        """Whether a command waits to be sent."""
        return bool(self._queued)

    @property
    def queued_changes(self) -> list[Proposal]:
        """The changes of the members that wait to be sent, oldest first."""
        return list(self._queued_changes.values())

    def submit(self, command: bytes, *, is_change: bool = False) -> Proposal:
        """Queue a command, or a change of the members.

        Raises TooLarge, CommandRefused, Overloaded, DiskFull; NoLeader if the node is stopping.
        """
        try:
            self._check(command)
            if not is_change:
                self._check_command(command)
        except ProposalError as error:
            self._outcomes[_outcome_name(type(error))] += 1
            raise
        # Unique over all nodes, and by the nonce over all starts of this node. An entry that an earlier
        # process of this node proposed settles nothing here.
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
        if self.disk_shortage is not None:
            raise DiskFull(f"{self.disk_shortage}; free some space")
        if len(command) > self._max_command_bytes:
            raise TooLarge(
                f"a command of {len(command)} bytes is over the limit of {self._max_command_bytes}; split it"
            )
        # A single command may be larger than the bound in bytes: it is accepted if no other one waits.
        if len(self._open) >= self._max_count or (
            self._bytes and self._bytes + len(command) > self._max_bytes
        ):
            raise Overloaded(
                f"{len(self._open)} proposals with {self._bytes} bytes are waiting already; retry later"
            )

    def _check_command(self, command: bytes) -> None:
        # The leader may know the command, and commit it. But then this node could not apply it.
        if self._command_check is not None and (objection := self._command_check(command)) is not None:
            raise CommandRefused(f"{objection}; it is certainly not applied")

    def next_queued(self, max_bytes: int) -> list[Proposal]:
        """The oldest queued commands, at least one, up to `max_bytes` and to what a Forward may have.

        They stay queued until `sent`.
        """
        batch: list[Proposal] = []
        size = 0
        for proposal in self._queued.values():
            size += len(proposal.command)
            if batch and (size > max_bytes or len(batch) == MAX_FORWARDED):
                break
            batch.append(proposal)
        return batch

    def sent(self, proposals: Iterable[Proposal], term: int, leader_id: int) -> None:
        """From now on this leader of `term` may append these."""
        for proposal in proposals:
            proposal.term, proposal.leader_id = term, leader_id
            del self._queue_of(proposal)[proposal.id]

    def refused(
        self, proposal_id: ProposalId, term: int, leader_id: int, reason: str | ChangeRefused
    ) -> None:
        """This leader of `term` certainly did not append the proposal.

        It is sent again after the next tick, and after some more if it is refused again. But if the leader
        has refused it for good, it is settled: a command is too large for that leader then.
        """
        proposal = self._open.get(proposal_id)
        # An answer that was under way for long may speak of an earlier term. Since then the proposal was sent
        # to another leader, who may have appended it. Nor can a node speak for the one it was sent to.
        if proposal is None or (proposal.term, proposal.leader_id) != (term, leader_id):
            return
        self._unsend(proposal)
        if isinstance(reason, ChangeRefused):
            self._refuse(proposal, reason if proposal.is_change else TooLarge(str(reason)))
        else:
            proposal.deferred_because = reason
            # Megabytes of commands may be refused at once, and all their bytes travel again.
            wait_ticks = 1 if proposal.is_change else min(2**proposal.refusals, _MAX_RETRY_TICKS)
            proposal.refusals += 1
            proposal.retry_tick = self._ticks + wait_ticks
            self._refused[proposal_id] = proposal

    def refuse_change(self, proposal: Proposal, error: ChangeRefused) -> None:
        """The leader refuses a change that is not in its log, for good."""
        self._refuse(proposal, error)

    def _refuse(self, proposal: Proposal, error: ProposalError) -> None:
        self._forget(proposal, _outcome_name(type(error)))
        proposal.settle(error)

    def retry_refused(self) -> None:
        """Queue refused proposals again that are due; called once a tick.

        So a leader that refuses is not flooded.
        """
        self._ticks += 1
        due = [proposal for proposal in self._refused.values() if proposal.retry_tick <= self._ticks]
        for proposal in due:
            del self._refused[proposal.id]
        self._queue_again(due)

    def end_overdue(self, now: float) -> None:
        """Give up the proposals whose deadline has passed, at this time."""
        for proposal in [p for p in self._open.values() if p.deadline <= now]:
            proposal.settle(self.give_up(proposal))

    def applied(self, proposal_id: ProposalId, outcome: Applied) -> None:
        """An entry with this id was applied; this settles the proposal if it is open here."""
        # Most ids are those of other nodes' clients.
        proposal = self._open.get(proposal_id)
        if proposal is not None:
            if proposal.trace is not None:
                proposal.trace.reached("applied")
            self._forget(proposal, refused_as(outcome.result) or _APPLIED)
            proposal.settle(outcome)

    def term_applied(self, term: int) -> None:
        """The first entry of `term` is applied: proposals sent under an earlier term are queued again."""
        # Safe by the rule at the top of this file: each of these was not among the entries before this one,
        # or `applied` would have taken it out of the table.
        lost = [p for p in self._open.values() if p.term is not None and p.term < term]
        for proposal in lost:
            self._unsend(proposal)
        self._queue_again(lost)
        if lost:
            self._wakeup.set()

    def snapshot_applied(self, term: int) -> None:
        """A snapshot whose last entry has this term has replaced entries that this node never applies itself.

        The entry of a proposal that was sent under this term or an earlier one may be among them. Nothing on
        this node can tell, so the outcome is unknown.
        """
        for proposal in [p for p in self._open.values() if p.term is not None and p.term <= term]:
            proposal.settle(self.give_up(proposal))

    def give_up(self, proposal: Proposal) -> ProposalError:
        """Take a proposal out of the table, and return the error to tell its caller."""
        return self._give_up(proposal, None)

    def _give_up(self, proposal: Proposal, reason: str | None) -> ProposalError:
        error: ProposalError
        what = "change" if proposal.is_change else "write"
        # Without a term it was never sent, or each leader that it was sent to has certainly not appended it;
        # and out of the table it cannot be sent again. With a term, the leader may still append it at any
        # later time.
        if proposal.term is None:
            if reason is None:
                why = proposal.deferred_because or self.slowed_because
                reason = f"no leader accepted the {what} in time{f' ({why})' if why else ''}"
            error = NoLeader(f"{reason}; it is certainly not applied")
        else:
            reason = reason or f"the {what} was sent but not confirmed in time"
            error = OutcomeUnknown(f"{reason}; it may or may not be applied")
        self._forget(proposal, _outcome_name(type(error)))
        return error

    def _forget(self, proposal: Proposal, outcome: str) -> None:
        # Out of the queues too, or it would be sent again: a node may have said that it did not append what
        # it did append.
        if self._open.pop(proposal.id, None) is not None:
            self._queue_of(proposal).pop(proposal.id, None)
            self._refused.pop(proposal.id, None)
            self._bytes -= len(proposal.command)
            self._outcomes[outcome] += 1
            if proposal.trace is not None:
                proposal.trace.end()

    def _unsend(self, proposal: Proposal) -> None:
        proposal.term = proposal.leader_id = None

    def _queue_of(self, proposal: Proposal) -> dict[ProposalId, Proposal]:
        return self._queued_changes if proposal.is_change else self._queued

    def _queue_again(self, proposals: Iterable[Proposal]) -> None:
        for proposal in proposals:
            self._queue_of(proposal)[proposal.id] = proposal

    def close(self, reason: str) -> None:
        """The node stops: settle all proposals, and refuse every later one."""
        self._closed = reason
        for proposal in list(self._open.values()):
            proposal.settle(self._give_up(proposal, reason))
