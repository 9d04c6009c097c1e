"""Paper, section 5.2: leader election; pre-vote and check-quorum (dissertation, section 9.6)."""

import random

import pytest

from raftkv_trio.raft.types import Message, MessageType, StateRole
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap, of_kind, three


def test_a_node_starts_as_a_follower_of_nobody() -> None:
    """At start every node is a follower and knows no leader."""
    assert {(c.raw.role, c.raw.leader_id) for c in three().cores.values()} == {(StateRole.FOLLOWER, None)}


def test_election_timeouts_are_spread_over_one_to_two_timeouts() -> None:
    """Each election timeout from T to 2T-1 ticks occurs, and no other."""
    waited = set()
    for seed in range(300):
        net = Network(snapshot=bootstrap((1, 2, 3)), members=[1], random=random.Random(seed))
        ticks = 0
        while net[1].raw.role is StateRole.FOLLOWER:
            net[1].raw.tick()
            ticks += 1
        waited.add(ticks)
    assert waited == set(range(ELECTION_TICKS, 2 * ELECTION_TICKS))


def test_heartbeats_hold_off_elections() -> None:
    """While followers hear from a leader, no node campaigns, however long it takes."""
    net = three()
    net.elect(2)
    net.tick(10 * ELECTION_TICKS)
    assert net.leader.id == 2
    assert {core.raw.term for core in net.cores.values()} == {2}


def test_a_silent_leader_is_replaced() -> None:
    """When a leader is cut off, the others elect one of themselves, of a later term."""
    net = three()
    net.elect(1)
    net.isolated = {1}
    net.tick(4 * ELECTION_TICKS)
    assert net.leader.id != 1
    assert net.leader.raw.term > 2


def test_a_candidate_votes_for_itself_in_a_new_term_and_asks_everybody() -> None:
    """A campaign without pre-vote raises the term by one, takes the own vote, and asks all other voters."""
    net = three(pre_vote=False)
    net[1].raw.campaign()
    net[1].hand_out()
    requests = of_kind(net[1].write(), MessageType.VOTE)
    assert [(m.to, m.term) for m in requests] == [(2, 2), (3, 2)]
    assert net[1].raw.status().vote == 1


@pytest.mark.parametrize(
    ("size", "granted", "role"),
    [
        (1, 1, StateRole.LEADER),
        (2, 1, StateRole.CANDIDATE),
        (3, 1, StateRole.CANDIDATE),
        (3, 2, StateRole.LEADER),
        (4, 2, StateRole.CANDIDATE),
        (4, 3, StateRole.LEADER),
        (5, 2, StateRole.CANDIDATE),
        (5, 3, StateRole.LEADER),
    ],
)
def test_a_majority_of_votes_wins(size: int, granted: int, role: StateRole) -> None:
    """A candidate leads once a majority, itself included, has voted for it, and not before."""
    net = Network(snapshot=bootstrap(range(1, size + 1)), members=[1], pre_vote=False)
    net[1].raw.campaign()
    net.settle()
    for voter in range(2, granted + 1):
        net[1].raw.step(Message(type=MessageType.VOTE_RESP, to=1, from_=voter, term=2))
    assert net[1].raw.role is role


def test_votes_of_the_same_voter_count_once() -> None:
    """A repeated vote does not help, and a repeated refusal does not harm."""
    net = Network(snapshot=bootstrap(range(1, 6)), members=[1], pre_vote=False)
    net[1].raw.campaign()
    net.settle()
    for reject in (False, False, True):
        net[1].raw.step(Message(type=MessageType.VOTE_RESP, to=1, from_=2, term=2, reject=reject))
        net[1].raw.step(Message(type=MessageType.VOTE_RESP, to=1, from_=3, term=2, reject=True))
    assert net[1].raw.role is StateRole.CANDIDATE


def test_one_vote_a_term_first_come_first_served() -> None:
    """The first candidate of a term gets the vote, again if it asks again; the second one does not."""
    net = three(pre_vote=False)
    answers = []
    for candidate in (1, 3, 1):
        net[2].raw.step(Message(type=MessageType.VOTE, to=2, from_=candidate, term=2, log_term=1, index=1))
        net[2].hand_out()
        answers += [(answer.to, answer.reject) for answer in net[2].write()]
    assert answers == [(1, False), (3, True), (1, False)]


@pytest.mark.parametrize(("term", "role"), [(1, StateRole.CANDIDATE), (2, StateRole.FOLLOWER)])
def test_a_candidate_yields_to_a_leader_of_its_term(term: int, role: StateRole) -> None:
    """A candidate that hears a leader of its own term follows it; of an earlier term, it goes on."""
    net = three(pre_vote=False)
    net[1].raw.campaign()
    net[1].raw.step(Message(type=MessageType.HEARTBEAT, to=1, from_=3, term=term))
    assert net[1].raw.role is role


