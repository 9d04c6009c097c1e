"""How proposals reach the log of the leader.

If this node leads, its own proposals are appended to the core, and the proposals that followers have
forwarded. If another node leads, this node's proposals are forwarded to it. A forwarded proposal names the
term that it is
meant for, and only the leader of that term may append it: on this rests the rule that tells the fate of a
proposal (`node/proposals.py`). If the leader does not append it, it answers Refused; if it does, it answers
nothing: the follower learns the outcome from its own log.
"""

from collections.abc import Sequence

from raftkv_trio.errors import ChangeRefused, NoSuchMember
from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.node.driver.membership_changes import Deferred, MembershipChanges
from raftkv_trio.node.proposals import Proposal, ProposalTable
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.peers.wire import Forward, ForwardChange, Refused
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole


class Proposer:
    """Appends or forwards commands in batches, and membership changes one by one.

    Args:
        catching_up: says how many commands may be appended, if a lagging voter slows writers.
        max_waiting_bytes: bound of the forwarded commands that wait while writers are slowed.
    """

    def __init__(
        self,
        raw: RawNode,
        proposals: ProposalTable,
        changes: MembershipChanges,
        catching_up: CatchingUp,
        *,
        max_batch_bytes: int,
        max_waiting_bytes: int,
    ) -> None:
        self._raw = raw
        self._proposals = proposals
        self._changes = changes
        self._catching_up = catching_up
        self._max_batch_bytes = max_batch_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._are_own_first = False
        self._forwarded: list[tuple[int, Forward | ForwardChange]] = []

    # ------------------------------------------------------------ messages of peers

    def forwarded(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        """A follower asks this node to append; the next `propose` does so, or refuses."""
        self._forwarded.append((peer_id, forward))

    def refused(self, refused: Refused) -> None:
        """A leader says that it did not append what this node forwarded."""
        kind = NoSuchMember if refused.is_unknown else ChangeRefused
        reason = kind(refused.reason) if refused.is_final else refused.reason
        for proposal_id in refused.ids:
            # The term in the answer lets the table ignore an answer to an earlier forward of the proposal.
            self._proposals.refused(proposal_id, refused.term, reason)

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
        forwarded, self._forwarded = self._forwarded, []
        waiting_bytes = 0
        for peer_id, forward in forwarded:
            if not isinstance(forward, Forward) or not self._leads(forward.term):
                self._append_forwarded(peers, peer_id, forward)
                continue
            commands = [command for _, command in forward.proposals]
            count = self._catching_up.admitted(commands)
            if count:
                now = forward._replace(proposals=forward.proposals[:count])
                self._append_forwarded(peers, peer_id, now)
            if count == len(commands):
                continue
            # The rest waits here: a Refused would bring it back with the next tick, all its bytes again.
            later = forward._replace(proposals=forward.proposals[count:])
            waiting_bytes += sum(map(len, commands[count:]))
            if waiting_bytes <= self._max_waiting_bytes:
                self._forwarded.append((peer_id, later))
            else:
                self._refuse(peers, peer_id, later, self._proposals.slowed_because or "")

    def _propose_own(self, peers: PeerTransport) -> None:
        if self._raw.leader_id is not None:
            self._propose_changes(peers, self._raw.leader_id)
            self._propose_commands(peers, self._raw.leader_id)

    def _leads(self, term: int) -> bool:
        return self._raw.role is StateRole.LEADER and self._raw.term == term

    def _propose_commands(self, peers: PeerTransport, leader_id: int) -> None:
        while self._proposals.has_queued:
            batch = self._proposals.next_queued(self._max_batch_bytes)
            if leader_id == self._raw.id:
                batch = batch[: self._catching_up.admitted([proposal.command for proposal in batch])]
                if not batch:
                    return
                is_accepted = self._append([(p.id, p.command) for p in batch]) is None
            else:
                is_accepted = peers.offer(leader_id, (_forward(self._raw.term, batch),))
            # The rest stays queued until the next turn: the core has too many uncommitted bytes, or a
            # transfer is under way, or the outbox is full.
            if not is_accepted:
                return
            # Even if the connection breaks now, the batch counts as sent under this term: nobody here can
            # know whether the leader has received it. Only an outbox that still held it may say so.
            self._proposals.sent(batch, self._raw.term)

    def _propose_changes(self, peers: PeerTransport, leader_id: int) -> None:
        for proposal in self._proposals.queued_changes:
            if leader_id != self._raw.id:
                forward = ForwardChange(self._raw.term, proposal.id, proposal.command)
                if peers.offer(leader_id, (forward,)):
                    self._proposals.sent((proposal,), self._raw.term)
                continue
            match self._changes.append(proposal.id, proposal.command):
                case None:
                    self._proposals.sent((proposal,), self._raw.term)
                case Deferred(reason):
                    # It stays queued and is tried in every turn. The changes behind it wait, so that changes
                    # of one node are appended in the order in which they were submitted.
                    proposal.deferred_because = reason
                    return
                case refusal:
                    self._proposals.refuse_change(proposal, refusal)

    def _append_forwarded(self, peers: PeerTransport, peer_id: int, forward: Forward | ForwardChange) -> None:
        reason: str | ChangeRefused | Deferred | None
        # A leader of another term must refuse. The sender would take an entry of a later term as proof that
        # its proposal is lost, and send it again; appended by both leaders, it would be applied twice.
        if not self._leads(forward.term):
            reason = f"node {self._raw.id} does not lead term {forward.term}"
        elif self._proposals.disk_shortage is not None:
            reason = self._proposals.disk_shortage
        elif isinstance(forward, ForwardChange):
            reason = self._changes.append(forward.id, forward.request)
        else:
            reason = self._append(forward.proposals)
        if reason is not None:
            self._refuse(peers, peer_id, forward, reason)

    def _refuse(
        self,
        peers: PeerTransport,
        peer_id: int,
        forward: Forward | ForwardChange,
        reason: str | ChangeRefused | Deferred,
    ) -> None:
        refused = Refused(
            forward.term,
            proposal_ids(forward),
            reason.reason if isinstance(reason, Deferred) else str(reason),
            is_final=isinstance(reason, ChangeRefused),
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
        return None


def proposal_ids(forward: Forward | ForwardChange) -> tuple[ProposalId, ...]:
    """The ids of the commands, or of the one change, that are forwarded."""
    if isinstance(forward, ForwardChange):
        return (forward.id,)
    return tuple(proposal_id for proposal_id, _ in forward.proposals)


def _forward(term: int, batch: Sequence[Proposal]) -> Forward:
    return Forward(term, tuple((p.id, p.command) for p in batch))
