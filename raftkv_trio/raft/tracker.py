"""The configuration in force, and what a leader or candidate knows of its members.

Invariant: `progress` has exactly the members of `conf_state`, in order of their ids, so that every loop over
it is deterministic.
"""

from collections.abc import Collection, Iterator

from raftkv_trio.raft import quorum
from raftkv_trio.raft.confchange import all_members, all_voters, normalized
from raftkv_trio.raft.progress import Inflights, Progress
from raftkv_trio.raft.quorum import VoteResult
from raftkv_trio.raft.types import ConfState


class Tracker:
    """Members' progress and votes."""

    __slots__ = ("_max_inflight_bytes", "_max_inflight_messages", "conf_state", "progress", "votes")

    def __init__(self, max_inflight_messages: int, max_inflight_bytes: int | None) -> None:
        self.conf_state = ConfState()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self._max_inflight_messages = max_inflight_messages
        self._max_inflight_bytes = max_inflight_bytes

    def new_progress(self, *, next_index: int, is_learner: bool, match: int = 0) -> Progress:
        inflights = Inflights(self._max_inflight_messages, self._max_inflight_bytes)
        return Progress(next_index=next_index, inflights=inflights, is_learner=is_learner, match=match)

    def switch(self, conf: ConfState, last_index: int, dropped: Collection[int] = ()) -> None:
        """Make `conf` the configuration; who is new, or `dropped` and back, is probed from `last_index`.

        Raises InvalidConfiguration where `conf` breaks an invariant.
        """
        conf = normalized(conf)
        known = self.progress
        learners = frozenset(conf.learners)
        self.progress = {}
        for member in all_members(conf):
            is_learner = member in learners
            progress = None if member in dropped else known.get(member)
            if progress is None:
                progress = self.new_progress(next_index=max(last_index, 1), is_learner=is_learner)
                # or CheckQuorum could depose us before it had a chance to answer
                progress.recent_active = True
            progress.is_learner = is_learner
            self.progress[member] = progress
        self.conf_state = conf

    def reset(self, self_id: int, last_index: int) -> None:
        """Forget votes and progress, as at the beginning of a term: everybody is probed from `last_index`."""
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
        """Voters of both halves, sorted."""
        return all_voters(self.conf_state)

    def others(self, self_id: int) -> Iterator[tuple[int, Progress]]:
        """Members other than `self_id`, in order of their ids."""
        for member, progress in self.progress.items():
            if member != self_id:
                yield member, progress

    def is_single_voter(self, node_id: int) -> bool:
        """Whether `node_id` decides alone."""
        return self.conf_state.voters == (node_id,) and not self.conf_state.voters_outgoing

    def committed(self) -> int:
        """The highest index that the voters' match indexes commit (paper, section 5.3)."""
        conf = self.conf_state
        matches = {member: progress.match for member, progress in self.progress.items()}
        return quorum.joint_committed(conf.voters, conf.voters_outgoing, matches)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard since the last CheckQuorum."""
        active = {i: p.recent_active for i, p in self.progress.items() if not p.is_learner}
        return self._vote(active) is VoteResult.WON

    def record_vote(self, voter: int, granted: bool) -> None:
        """The first vote of a voter counts."""
        self.votes.setdefault(voter, granted)

    def tally(self) -> tuple[int, int, VoteResult]:
        """Votes granted, votes refused, and what they amount to."""
        votes = [self.votes.get(i) for i, p in self.progress.items() if not p.is_learner]
        return votes.count(True), votes.count(False), self._vote(self.votes)

    def _vote(self, votes: dict[int, bool]) -> VoteResult:
        return quorum.joint_vote(self.conf_state.voters, self.conf_state.voters_outgoing, votes)