def test_a_split_vote_ends() -> None:
    """If all campaign at once and none wins, a leader is elected by time alone."""
    net = Network(snapshot=bootstrap(range(1, 5)), pre_vote=False)
    for core in net.cores.values():
        core.raw.campaign()
    net.settle()
    assert not any(core.leads for core in net.cores.values())
    net.tick(20 * ELECTION_TICKS)
    assert net.leader.raw.term > 2


def test_a_leader_speaks_every_heartbeat_interval() -> None:
    """A leader sends a heartbeat to every member each `heartbeat_ticks`."""
    net = three(heartbeat_ticks=3)
    leader = net.elect(1)
    sent = []
    for _ in range(6):
        leader.raw.tick()
        sent.append([m.to for m in of_kind(leader.hand_out(), MessageType.HEARTBEAT)])
    assert sent == [[], [], [2, 3], [], [], [2, 3]]


# ---------------------------------------------------------------- pre-vote and check-quorum


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:
    """A node cut off for long campaigns in vain and comes back without a later term."""
    net = three()
    net.elect(1)
    net.isolated = {3}
    net.tick(20 * ELECTION_TICKS)
    assert net[3].raw.term == 2
    net.isolated = set()
    net.tick(2)
    assert (net.leader.id, net[1].raw.term, net[3].raw.leader_id) == (1, 2, 1)


def test_nobody_votes_while_a_leader_is_heard() -> None:
    """With check-quorum a request for votes within an election timeout of a heartbeat is ignored."""
    net = three(pre_vote=False)
    net.elect(1)
    net[3].raw.campaign()
    net.settle()
    assert (net.leader.id, net[2].raw.term) == (1, 2)


def test_a_leader_that_hears_no_quorum_steps_down() -> None:
    """A leader cut off from the majority steps down within two election timeouts."""
    net = three()
    net.elect(1)
    net.isolated = {1}
    net.tick(2 * ELECTION_TICKS, nodes=[1])
    assert net[1].raw.role is not StateRole.LEADER


def test_a_refused_pre_vote_of_a_node_without_a_term_counts() -> None:
    """A node in term 0 has no term to refuse in; its refusal counts all the same."""
    net = three()
    net[1].raw.campaign()
    for voter in (2, 3):
        refusal = Message(type=MessageType.PRE_VOTE_RESP, to=1, from_=voter, reject=True)
        net[1].raw.step(refusal)
    assert net[1].raw.role is StateRole.FOLLOWER


def test_a_short_first_election_timeout_is_possible() -> None:
    """`initial_election_ticks_left` shortens the first election timeout and no other."""
    net = three(initial_election_ticks_left=1)
    net[1].raw.tick()
    assert net[1].raw.role is StateRole.PRE_CANDIDATE
    net.tick(1, nodes=[1])
    assert net[1].leads
    net.isolated = {1}
    net.tick(ELECTION_TICKS - 1, nodes=[2, 3])
    assert {net[2].raw.term, net[3].raw.term} == {2}


# ---------------------------------------------------------------- transfer and forget-leader


def test_leadership_is_handed_over_after_catching_up() -> None:
    """A transfer first brings its target up to date, and then lets it campaign past every lease."""
    net = three()
    leader = net.elect(1)
    net.isolated = {2}
    net.propose(1, b"x")
    net.isolated = set()
    leader.raw.transfer_leader(2)
    net.tick(2, nodes=[1])
    assert (net.leader.id, net.leader.raw.term) == (2, 3)
    assert net[2].data == [b"x"]


def test_a_follower_passes_a_transfer_on() -> None:
    """A follower forwards the request for a leadership transfer to the leader."""
    net = three()
    net.elect(1)
    net[3].raw.transfer_leader(2)
    net.settle()
    assert net.leader.id == 2


def test_a_transfer_that_takes_too_long_is_given_up() -> None:
    """After an election timeout the leader takes proposals again."""
    net = three()
    leader = net.elect(1)
    net.isolated = {2}
    leader.raw.transfer_leader(2)
    assert leader.raw.status().transferee == 2
    net.tick(ELECTION_TICKS)
    assert leader.raw.status().transferee is None
    net.propose(1, b"x")
    assert leader.data == [b"x"]


def test_a_request_comes_back_to_its_sender_that_leads_by_now() -> None:
    """A proposal that travels by way of a deposed leader may arrive where it began."""
    net = three()
    net.elect(1)
    net[2].raw.propose(b"x")
    (forwarded,) = net[2].hand_out()
    net.elect(2)
    net[1].raw.step(forwarded)
    net.settle()
    assert net[2].data == [b"x"]


def test_who_forgets_the_leader_may_vote_at_once() -> None:
    """After `forget_leader` on a majority an election needs no timeout; the term stays until then."""
    net = three()
    net.elect(1)
    for core in (net[2], net[3]):
        core.raw.forget_leader()
    assert (net[2].raw.leader_id, net[2].raw.term) == (None, 2)
    net[2].raw.campaign()
    net.settle()
    assert net.leader.id == 2
