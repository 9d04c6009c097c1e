"""The configuration in force, and what a leader or candidate knows of its members.

Invariant: `progress` has exactly the members of `conf_state`, in the order of their ids, so that every loop
over it has the same order on every run.
"""

from collections.abc import Collection, Iterator

from raftkv_trio.raft import quorum
from raftkv_trio.raft.confchange import all_members, all_voters, normalized
from raftkv_trio.raft.progress import Inflights, Progress
from raftkv_trio.raft.quorum import VoteResult
from raftkv_trio.raft.types import ConfState


class Tracker:
    """The progress and the votes of all members."""

    __slots__ = ("_max_inflight_bytes", "_max_inflight_messages", "conf_state", "progress", "votes")

    def __init__(self, max_inflight_messages: int, max_inflight_bytes: int | None) -> None:
        self.conf_state = ConfState()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self._max_inflight_messages = max_inflight_messages
        self._max_inflight_bytes = max_inflight_bytes

    def new_progress(self, *, next_index: int, is_learner: bool, match: int = 0) -> Progress:
        """The progress of a member of which nothing more is known, with the limits of this tracker."""
        inflights = Inflights(self._max_inflight_messages, self._max_inflight_bytes)
        return Progress(next_index=next_index, inflights=inflights, is_learner=is_learner, match=match)

    def switch(self, conf: ConfState, last_index: int, dropped: Collection[int] = ()) -> None:
        """Make `conf` the configuration.

        Members that are new, or that were `dropped` and are members again, are probed from `last_index`.
        Raises InvalidConfiguration if `conf` breaks an invariant.
        """
        # First, since it raises: a refused configuration must change nothing.
        conf = normalized(conf)
        known = self.progress
        learners = frozenset(conf.learners)
        self.progress = {}
        for member in all_members(conf):
            is_learner = member in learners
            # What was known of a dropped member is void: under its id a node with an empty log may come back.
            # Entries must not be counted that it does not have.
            progress = None if member in dropped else known.get(member)
            if progress is None:
                # A guess. If the log of the new member is shorter, it refuses once, with a hint.
                progress = self.new_progress(next_index=max(last_index, 1), is_learner=is_learner)
                # Or CheckQuorum could depose this leader before the member had a chance to answer.
                progress.recent_active = True
            # All else that is known stays valid when a learner becomes a voter, or the other way round.
            progress.is_learner = is_learner
            self.progress[member] = progress
        self.conf_state = conf

    def reset(self, self_id: int, last_index: int) -> None:
        """Forget votes and progress, as at the beginning of a term (figure 2)."""
        # A new leader knows nothing of the other logs. It guesses that they are as long as its own, and
        # counts of them only what is acknowledged in this term.
        self.votes = {}
        self.progress = {
            member: self.new_progress(
                next_index=last_index + 1,
                is_learner=progress.is_learner,
                match=last_index if member == self_id else 0,
            )
            for member, progress in self.progress.items()
        }

    def voters(self) -> tuple[int, ...]:
        """Voters, of a joint configuration those of both halves, sorted."""
        return all_voters(self.conf_state)

    def others(self, self_id: int) -> Iterator[tuple[int, Progress]]:
        """All members except `self_id`, in the order of their ids."""
        for member, progress in self.progress.items():
            if member != self_id:
                yield member, progress

    def is_single_voter(self, node_id: int) -> bool:
        """Whether `node_id` is the only voter, so that it decides alone."""
        return self.conf_state.voters == (node_id,) and not self.conf_state.voters_outgoing

    def committed(self) -> int:
        """The highest index that a quorum has acknowledged (paper, section 5.3)."""
        # Learners are in `matches` too, but quorums are counted over the voters of `conf` only.
        conf = self.conf_state
        matches = {member: progress.match for member, progress in self.progress.items()}
        return quorum.joint_committed(conf.voters, conf.voters_outgoing, matches)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard from since the last CheckQuorum."""
        # As a vote: each voter grants by having answered. So it is right for joint configurations as well.
        active = {i: p.recent_active for i, p in self.progress.items() if not p.is_learner}
        return self._vote(active) is VoteResult.WON

    def record_vote(self, voter: int, granted: bool) -> None:
        """Note the answer of a voter; only its first one counts."""
        # The network may repeat a request, and a voter that has refused may grant it then. It is still one
        # voter.
        self.votes.setdefault(voter, granted)

    def tally(self) -> tuple[int, int, VoteResult]:
        """The numbers of votes granted and refused, and what they amount to."""
        votes = [self.votes.get(i) for i, p in self.progress.items() if not p.is_learner]
        return votes.count(True), votes.count(False), self._vote(self.votes)

    def _vote(self, votes: dict[int, bool]) -> VoteResult:
        return quorum.joint_vote(self.conf_state.voters, self.conf_state.voters_outgoing, votes)
