"""Quorum arithmetic, plain and joint, against definitions that try everything; what configurations keep."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.raft.confchange import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Transition,
    apply_change,
    conf_change_entry,
    decode_conf_change,
    is_joint,
    normalized,
)
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.quorum import INFINITE_INDEX, VoteResult, joint_committed, joint_vote
from raftkv_trio.raft.types import ConfState

ids = st.integers(1, 7)
halves = st.frozensets(ids, max_size=5)


def majorities(voters: frozenset[int]) -> list[set[int]]:
    """Every set of more than half of the voters; without voters, the empty set."""
    sizes = range(len(voters) // 2 + 1, len(voters) + 1) if voters else [0]
    return [set(some) for size in sizes for some in combinations(sorted(voters), size)]


def quorums(incoming: frozenset[int], outgoing: frozenset[int]) -> list[set[int]]:
    return [one | other for one in majorities(incoming) for other in majorities(outgoing)]


@given(halves, halves, st.dictionaries(ids, st.integers(0, 9)))
@settings(deadline=None)
def test_committed_is_what_some_quorum_has(
    incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]
) -> None:
    """An index is committed if all of one quorum have acknowledged it, and no higher one is."""
    naive = max(
        min((acked.get(i, 0) for i in quorum), default=INFINITE_INDEX)
        for quorum in quorums(incoming, outgoing)
    )
    assert joint_committed(incoming, outgoing, acked) == naive


@given(halves, halves, st.dictionaries(ids, st.booleans()))
@settings(deadline=None)
def test_a_vote_is_won_by_some_quorum_or_lost_to_all(
    incoming: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]
) -> None:
    """Won if one quorum has granted, lost if each one has a refusal in it, else pending."""
    all_quorums = quorums(incoming, outgoing)
    won = any(all(votes.get(i) is True for i in quorum) for quorum in all_quorums)
    lost = all(any(votes.get(i) is False for i in quorum) for quorum in all_quorums)
    expected = VoteResult.WON if won else VoteResult.LOST if lost else VoteResult.PENDING
    assert joint_vote(incoming, outgoing, votes) is expected


# ---------------------------------------------------------------- configurations

few = st.integers(1, 4)  # all quorums of two configurations are compared
singles = st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), few)
changes = st.builds(
    ConfChangeV2, st.lists(singles, max_size=4).map(tuple), st.sampled_from(Transition), st.binary(max_size=4)
)


def check(conf: ConfState) -> None:
    """The invariants of `confchange.py`, said once more, from the paper and its naive sense."""
    voters, learners, outgoing, learners_next = map(set, conf[:4])
    assert voters
    assert not learners & (voters | outgoing)
    assert learners_next <= outgoing - voters
    assert bool(outgoing) or not (learners_next or conf.auto_leave)
    assert all(list(part) == sorted(set(part)) for part in conf[:4])
    assert normalized(conf) == conf


@given(st.frozensets(few, min_size=1), st.lists(changes, max_size=12))
@settings(max_examples=300, deadline=None)
def test_every_change_keeps_the_invariants_and_quorums_overlap(
    voters: frozenset[int], some: list[ConfChangeV2]
) -> None:
    """Each change is refused, or leads to a configuration whose quorums all overlap with those before it."""
    conf = ConfState(tuple(sorted(voters)))
    for change in some:
        try:
            changed = apply_change(conf, change)
        except InvalidConfiguration:
            continue
        after = changed.conf_state
        check(after)
        for one in quorums(frozenset(conf.voters), frozenset(conf.voters_outgoing)):
            for other in quorums(frozenset(after.voters), frozenset(after.voters_outgoing)):
                assert one & other, f"{conf} and {after} can decide apart"
        conf = after


@given(st.frozensets(few, min_size=1), changes)
def test_a_joint_configuration_is_left_for_its_incoming_half(
    voters: frozenset[int], change: ConfChangeV2
) -> None:
    """Leaving keeps the incoming voters, and makes learners of those that were to become them."""
    try:
        joint = apply_change(ConfState(tuple(sorted(voters))), change).conf_state
    except InvalidConfiguration:
        return
    if is_joint(joint):
        left = apply_change(joint, ConfChangeV2()).conf_state
        assert left.voters == joint.voters
        assert set(left.learners) == {*joint.learners, *joint.learners_next}
        assert not is_joint(left)


@given(changes)
def test_a_change_comes_back_from_its_bytes(change: ConfChangeV2) -> None:
    """An entry of a change says exactly that change."""
    assert decode_conf_change(conf_change_entry(change)) == change
