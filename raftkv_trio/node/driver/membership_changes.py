"""What the leader does about its members: which changes it appends, promotions, snapshots for new members.

One change at a time: the next one waits until the last one is applied here and no configuration is joint. So
the configuration that a change meets when it is applied is the one that it was checked against, and applying
it never fails.

Only the leader decides, because only the leader hears from all members. If it is wrong about them, that is
never unsafe: the core keeps the rules of section 6. The checks here keep the cluster available: they refuse
what would leave it without a quorum or a leader.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from raftkv_trio.config import MAX_CHANGE_BYTES
from raftkv_trio.errors import ChangeRefused, DecodeError
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange, Membership
from raftkv_trio.payload.proposal import LEADER_ITSELF, ProposalId
from raftkv_trio.raft.confchange import ConfChangeV2, all_members, apply_change
from raftkv_trio.raft.errors import InvalidConfiguration, ProposalDropped
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import ConfState, StateRole
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)


class Deferred(NamedTuple):
    """A change that cannot be appended yet.

    Attributes:
        reason: in words, for the client that waits.
        successor_ids: if the leader has to transfer leadership first, to one of these members.
    """

    reason: str
    successor_ids: tuple[int, ...] = ()


class CatchUpRound(NamedTuple):
    """One round of a learner that catches up (dissertation, section 4.2.1).

    Attributes:
        begun_at: by the node's clock.
        target: the leader's last index at that time; the round ends when the learner has it.
        follows_short_round: whether the round before took less than an election timeout.
    """

    begun_at: float
    target: int
    follows_short_round: bool


class MembershipChanges:
    """Decides about changes of the members; only a leader's driver asks it.

    Args:
        request_snapshot: has a snapshot taken of everything that is applied now.
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
        request_snapshot: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._raw = raw
        self._log = log
        self._membership = membership
        self._clock = clock
        self._active = active
        self._leadership_transfer = leadership_transfer
        self._election_timeout_s = election_timeout_s
        self._request_snapshot = request_snapshot
        self._rounds: dict[int, CatchUpRound] = {}
        self._leads_since: float | None = None

    # ------------------------------------------------------------ requests

    def append(self, proposal_id: ProposalId, data: bytes) -> ChangeRefused | Deferred | None:
        """Append a change to the log; if that must not happen, or not yet, return why."""
        if len(data) > MAX_CHANGE_BYTES:
            return ChangeRefused(
                f"a change of {len(data)} bytes is over the limit of {MAX_CHANGE_BYTES}; change fewer members"
                " at once"
            )
        try:
            request = ChangeRequest.decode(data)
        # The bytes may come from a follower. In the log they would stop every node that applies them.
        except DecodeError as error:
            return ChangeRefused(str(error))
        if (objection := self.check(request)) is not None:
            if isinstance(objection, Deferred) and objection.successor_ids:
                self._leadership_transfer.begin(objection.successor_ids)
            return objection
        try:
            self._raw.propose_conf_change(request.conf_change(proposal_id))
        # A transfer is under way, or too much is uncommitted. Both pass.
        except ProposalDropped as error:
            return Deferred(str(error))
        return None

    def check(self, request: ChangeRequest) -> ChangeRefused | Deferred | None:
        """Why a change must not be appended, or not yet; None if it may be appended now. Appends nothing."""
        # First, because the configuration that the other checks need is not known before that.
        if self._raw.is_changing:
            return Deferred("an earlier change is not complete yet")
        # What the request says about the members is wrong. Force does not help here: it is for members that
        # do not answer, never for a change that cannot be applied.
        if (refused := self._membership.objection(request)) is not None:
            return refused
        change = request.conf_change(LEADER_ITSELF)  # any proposer: the result is dropped
        try:
            configuration = apply_change(self._membership.conf_state, change).conf_state
        except InvalidConfiguration as error:
            return ChangeRefused(str(error))
        if not request.is_forced:
            objection = self._check_promotions(request) or self._check_quorum(configuration)
            if objection is not None:
                return objection
        return self._check_own_removal(configuration) or self._check_removed_hear_of_it(request)

    def _check_promotions(self, request: ChangeRequest) -> ChangeRefused | None:
        # A voter with an old log adds to the quorum's size, but for a long time nothing to a quorum: until it
        # has caught up, no entry can count on it (dissertation, section 4.2.1).
        for change in request.changes:
            if change.action is Action.PROMOTE and not self._has_caught_up(change.node_id):
                return ChangeRefused(self._not_caught_up(change.node_id))
        return None

    def _not_caught_up(self, node_id: int) -> str:
        why = "" if node_id in self._active else ": it does not acknowledge new entries; see that it runs"
        # The leader promotes only those that were added so.
        instead = "" if self._waits_for_operator(node_id) else ", or leave its promotion to the leader"
        return f"node {node_id} has not caught up yet{why}; retry later{instead}"

    def _check_quorum(self, configuration: ConfState) -> ChangeRefused | Deferred | None:
        # In a joint configuration each half needs a quorum of its own, even to leave the joint configuration.
        for voters in (configuration.voters, configuration.voters_outgoing):
            active = [i for i in voters if i in self._active]
            if len(active) <= len(voters) // 2 and voters:
                # A new leader has not had the time to hear from all. Members that are up must not make a
                # request fail that another leader would have accepted a moment ago.
                if self._is_new_leader:
                    return Deferred("the leader is new and has not heard from all members yet")
                return ChangeRefused(
                    f"of the voters {_names(voters)} only {_names(active) or 'none'} would acknowledge new"
                    " entries, which is no quorum; see that the others are up and have room on their disks,"
                    " or force the change (--force, ?force=true)"
                )
        return None

    def _check_own_removal(self, configuration: ConfState) -> ChangeRefused | Deferred | None:
        """A leader may not append a change that ends its own vote: another voter must lead first.

        Raft allows it (section 6 of the paper): until the change is committed, the leader manages a cluster
        that it is no part of. But then the cluster has no leader until an election timeout has passed.
        """
        if self._node_id in configuration.voters:
            return None
        # A voter that the same change adds is no help: it cannot be elected before the change.
        if not {*configuration.voters} & {*self._membership.conf_state.voters}:
            return ChangeRefused(
                "cannot remove the leader: no remaining member is a voter yet; promote one first"
            )
        # The successor must stay a voter, or it would only have to transfer leadership again.
        return Deferred("leadership is transferred before the leader is removed", configuration.voters)

    def _check_removed_hear_of_it(self, request: ChangeRequest) -> Deferred | None:
        """A removed node should hear that its removal is committed, or it waits for a leader for ever.

        The leader tells the commit index with its last append before it drops the node. To a node in PROBE it
        sends one append at a time, so that this last one may not leave. A new leader probes all members
        first. It does not wait for a member that does not answer, nor for any member beyond an election
        timeout.
        """
        if not self._is_new_leader:
            return None
        progress = self._raw.status().progress
        for change in request.changes:
            if change.action is Action.REMOVE and self._active.responds(change.node_id):
                member = progress.get(change.node_id)
                if member is not None and member.state is ProgressState.PROBE:
                    return Deferred(
                        f"node {change.node_id} must hear of its removal, and has not answered the new leader"
                        " yet"
                    )
        return None

    @property
    def _is_new_leader(self) -> bool:
        return self._leads_since is None or self._clock.now() - self._leads_since <= self._election_timeout_s

    # ------------------------------------------------------------ by itself, once a tick

    def tick(self) -> None:
        """Leave a joint configuration, promote learners that have caught up, and help new members start."""
        # What this node has measured as a leader says nothing after another leader: rounds begin again.
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
        known = all_members(self._log.newest_snapshot.conf_state)
        if any(i not in known and self._active.responds(i) for i in all_members(configuration)):
            self._request_snapshot_for_new_members(known)

    def _leave_joint(self) -> None:
        # The core proposes that itself when it applies the joint configuration. But it accepts no proposal
        # during a leadership transfer; without this, a transfer that failed would leave the cluster joint.
        if self._raw.may_leave_joint:
            try:
                self._raw.propose_conf_change(ConfChangeV2())
            except ProposalDropped as error:
                logger.debug("the joint configuration is not left yet: %s", error)

    def _watch_learners(self, configuration: ConfState) -> None:
        progress = self._raw.status().progress
        now, last_index = self._clock.now(), self._raw.last_index
        for node_id in configuration.learners:
            # The applier has applied a change that the core takes over in the driver's next turn.
            if node_id not in progress:
                continue
            # Each round is what was written during the round before. One that is shorter than an election
            # timeout shows that the learner is faster than the writers, and that as a voter it would hold up
            # commits for less time than an election does.
            catch_up = self._rounds.get(node_id) or CatchUpRound(now, last_index, False)
            if progress[node_id].match >= catch_up.target:
                catch_up = CatchUpRound(now, last_index, now - catch_up.begun_at < self._election_timeout_s)
            self._rounds[node_id] = catch_up
            if self._has_caught_up(node_id) and not self._waits_for_operator(node_id):
                self._promote(node_id)

    def _has_caught_up(self, node_id: int) -> bool:
        """Whether the last whole round was short, and the one since then is not long already."""
        catch_up = self._rounds.get(node_id)
        return (
            catch_up is not None
            and catch_up.follows_short_round
            and self._clock.now() - catch_up.begun_at < self._election_timeout_s
            and node_id in self._active
        )

    def _waits_for_operator(self, node_id: int) -> bool:
        member = self._membership.envelope.members.get(node_id)
        return member is None or member.is_promoted_by_hand

    def _promote(self, node_id: int) -> None:
        # The checks are those of a request of an operator: a promotion must not cost the quorum either.
        request = ChangeRequest((MemberChange(Action.PROMOTE, node_id),))
        outcome = self.append(LEADER_ITSELF, request.encode())
        if outcome is None:
            logger.info("node %d has caught up and becomes a voter", node_id)
        elif isinstance(outcome, ChangeRefused):
            logger.debug("node %d has caught up, but is not promoted: %s", node_id, outcome)

    def _request_snapshot_for_new_members(self, known: tuple[int, ...]) -> None:
        """Request a snapshot if a new member needs one; `known` are the members in the newest snapshot.

        A node that gets a snapshot in which it is no member cannot tell whether it was removed, and refuses
        it. So the core does not send such a snapshot, and would wait for a newer one for ever.
        """
        first_index = self._log.first_index()
        for node_id, progress in self._raw.status().progress.items():
            is_waiting = self._active.responds(node_id) and progress.match + 1 < first_index
            if node_id not in known and is_waiting:
                self._request_snapshot()
                return


def _names(ids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, ids))
