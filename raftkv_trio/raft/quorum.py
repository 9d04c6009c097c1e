"""Majorities, plain and joint (paper, sections 5.3 and 6): pure arithmetic over sets of voter ids.

An empty half decides nothing: it has committed everything and has won every vote. So a joint quorum with one
empty half is a quorum of the other half. `votes` and `acked` may name ids that are not voters; those do not
count.
"""

from collections.abc import Collection, Mapping
from enum import Enum

#: Committed index of an empty set of voters: no index is above it.
INFINITE_INDEX = 2**64 - 1


class VoteResult(Enum):
    """What the votes seen so far amount to."""

    PENDING = "VotePending"
    LOST = "VoteLost"
    WON = "VoteWon"


def quorum_size(voters: Collection[int]) -> int:
    """The smallest majority of a non-empty set of voters."""
    return len(voters) // 2 + 1


def majority_committed(voters: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest index that a majority has acknowledged. A voter that `acked` lacks has acknowledged 0."""
    if not voters:
        return INFINITE_INDEX
    # Sorted in ascending order, the voters from this position on are a smallest majority, and all of them
    # have acknowledged at least this much.
    return sorted([acked.get(voter, 0) for voter in voters])[len(voters) - quorum_size(voters)]


def joint_committed(incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest index that a majority of each half has acknowledged (paper, section 6)."""
    if not outgoing:
        return majority_committed(incoming, acked)
    return min(majority_committed(incoming, acked), majority_committed(outgoing, acked))


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won when a majority has granted, lost when no majority can grant any more, else pending."""
    if not voters:
        return VoteResult.WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = quorum_size(voters)
    if granted >= needed:
        return VoteResult.WON
    if granted + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def joint_vote(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won if both halves are won, lost as soon as either is lost."""
    results = (majority_vote(incoming, votes), majority_vote(outgoing, votes))
    if results[0] is results[1]:
        return results[0]
    return VoteResult.LOST if VoteResult.LOST in results else VoteResult.PENDING
