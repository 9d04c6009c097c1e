"""What a leader does about its members: which changes it appends, promotions, and who needs a snapshot.

One change at a time: the next one waits until the last is applied here and no configuration is joint, so that
what it is checked against is what it will meet.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from raftkv_trio.errors import ChangeRefused, PeerProtocolError
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange, Membership
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.confchange import ConfChangeV2, all_members, apply_change
from raftkv_trio.raft.errors import InvalidConfiguration, ProposalDropped
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import ConfState, StateRole
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

#: Proposes what the leader changes of its own accord; no node has this id.
_LEADER_ITSELF = ProposalId(0, 0, 0)


class Later(NamedTuple):
    """Why a change cannot be appended yet, and whom of the leader has to hand over to first, if anybody."""

    reason: str
    successors: tuple[int, ...] = ()


class CatchUpRound(NamedTuple):
    """A learner's catch-up (dissertation, section 4.2.1): from when, up to which index, after a short one?"""

    begun_at: float
    target: int
    was_short: bool


class MembershipChanges:
    """The driver's part that changes members; asked on the leader only.

    Args:
        want_snapshot: has one taken of what is applied now.
    """

    def __init__(
        self,
        node_id: int,
        raw: RawNode,
        log: MemoryStorage,
        membership: Membership,
        clock: Clock,
        active: ActiveMembers,
        leadership_transfer: LeadershipTransfer,
        election_timeout_s: float,
        want_snapshot: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._raw = raw
        self._log = log
        self._membership = membership
        self._clock = clock
        self._active = active
        self._leadership_transfer = leadership_transfer
        self._election_timeout_s = election_timeout_s
        self._want_snapshot = want_snapshot
        self._rounds: dict[int, CatchUpRound] = {}
        self._leads_since: float | None = None

    # ------------------------------------------------------------ requests

    def append(self, proposal_id: ProposalId, data: bytes) -> ChangeRefused | Later | None:
        """Append a change to the log; None, or why that is not to be, or not yet."""
        try:
            request = ChangeRequest.decode(data)
        except PeerProtocolError as error:
            return ChangeRefused(str(error))
        if (verdict := self.verdict(request)) is not None:
            is_transferring = self._raw.status().transferee is not None
            if isinstance(verdict, Later) and verdict.successors and not is_transferring:
                self._leadership_transfer.begin(verdict.successors)
            return verdict
        try:
            self._raw.propose_conf_change(request.conf_change(proposal_id))
        except ProposalDropped as error:
            return Later(str(error))
        return None

    def verdict(self, request: ChangeRequest) -> ChangeRefused | Later | None:
        """Why a change is not to be appended, or not yet; None where nothing stands against it now."""
        if self._raw.is_changing:
            return Later("an earlier change is not complete yet")
        if (objection := self._membership.objection(request)) is not None:
            return objection
        change = request.conf_change(_LEADER_ITSELF)  # whose it is does not matter yet
        try:
            configuration = apply_change(self._membership.conf_state, change).conf_state
        except InvalidConfiguration as error:
            return ChangeRefused(str(error))
        if (untimely := self._untimely(request, configuration)) is not None:
            return untimely
        if self._node_id not in configuration.voters:
            if not {*configuration.voters} & {*self._membership.conf_state.voters}:
                return ChangeRefused(
                    "the leader is to be removed, and none of the voters that stay votes already, so that"
                    " it could hand over; promote one first"
                )
            return Later("the leader hands over before it is removed", configuration.voters)
        if self._is_new_leader and (behind := self._behind(request)) is not None:
            return Later(f"node {behind} is to hear of its own removal, and has not been heard from yet")
        return None

    def _untimely(self, request: ChangeRequest, configuration: ConfState) -> ChangeRefused | Later | None:
        """Why a change that makes sense must not be made as things are now, unless it is forced."""
        if request.is_forced:
            return None
        for change in request.changes:
            if change.action is Action.PROMOTE and not self._has_caught_up(change.node_id):
                return ChangeRefused(
                    f"node {change.node_id} has not caught up yet; wait, or let it be promoted by itself"
                )
        for voters in (configuration.voters, configuration.voters_outgoing):
            active = [i for i in voters if i in self._active]
            if len(active) <= len(voters) // 2 and voters:
                if self._is_new_leader:
                    return Later("the leader is new, and has not heard from all yet")
                return ChangeRefused(
                    f"of the voters {_names(voters)} only {_names(active) or 'none'} would answer, which is"
                    " no quorum; bring the others back first, or force the change"
                )
        return None

    def _behind(self, request: ChangeRequest) -> int | None:
        """Who is to be removed, answers, and has not been probed yet: it would miss the commit of that."""
        progress = self._raw.status().progress
        for change in request.changes:
            if change.action is Action.REMOVE and change.node_id in self._active:
                one = progress.get(change.node_id)
                if one is not None and one.state is ProgressState.PROBE:
                    return change.node_id
        return None

    @property
    def _is_new_leader(self) -> bool:
        return self._leads_since is None or self._clock.now() - self._leads_since <= self._election_timeout_s

    # ------------------------------------------------------------ of its own accord; once a tick

    def tick(self) -> None:
        """Promote who has caught up, leave a joint configuration, have a snapshot taken for a newcomer."""
        if self._raw.role is not StateRole.LEADER:
            self._rounds.clear()
            self._leads_since = None
            return
        if self._leads_since is None:
            self._leads_since = self._clock.now()
        self._leave_joint()
        configuration = self._membership.conf_state
        if configuration.learners:
            self._watch_learners(configuration)
        known = all_members(self._log.snapshot().conf_state)
        if any(i not in known and i in self._active for i in all_members(configuration)):
            self._serve_newcomers(known)

    def _leave_joint(self) -> None:
        """The core does so as it applies; but a transfer of leadership may have held that up."""
        if self._raw.may_leave_joint:
            try:
                self._raw.propose_conf_change(ConfChangeV2())
            except ProposalDropped as error:
                logger.debug("the joint configuration is not left yet: %s", error)

    def _watch_learners(self, configuration: ConfState) -> None:
        progress = self._raw.status().progress
        now, last_index = self._clock.now(), self._raw.last_index
        for node_id in configuration.learners:
            if node_id not in progress:
                continue
            catch_up = self._rounds.get(node_id) or CatchUpRound(now, last_index, False)
            if progress[node_id].match >= catch_up.target:
                catch_up = CatchUpRound(now, last_index, now - catch_up.begun_at < self._election_timeout_s)
            self._rounds[node_id] = catch_up
            if self._has_caught_up(node_id) and not self._waits_for_operator(node_id):
                self._promote(node_id)

    def _has_caught_up(self, node_id: int) -> bool:
        catch_up = self._rounds.get(node_id)
        return (
            catch_up is not None
            and catch_up.was_short
            and self._clock.now() - catch_up.begun_at < self._election_timeout_s
            and node_id in self._active
        )

    def _waits_for_operator(self, node_id: int) -> bool:
        member = self._membership.envelope.members.get(node_id)
        return member is None or member.is_promoted_by_hand

    def _promote(self, node_id: int) -> None:
        request = ChangeRequest((MemberChange(Action.PROMOTE, node_id),))
        outcome = self.append(_LEADER_ITSELF, request.encode())
        if outcome is None:
            logger.info("node %d has caught up, and is to vote", node_id)
        elif isinstance(outcome, ChangeRefused):
            logger.debug("node %d has caught up, but: %s", node_id, outcome)

    def _serve_newcomers(self, known: tuple[int, ...]) -> None:
        """The log begins behind a snapshot in which they are no members, and which they would refuse."""
        first_index = self._log.first_index()
        for node_id, progress in self._raw.status().progress.items():
            if node_id not in known and node_id in self._active and progress.match + 1 < first_index:
                self._want_snapshot()
                return


def _names(ids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, ids))
