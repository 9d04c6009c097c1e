"""How proposals reach the log of the leader.

If this node leads, its own proposals are appended to the core, and the proposals that followers have
forwarded. If another node leads, this node's proposals are forwarded to it. A forwarded proposal names the
term that it is meant for, and only the leader of that term may append it: on this rests the rule that tells
the fate of a proposal (`node/proposals.py`). If the leader does not append it, it answers Refused; if it
does, it answers nothing: the follower learns the outcome from its own log.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from raftkv_trio.errors import ChangeRefused, NoSuchMember, TooLarge
from raftkv_trio.node.command_check import CommandCheck
from raftkv_trio.node.driver.catching_up import CatchingUp, cost_of
from raftkv_trio.node.driver.membership_changes import Deferred, MembershipChanges
from raftkv_trio.node.proposals import Proposal, ProposalTable
from raftkv_trio.node.tracing import Tracer
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.peers.refusals import Refusal, Refusals
from raftkv_trio.peers.wire import MAX_FORWARDED, Forward, ForwardChange, Refused
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole


class _Waiting(NamedTuple):
    """A forwarded command that waits at the leader, since writers are slowed."""

    peer_id: int
    term: int
    id: ProposalId
    command: bytes


class Proposer:
    """Appends or forwards commands in batches, and membership changes one by one.

    Args:
        catching_up: says how many commands may be appended, and may wait here, if a lagging voter slows
            writers.
        refusals: told of forwarded commands that are too large, or of a newer version.
        max_command_bytes: the largest command that a follower may forward to this node.
        max_batch_bytes: the largest sum of the commands that are appended or forwarded at once.
        tracer: told which own proposals are appended or forwarded; None: nobody asks.
        command_check: says which commands the state machine could not apply; None: it takes all.
    """

    def __init__(
        self,
        raw: RawNode,
        proposals: ProposalTable,
        changes: MembershipChanges,
        catching_up: CatchingUp,
        refusals: Refusals,
        *,
        max_command_bytes: int,
        max_batch_bytes: int,
        tracer: Tracer | None = None,
        command_check: CommandCheck | None = None,
    ) -> None:
        self._tracer = tracer
        self._command_check = command_check
        self._raw = raw
        self._proposals = proposals
        self._changes = changes
        self._catching_up = catching_up
        self._refusals = refusals
        self._max_command_bytes = max_command_bytes
        self._max_batch_bytes = max_batch_bytes
        self._are_own_first = False
        self._arrived: list[tuple[int, Forward | ForwardChange]] = []
        self._waiting: deque[_Waiting] = deque()  # oldest first
        self._waiting_bytes = 0

    # ------------------------------------------------------------ messages of peers

    def forwarded(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        """A follower asks this node to append; the next `propose` does so, or refuses."""
        self._arrived.append((peer_id, forward))

    def refused(self, peer_id: int, refused: Refused) -> None:
        """A node says that it did not append, as the leader, what this node forwarded."""
        kind = NoSuchMember if refused.is_unknown else ChangeRefused
        reason = kind(refused.reason) if refused.is_final else refused.reason
        for proposal_id in refused.ids:
            # With term and sender the table knows to which forward of the proposal this is an answer.
            self._proposals.refused(proposal_id, refused.term, peer_id, reason)

    # ------------------------------------------------------------ once a turn

    def propose(self, peers: PeerTransport) -> None:
        """Append or forward everything that waits, as far as the core or the outbox accepts it."""
        # If writers are slowed, this node's clients and those of the followers come first in turn.
        self._proposals.slowed_because = self._catching_up.slowed_because
        self._are_own_first = self._proposals.slowed_because is not None and not self._are_own_first
        if self._are_own_first:
            self._propose_own(peers)
        self._take_forwarded(peers)
        if not self._are_own_first:
            self._propose_own(peers)

    def _take_forwarded(self, peers: PeerTransport) -> None:
        arrived, self._arrived = self._arrived, []
        self._append_waiting(peers)
        for peer_id, arrived_forward in arrived:
            forward = self._without_unfit(peers, peer_id, arrived_forward)
            is_slowed = self._catching_up.slowed_because is not None
            if is_slowed and isinstance(forward, Forward) and self._why_not(forward.term) is None:
                self._let_wait(peers, peer_id, forward)
            else:
                self._append_forwarded(peers, peer_id, forward)
        self._append_waiting(peers)

    def _without_unfit(
        self, peers: PeerTransport, peer_id: int, forward: Forward | ForwardChange
    ) -> Forward | ForwardChange:
        """What is forwarded without the commands that this node must not append; those are refused."""
        if isinstance(forward, ForwardChange):
            return forward  # `MembershipChanges.append` checks these
        if self._why_not(forward.term) is not None:
            return forward  # it is refused as a whole, and another leader may take all of it
        fit, too_large, newer = [], [], []
        objection = None
        for proposal in forward.proposals:
            _, command = proposal
            if len(command) > self._max_command_bytes:
                too_large.append(proposal)
            elif self._command_check is not None and (why := self._command_check(command)) is not None:
                objection = why
                newer.append(proposal)
            else:
                fit.append(proposal)
        if too_large:
            self._refuse_too_large(peers, peer_id, forward._replace(proposals=tuple(too_large)))
        if newer:
            # Not for good: while members are upgraded one after the other, the next leader may know it.
            reason = f"node {self._raw.id}, which leads, could not apply the command: {objection}"
            self._refusals.note(Refusal.NEWER_VERSION, f"of node {peer_id}: {reason}")
            self._refuse(peers, peer_id, forward._replace(proposals=tuple(newer)), reason)
        return forward._replace(proposals=tuple(fit))

    def _refuse_too_large(self, peers: PeerTransport, peer_id: int, forward: Forward) -> None:
        # The bound keeps each entry small enough for a frame. A leader could send a larger one to nobody, and
        # so nothing that comes after it.
        largest = max([len(command) for _, command in forward.proposals])
        reason = (
            f"a command of {largest} bytes is over the limit of {self._max_command_bytes} of node"
            f" {self._raw.id}, which leads; split it"
        )
        self._refusals.note(Refusal.COMMAND, f"of node {peer_id}: {reason}")
        self._refuse(peers, peer_id, forward, TooLarge(reason))

    def _let_wait(self, peers: PeerTransport, peer_id: int, forward: Forward) -> None:
        """Keep the commands until they are admitted, as far as that is soon; refuse the others."""
        # They wait here: a Refused brings them back after some ticks, all their bytes again. But of those
        # that would wait for long the clients give up, and here nobody would know.
        count = 0
        for proposal_id, command in forward.proposals:
            if self._waiting and self._waiting_bytes >= self._catching_up.max_waiting_bytes:
                break
            self._waiting.append(_Waiting(peer_id, forward.term, proposal_id, command))
            self._waiting_bytes += cost_of(command)
            count += 1
        if count < len(forward.proposals):
            later = forward._replace(proposals=forward.proposals[count:])
            self._refuse(peers, peer_id, later, self._catching_up.slowed_because or "")

    def _append_waiting(self, peers: PeerTransport) -> None:
        """Append the oldest commands that wait, as many as are admitted."""
        if not self._waiting:
            return
        # All have one term: those of an earlier term are refused before others can come.
        term = self._waiting[0].term
        reason = self._why_not(term)
        count = len(self._waiting)
        if reason is None:
            # This stops at the first command that is not admitted: a turn does not look at those that stay.
            count = self._catching_up.admitted(waiting.command for waiting in self._waiting)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._waiting_bytes -= sum([cost_of(waiting.command) for waiting in taken])
        if reason is None and taken:
            reason = self._append([(waiting.id, waiting.command) for waiting in taken])
        if reason is not None:
            by_peer: dict[int, list[tuple[ProposalId, bytes]]] = {}
            for waiting in taken:
                by_peer.setdefault(waiting.peer_id, []).append((waiting.id, waiting.command))
            for peer_id, proposals in by_peer.items():
                # Those of several Forwards may have waited: in one answer they could be too many for a frame.
                for start in range(0, len(proposals), MAX_FORWARDED):
                    part = Forward(term, tuple(proposals[start : start + MAX_FORWARDED]))
                    self._refuse(peers, peer_id, part, reason)

    def _propose_own(self, peers: PeerTransport) -> None:
        if self._raw.leader_id is not None:
            self._propose_changes(peers, self._raw.leader_id)
            self._propose_commands(peers, self._raw.leader_id)

    def _why_not(self, term: int) -> str | None:
        """Why nothing that was forwarded to the leader of `term` may be appended; None if it may."""
        # A leader of another term must refuse. The sender would take an entry of a later term as proof that
        # its proposal is lost, and send it again; appended by both leaders, it would be applied twice.
        if self._raw.role is not StateRole.LEADER or self._raw.term != term:
            return f"node {self._raw.id} does not lead term {term}"
        return self._proposals.disk_shortage

    def _propose_commands(self, peers: PeerTransport, leader_id: int) -> None:
        while self._proposals.has_queued:
            if leader_id == self._raw.id:
                room = self._catching_up.room_bytes
                if room <= 0:
                    return
                batch = self._proposals.next_queued(int(min(self._max_batch_bytes, room)))
                batch = batch[: self._catching_up.admitted(proposal.command for proposal in batch)]
                is_accepted = self._append([(p.id, p.command) for p in batch]) is None
            else:
                batch = self._proposals.next_queued(self._max_batch_bytes)
                is_accepted = peers.offer(leader_id, (_forward(self._raw.term, batch),))
            # The rest stays queued until the next turn: the core has too many uncommitted bytes, or a
            # transfer is under way, or the outbox is full.
            if not is_accepted:
                return
            # Even if the connection breaks now, the batch counts as sent under this term: nobody here can
            # know whether the leader has received it. Only an outbox that still held it may say so.
            self._proposals.sent(batch, self._raw.term, leader_id)
            if self._tracer is not None and self._tracer.is_on:
                self._trace(batch, is_appended=leader_id == self._raw.id)

    def _trace(self, batch: Sequence[Proposal], *, is_appended: bool) -> None:
        """Note where proposals are that were just appended, as the last entries, or forwarded."""
        first_index = self._raw.last_index - len(batch) + 1
        for position, proposal in enumerate(batch):
            if proposal.trace is not None:
                proposal.trace.reached("appended" if is_appended else "forwarded")
                proposal.trace.index = first_index + position if is_appended else None

    def _propose_changes(self, peers: PeerTransport, leader_id: int) -> None:
        for proposal in self._proposals.queued_changes:
            if leader_id != self._raw.id:
                forward = ForwardChange(self._raw.term, proposal.id, proposal.command)
                if peers.offer(leader_id, (forward,)):
                    self._proposals.sent((proposal,), self._raw.term, leader_id)
                continue
            match self._changes.append(proposal.id, proposal.command):
                case None:
                    self._proposals.sent((proposal,), self._raw.term, leader_id)
                case Deferred(reason):
                    # It stays queued and is tried in every turn. The changes behind it wait, so that changes
                    # of one node are appended in the order in which they were submitted.
                    proposal.deferred_because = reason
                    return
                case refusal:
                    self._proposals.refuse_change(proposal, refusal)

    def _append_forwarded(self, peers: PeerTransport, peer_id: int, forward: Forward | ForwardChange) -> None:
        reason: str | ChangeRefused | Deferred | None = self._why_not(forward.term)
        if reason is None and isinstance(forward, ForwardChange):
            reason = self._changes.append(forward.id, forward.request)
        elif reason is None and isinstance(forward, Forward):
            reason = self._append(forward.proposals) if forward.proposals else None
        if reason is not None:
            self._refuse(peers, peer_id, forward, reason)

    def _refuse(
        self,
        peers: PeerTransport,
        peer_id: int,
        forward: Forward | ForwardChange,
        reason: str | ChangeRefused | TooLarge | Deferred,
    ) -> None:
        refused = Refused(
            forward.term,
            proposal_ids(forward),
            reason.reason if isinstance(reason, Deferred) else str(reason),
            is_final=isinstance(reason, ChangeRefused | TooLarge),
            is_unknown=isinstance(reason, NoSuchMember),
        )
        # If this answer is lost the sender cannot tell what became of its proposal: an unknown outcome, never
        # a wrong one.
        peers.offer(peer_id, (refused,))

    def _append(self, proposals: Sequence[tuple[ProposalId, bytes]]) -> str | None:
        """Append all of these to the log, or none; the core's reason if none."""
        try:
            self._raw.propose(*[encode_proposal(proposal_id, command) for proposal_id, command in proposals])
        except ProposalDropped as error:
            return str(error)
        self._catching_up.appended(command for _, command in proposals)
        return None


def proposal_ids(forward: Forward | ForwardChange) -> tuple[ProposalId, ...]:
    """The ids of the commands, or of the one change, that are forwarded."""
    if isinstance(forward, ForwardChange):
        return (forward.id,)
    return tuple(proposal_id for proposal_id, _ in forward.proposals)


def _forward(term: int, batch: Sequence[Proposal]) -> Forward:
    return Forward(term, tuple((p.id, p.command) for p in batch))
