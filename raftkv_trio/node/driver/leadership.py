"""Leadership transfer: when it happens, and which member is to lead next (dissertation, section 3.10).

These want a transfer:

- an operator (`Node.transfer_leadership`), maybe to one given voter;
- a server that shuts down (`Node.resign`);
- a disk without room: another node may have some;
- a disk that has not answered for an election timeout;
- membership changes, before a change that removes the leader.

Each of them is a state, looked at in every turn, and not an event. So a node that becomes leader while its
disk has no room transfers leadership at once, and a transfer that fails is tried again with the next
candidate.

A candidate that should not lead either ignores the request to campaign. The core would wait for it for an
election timeout, in which it takes no proposals, and a server that shuts down does not wait that long. So the
next candidate is asked after a quarter of it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock

#: For how much of an election timeout a candidate that was asked to campaign is waited for, if another one
#: can be asked. A campaign takes a round trip, and an election timeout is many.
_PATIENCE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class TransferRequest:
    """What one operator asks for; equal only to itself.

    Attributes:
        to: the voter that shall lead; None if any may.
    """

    to: int | None


class LeadershipTransfer:
    """Transfers leadership to an active voter, while this node leads and something wants that.

    Args:
        wakeup: the driver's.
        proposals: they know whether the disk has room.
    """

    def __init__(
        self,
        raw: RawNode,
        wakeup: Wakeup,
        clock: Clock,
        active: ActiveMembers,
        proposals: ProposalTable,
        election_timeout_s: float,
    ) -> None:
        self._raw = raw
        self._wakeup = wakeup
        self._clock = clock
        self._active = active
        self._proposals = proposals
        self._election_timeout_s = election_timeout_s
        self._request: TransferRequest | None = None
        self._is_resigned = False
        self._is_disk_stalled = False
        self._tried: set[int] = set()
        self._asked_at: float | None = None  # the transferee, to campaign
        self._rests_until = clock.now()

    # ------------------------------------------------------------ by other tasks; all return at once

    def request(self, to: int | None = None) -> TransferRequest:
        """Have voter `to` lead, or the active voter with most of the log if None.

        The request stays pending until this node does not lead, it is withdrawn, or another one takes its
        place.
        """
        self._request = request = TransferRequest(to)
        self._wakeup.set()
        return request

    def withdraw(self, request: TransferRequest) -> None:
        """Let this node go on leading as far as this request is concerned, unless the transfer has begun."""
        if self._request is request:
            self._request = None

    def resign(self) -> None:
        """This node is about to stop: it transfers leadership now, and whenever it is elected."""
        self._is_resigned = True
        self._wakeup.set()

    # ------------------------------------------------------------ by the driver

    @property
    def should_not_lead(self) -> bool:
        """Whether this node, if it leads or once it is elected, transfers leadership by itself."""
        return self._is_resigned or self._is_disk_stalled or self._proposals.disk_shortage is not None

    def tick(self, writing_since: float | None) -> None:
        """Note whether a write to the disk, begun at `writing_since`, takes an election timeout."""
        # Heartbeats need no disk. So the followers would go on following a leader that can commit nothing
        # with its own log, for as long as its disk does not answer.
        self._is_disk_stalled = (
            writing_since is not None and self._clock.now() - writing_since > self._election_timeout_s
        )

    def begin_if_wanted(self) -> None:
        """Once a turn: begin a transfer if one is wanted, none is under way, and there is a candidate."""
        # Another node leads, or none does: the request is fulfilled. It must not survive, or it would depose
        # this node when it is elected again for good reason. What the node's own state says survives.
        if self._raw.role is not StateRole.LEADER:
            self._request = None
            self._tried.clear()
            self._rests_until = self._clock.now()
            return
        if self._request is None and not self.should_not_lead:
            return
        # In a joint configuration a voter of the outgoing half may be on its way out. It would have to
        # transfer leadership again soon, so only the incoming half counts.
        voters = self._raw.status().configuration.voters
        to = None if self._request is None else self._request.to
        candidate_ids = set(voters) if to is None else {to}.intersection(voters)
        # The operator's choice comes first. If it cannot take over, or did not, any other voter is better
        # than this node, which should not lead.
        if self.should_not_lead and not self._eligible(candidate_ids).keys() - self._tried:
            candidate_ids = set(voters)
        self.begin(candidate_ids)

    def begin(self, candidate_ids: Collection[int]) -> None:
        """Begin a transfer to an active candidate, unless a transfer is under way; called in every turn.

        The target needs all entries before it may campaign (section 3.10), so the voter with most of them is
        ready first. Of several such voters the one with the lowest id is taken. A candidate that did not take
        over, perhaps because it should not lead either, is tried again after all others.
        """
        transferee = self._raw.status().transferee
        if transferee is not None:
            if not self._ignores_request(transferee):
                return
        elif self._clock.now() < self._rests_until:
            return
        matches = self._eligible(candidate_ids)
        untried = [node_id for node_id in matches if node_id not in self._tried]
        if untried:
            self._transfer_to(max(untried, key=lambda node_id: (matches[node_id], -node_id)))
        # The core gives up the transfer to the last candidate after an election timeout. In a transfer it
        # takes no proposals. If no candidate takes over, clients' writes get their turn between one round of
        # attempts and the next.
        elif matches and transferee is None:
            self._tried.clear()
            self._rests_until = self._clock.now() + self._election_timeout_s

    def _transfer_to(self, target: int) -> None:
        self._tried.add(target)
        self._asked_at = None
        # The core drops the transfer under way for this one. If the earlier target campaigns all the same,
        # that is an ordinary election in a later term, which is safe at any time.
        self._raw.transfer_leader(target)
        self._note_request(target)

    def _note_request(self, transferee: int) -> None:
        """Note when the core has asked the transferee to campaign: as soon as that one has all of the log."""
        progress = self._raw.status().progress.get(transferee)
        if self._asked_at is None and progress is not None and progress.match == self._raw.last_index:
            self._asked_at = self._clock.now()

    def _ignores_request(self, transferee: int) -> bool:
        """Whether the transferee was asked to campaign long ago, while this node still leads."""
        self._note_request(transferee)
        patience_s = _PATIENCE * self._election_timeout_s
        return self._asked_at is not None and self._clock.now() - self._asked_at >= patience_s

    def _eligible(self, candidate_ids: Collection[int]) -> dict[int, int]:
        """Which of the candidates can take over, and how much of the log each of them has."""
        return {
            node_id: progress.match
            for node_id, progress in self._raw.status().progress.items()
            if node_id in candidate_ids
            and node_id != self._raw.id
            and not progress.is_learner
            # Active may mean: heard from before this node led, as the leader was that has just stopped. A
            # member with a match has answered this leader.
            and progress.match
            and node_id in self._active
        }
