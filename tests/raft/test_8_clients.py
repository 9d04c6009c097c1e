"""Paper, section 8: what a leader owes clients; ReadIndex and lease reads (dissertation, section 6.4)."""

import pytest

from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.errors import (
    ForwardingDisabled,
    LeaderUnknown,
    ProposalDropped,
    TransferInProgress,
    UncommittedLimit,
)
from raftkv_trio.raft.types import EntryType, MessageType, ReadState
from tests.raft.cores import ELECTION_TICKS, Network, bootstrap, three


def test_a_leader_begins_its_term_with_an_empty_entry() -> None:
    """A new leader commits an empty entry, and with it all that earlier terms left uncommitted."""
    net = three()
    leader = net.elect(1)
    assert [(e.term, e.type, e.data) for e in leader.applied] == [(2, EntryType.NORMAL, b"")]


def test_a_follower_forwards_to_the_leader() -> None:
    """A proposal made at a follower is applied everywhere, through the leader."""
    net = three()
    net.elect(1)
    net.propose(3, b"x")
    assert [core.data for core in net.cores.values()] == [[b"x"]] * 3


def test_what_is_dropped_says_why() -> None:
    """Without a leader, with forwarding off, or during a transfer, a proposal is refused and not appended."""
    net = three(disable_proposal_forwarding=True)
    with pytest.raises(LeaderUnknown):
        net[1].raw.propose(b"x")
    leader = net.elect(1)
    with pytest.raises(ForwardingDisabled):
        net[2].raw.propose(b"x")
    net.isolated = {2}
    leader.raw.transfer_leader(2)
    last = leader.raw.last_index
    with pytest.raises(TransferInProgress):
        leader.raw.propose(b"x")
    assert leader.raw.last_index == last


def test_proposals_are_limited_until_they_are_applied() -> None:
    """Beyond `max_uncommitted_bytes` the leader refuses; a first one of any size is taken."""
    net = three(max_uncommitted_bytes=100)
    leader = net.elect(1)
    leader.raw.propose(bytes(500))
    with pytest.raises(UncommittedLimit):
        leader.raw.propose(b"x")
    net.settle()
    leader.raw.propose(bytes(60), bytes(40))
    with pytest.raises(ProposalDropped):
        leader.raw.propose(b"x")


# ---------------------------------------------------------------- ReadIndex


@pytest.mark.parametrize("reader", [1, 2])
def test_a_read_is_answered_with_the_commit_index_of_its_arrival(reader: int) -> None:
    """Leader or follower: the answer is the leader's commit index when the read came."""
    net = three()
    net.elect(1)
    net.propose(1, b"x")
    net[reader].raw.read_index(b"read")
    net.settle()
    assert net[reader].reads == [ReadState(net[1].raw.commit, b"read")]


def test_a_read_needs_a_round_of_heartbeats() -> None:
    """A leader that a quorum does not answer may be deposed, and answers no read."""
    net = three()
    leader = net.elect(1)
    net.isolated = {1}
    net.elect(2)
    net.propose(2, b"newer")
    leader.raw.read_index(b"read")
    net.tick(ELECTION_TICKS // 2, nodes=[1])
    assert leader.leads
    assert leader.reads == []
    net.isolated = set()
    net.tick(2)
    assert leader.reads == []


def test_heartbeats_sent_before_a_read_do_not_confirm_it() -> None:
    """The answer to a heartbeat that left before the read arrived says nothing about now."""
    net = three()
    leader = net.elect(1)
    leader.raw.tick()
    net.hand_out(1)
    leader.raw.read_index(b"read")
    before = [message for message in net.wire if not message.context]
    net.hand_out(1)
    net.lost = lambda message: message.type is MessageType.HEARTBEAT and message not in before
    net.settle()
    assert leader.reads == []


def test_a_later_read_does_not_push_an_earlier_one_out() -> None:
    """A late answer to an earlier round confirms that round: the reads before it are answered, each once.

    On a slow link each answer arrives when the next round is out already.
    """
    net = three()
    leader = net.elect(1)
    net.isolated = {3}
    answers = []
    for number in range(3):
        leader.raw.read_index(b"%d" % number)
        net.hand_out(1)
        (beat,) = [m for m in net.wire if m.type is MessageType.HEARTBEAT and m.to == 2]
        net.wire.clear()
        net[2].raw.step(beat)
        answers += net[2].hand_out()
    for number, answer in enumerate(answers):
        leader.raw.step(answer)
        leader.hand_out()
        assert leader.reads == [ReadState(leader.raw.commit, b"%d" % n) for n in range(number + 1)]


def test_a_single_voter_reads_alone() -> None:
    """A single voter needs no confirmation by others."""
    net = Network(snapshot=bootstrap((1,)))
    leader = net.elect(1)
    leader.raw.read_index(b"read")
    leader.hand_out()
    assert leader.reads == [ReadState(leader.raw.commit, b"read")]


def test_reads_are_confirmed_by_both_halves_of_a_joint_configuration() -> None:
    """In a joint configuration a read needs a majority of each half."""
    net = Network(snapshot=bootstrap((1, 4, 5), outgoing=(1, 2, 3)), members=range(1, 6))
    leader = net.elect(1)
    net.isolated = {4, 5}
    leader.raw.read_index(b"read")
    net.settle()
    assert leader.reads == []
    net.isolated = {2, 4}
    net.tick(1, nodes=[1])
    assert leader.reads == [ReadState(leader.raw.commit, b"read")]


def test_learners_confirm_no_read() -> None:
    """An answer of a learner does not count."""
    net = Network(snapshot=bootstrap((1, 2), learners=(3,)))
    leader = net.elect(1)
    net.isolated = {2}
    leader.raw.read_index(b"read")
    net.tick(1, nodes=[1])
    assert leader.reads == []


def test_a_read_without_a_leader_is_dropped() -> None:
    """If no leader is known, there is no answer; the caller asks again."""
    net = three()
    net[1].raw.read_index(b"read")
    net.settle()
    assert net[1].reads == []


def test_reads_of_a_lost_term_are_dropped() -> None:
    """Who stops leading answers none of the reads that wait, not even when it leads again."""
    net = three()
    leader = net.elect(1)
    net.lost = lambda message: message.type is MessageType.HEARTBEAT_RESP
    leader.raw.read_index(b"read")
    net.settle()
    net.lost = lambda message: False
    net.elect(2)
    net.elect(1)
    net.tick(2)
    assert leader.reads == []


# ---------------------------------------------------------------- lease


def _lease(**settings: object) -> Network:
    return three(read_only=ReadOnlyOption.LEASE_BASED, **settings)


def test_a_lease_answers_at_once() -> None:
    """With reads by lease a leader answers without a round."""
    net = _lease()
    leader = net.elect(1)
    leader.raw.read_index(b"read")
    assert not [m for m in leader.hand_out() if m.type is MessageType.HEARTBEAT]
    assert leader.reads == [ReadState(leader.raw.commit, b"read")]


def test_a_lease_is_not_given_away_by_forgetting_the_leader() -> None:
    """With reads by lease no follower forgets the leader, which relies on the lease."""
    net = _lease()
    net.elect(1)
    net[2].raw.forget_leader()
    assert net[2].raw.leader_id == 1
