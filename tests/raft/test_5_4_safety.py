"""Paper, section 5.4: who may lead, and what a leader may commit."""

import pytest

from raftkv_trio.raft.types import HardState, Message, MessageType, StateRole
from tests.raft.cores import Network, bootstrap, log_of, three


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize(
    ("mine", "last", "granted"),
    [
        ([1, 1], (1, 3), True),
        ([1, 1], (1, 4), True),
        ([1, 1], (2, 2), True),
        ([1, 2], (2, 3), True),
        ([1, 1], (1, 2), False),
        ([1, 2], (1, 3), False),
        ([1, 2], (1, 9), False),
    ],
    ids=["same", "longer", "later but shorter", "same end", "shorter", "earlier", "earlier but longer"],
)
def test_a_vote_needs_a_log_at_least_as_good(
    mine: list[int], last: tuple[int, int], granted: bool, pre_vote: bool
) -> None:
    """5.4.1: a candidate whose last entry is of an earlier term, or of the same and lower, is refused."""
    core = three().add(2, log_of(mine), HardState(2, None, 1))
    kind = MessageType.PRE_VOTE if pre_vote else MessageType.VOTE
    term, index = last
    core.raw.step(Message(type=kind, to=2, from_=1, term=3, log_term=term, index=index))
    core.hand_out()
    (answer,) = core.write()
    assert answer.reject is not granted


def test_a_node_without_a_committed_entry_is_not_elected() -> None:
    """5.4.3: of five nodes, one that lacks a committed entry cannot win, however often it tries."""
    net = Network(snapshot=bootstrap(range(1, 6)), pre_vote=False, check_quorum=False)
    net.elect(1)
    net.isolated = {5}
    net.propose(1, b"committed")
    net.isolated = {1}
    for _ in range(5):
        net[5].raw.campaign()
        net.settle()
        assert not net[5].leads
    net.elect(2)
    assert b"committed" in net[2].data


def test_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """5.4.2, figure 8: an earlier term's entry on a majority is not committed by that alone."""
    net = Network(snapshot=bootstrap((1, 2, 3)), pre_vote=False)
    leader = net.add(1, log_of([2]), HardState(3, None, 1))
    net.add(2, log_of([2]), HardState(3, None, 1))
    net.add(3, log_of([]), HardState(3, None, 1))
    net.isolated = {3}
    # the new leader's own entry, index 3 of term 4, reaches no other node
    net.lost = lambda message: any(entry.term == 4 for entry in message.entries)
    leader.raw.campaign()
    net.settle()
    assert leader.leads
    leader.raw.step(Message(type=MessageType.APP_RESP, to=1, from_=2, term=4, index=2))
    net.settle()
    assert leader.raw.commit == 1
    net.lost = lambda message: False
    net.tick(2, nodes=[1])
    assert leader.raw.commit == 3
    assert leader.data == [b"2/2"]


def test_committed_entries_survive_every_change_of_leader() -> None:
    """5.4.3: what one leader committed is in the log of every later one (Leader Completeness)."""
    net = Network(snapshot=bootstrap(range(1, 6)))
    committed: list[bytes] = []
    for round_number in range(10):
        leader = net.elect(1 + round_number % 5)
        net.isolated = {1 + (round_number + 1) % 5, 1 + (round_number + 2) % 5}
        committed.append(b"%d" % round_number)
        net.propose(leader.id, committed[-1])
        net.isolated = set()
        net.tick(3, nodes=[leader.id])
        assert leader.data == committed
    assert all(core.data == committed for core in net.cores.values())


def test_what_is_committed_cannot_be_overwritten() -> None:
    """An append from before the commit index is answered with that index and changes nothing."""
    core = three().add(2, log_of([1, 1, 1]), HardState(1, None, 4))
    core.raw.step(
        Message(
            type=MessageType.APP,
            to=2,
            from_=1,
            term=3,
            log_term=1,
            index=2,
            entries=tuple(log_of([3, 3, 3], 3)),
        )
    )
    core.hand_out()
    (answer,) = [answer for _ in range(len(core.writes)) for answer in core.write()]
    assert (answer.index, answer.reject) == (4, False)
    assert core.log == log_of([1, 1, 1])


def test_timing_does_not_decide_safety() -> None:
    """5.6: with any interleaving of ticks two nodes never lead in one term."""
    net = three(pre_vote=False, check_quorum=False)
    leaders: dict[int, int] = {}
    for step in range(1000):
        net.isolated = {1 + step // 90 % 3}
        net.tick(1, nodes=[1 + step % 3])
        for core in net.cores.values():
            if core.raw.role is StateRole.LEADER:
                assert leaders.setdefault(core.raw.term, core.id) == core.id
    assert len(leaders) > 3
