"""The driver's part that brings proposals to the leader: appends them where this node leads, forwards them
where another does, and answers what others forward to this node."""

from collections.abc import Sequence

from raftkv_trio.errors import ChangeRefused, NoSuchMember
from raftkv_trio.node.driver.membership_changes import Later, MembershipChanges
from raftkv_trio.node.proposals import Proposal, ProposalTable
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.peers.wire import Forward, ForwardChange, Refused
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole


class Proposer:
    """Commands in batches, changes of members one by one."""

    def __init__(
        self, raw: RawNode, proposals: ProposalTable, changes: MembershipChanges, *, max_batch_bytes: int
    ) -> None:
        self.raw = raw
        self._proposals = proposals
        self._changes = changes
        self._max_batch_bytes = max_batch_bytes
        self._forwarded: list[tuple[int, Forward | ForwardChange]] = []

    # ------------------------------------------------------------ told by the driver

    def forwarded(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        """A follower asks this node to append; answered at the next `propose`."""
        self._forwarded.append((peer_id, forward))

    def refused(self, refused: Refused) -> None:
        """A leader's word that it did not append what this node had forwarded."""
        kind = NoSuchMember if refused.is_unknown else ChangeRefused
        reason = kind(refused.reason) if refused.is_final else refused.reason
        for proposal_id in refused.ids:
            self._proposals.refused(proposal_id, refused.term, reason)

    # ------------------------------------------------------------ once a turn

    def propose(self, peers: PeerTransport) -> None:
        """Bring all that waits to the leader, as far as it is taken."""
        forwarded, self._forwarded = self._forwarded, []
        for peer_id, forward in forwarded:
            self._append_forwarded(peers, peer_id, forward)
        if self.raw.leader_id is not None:
            self._propose_changes(peers, self.raw.leader_id)
            self._propose_commands(peers, self.raw.leader_id)

    def _propose_commands(self, peers: PeerTransport, leader_id: int) -> None:
        while self._proposals.has_queued:
            batch = self._proposals.next_queued(self._max_batch_bytes)
            if leader_id == self.raw.id:
                taken = self._append([(p.id, p.command) for p in batch]) is None
            else:
                taken = peers.offer(leader_id, (_forward(self.raw.term, batch),))
            if not taken:
                return
            self._proposals.sent(batch, self.raw.term)

    def _propose_changes(self, peers: PeerTransport, leader_id: int) -> None:
        for proposal in self._proposals.queued_changes:
            if leader_id != self.raw.id:
                forward = ForwardChange(self.raw.term, proposal.id, proposal.command)
                if peers.offer(leader_id, (forward,)):
                    self._proposals.sent((proposal,), self.raw.term)
                continue
            match self._changes.append(proposal.id, proposal.command):
                case None:
                    self._proposals.sent((proposal,), self.raw.term)
                case Later(reason):
                    proposal.held_up_by = reason
                    return
                case refusal:
                    self._proposals.refuse_change(proposal, refusal)

    def _append_forwarded(self, peers: PeerTransport, peer_id: int, forward: Forward | ForwardChange) -> None:
        reason: str | ChangeRefused | Later | None
        if self.raw.role is not StateRole.LEADER or self.raw.term != forward.term:
            reason = f"node {self.raw.id} does not lead term {forward.term}"
        elif self._proposals.no_room is not None:
            reason = self._proposals.no_room
        elif isinstance(forward, ForwardChange):
            reason = self._changes.append(forward.id, forward.request)
        else:
            reason = self._append(forward.proposals)
        if reason is not None:
            refused = Refused(
                forward.term,
                proposal_ids(forward),
                reason.reason if isinstance(reason, Later) else str(reason),
                is_final=isinstance(reason, ChangeRefused),
                is_unknown=isinstance(reason, NoSuchMember),
            )
            peers.offer(peer_id, (refused,))

    def _append(self, proposals: Sequence[tuple[ProposalId, bytes]]) -> str | None:
        """Append all or none to the log; None, or why the core takes none now."""
        try:
            self.raw.propose(*[encode_proposal(proposal_id, command) for proposal_id, command in proposals])
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
