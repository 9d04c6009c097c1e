"""Known traps for implementations of Raft: elections, votes and reads.

A section each, a test for each guard, which was seen to fail with the guard taken out. Those of the log
are in `test_traps_of_the_log.py`.
"""

from dataclasses import replace

import pytest

from raftkv_trio.raft.confchange import ConfChangeV2, Transition, conf_change_entry
from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.types import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    ReadState,
    StateRole,
)
from tests.raft.cores import ELECTION_TICKS, Network, adding, bootstrap, log_of, removing, three

# ---------------------------------------------------------------- campaign with an unapplied conf change


def test_nobody_campaigns_with_an_unapplied_conf_change() -> None:
    """While a committed change is not applied, a node does not campaign: it may not know who votes."""
    net = three()
    net.elect(1)
    net[1].raw.propose_conf_change(removing(3))
    while net[2].raw.commit < net[1].raw.last_index:
        net.hand_out()
        net.write()
        while net.wire:
            net.deliver(net.wire.popleft())
    follower = net[2].raw
    follower.campaign()
    roles = [follower.role]
    follower.step(Message(type=MessageType.TIMEOUT_NOW, to=2, from_=1, term=2))
    roles.append(follower.role)
    for _ in range(2 * ELECTION_TICKS):
        follower.tick()
    roles.append(follower.role)
    assert roles == [StateRole.FOLLOWER] * 3
    net.settle()
    follower.campaign()
    assert follower.role is StateRole.PRE_CANDIDATE


# ---------------------------------------------------------------- a joint configuration never left


def test_a_joint_configuration_is_left_by_the_next_leader() -> None:
    """If the leader is lost in a joint configuration, the next leader leaves the configuration."""
    net = Network(snapshot=bootstrap((1, 2, 3)), members=range(1, 5))
    leader = net.elect(1)
    leader.raw.propose_conf_change(adding(4, transition=Transition.IMPLICIT))
    # all learn that the change is committed; the end of the joint configuration reaches no other node
    net.lost = lambda message: any(entry.index > 3 for entry in message.entries)
    net.settle()
    net.isolated = {1}
    net.lost = lambda message: False
    assert net[2].configuration == ConfState((1, 2, 3, 4), (), (1, 2, 3), (), True)
    net.elect(2)
    net.tick(2, nodes=[2])
    assert [net[i].configuration for i in (2, 3, 4)] == [ConfState((1, 2, 3, 4))] * 3


def test_a_joint_configuration_is_left_after_a_transfer_that_failed() -> None:
    """The end of a joint configuration, held up by a transfer, is proposed with the next applied entry."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3, transition=Transition.IMPLICIT))
    net.lost = lambda message: message.type is MessageType.TIMEOUT_NOW
    leader.raw.transfer_leader(2)
    net.settle()
    assert leader.configuration.auto_leave
    net.tick(ELECTION_TICKS)
    net.propose(1, b"x")
    assert leader.configuration == ConfState((1, 2))


def test_a_leader_that_is_replaced_leaves_the_joint_configuration_before_it_goes() -> None:
    """A leader outside the incoming half leads on until the end of the joint configuration is applied."""
    net = Network(snapshot=bootstrap((1, 2)), members=range(1, 4))
    net.elect(1)
    net.change(1, ConfChangeV2((*removing(1).changes, *adding(3).changes), Transition.IMPLICIT))
    net.tick(2, nodes=[1])
    assert [net[i].configuration for i in (1, 2)] == [ConfState((2, 3))] * 2
    assert not net[1].leads


# ---------------------------------------------------------------- a learner that must vote


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_learner_votes(pre_vote: bool) -> None:
    """A node votes before it knows that it is a voter, or the two that are left could elect no leader."""
    net = Network(snapshot=bootstrap((1, 2), learners=(3,)), pre_vote=pre_vote)
    leader = net.elect(1)
    leader.raw.propose_conf_change(adding(3))
    # node 3 gets the change, and is not told that it is committed
    net.lost = lambda message: message.to == 3 and message.commit >= leader.raw.last_index
    net.settle()
    assert [net[i].configuration.voters for i in (2, 3)] == [(1, 2, 3), (1, 2)]
    net.isolated = {1}
    net.lost = lambda message: False
    assert net.elect(2).leads


# ---------------------------------------------------------------- votes of members that have ended


def test_a_leader_has_written_down_what_it_tells_of_a_conf_change() -> None:
    """A node that hears of its removal may end: its leader must not need its vote, even after a crash."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3))
    index = leader.raw.last_index
    while net[3].raw.commit < index:
        told = leader.hand_out()
        heard = [m.commit for m in told] + [e.index for m in leader.applies for e in m.entries]
        assert leader.storage.initial_state()[0].commit >= index or max(heard, default=0) < index
        net.wire += told
        net.hand_out(2, 3)
        net.write()
        net.apply()
        while net.wire:
            net.deliver(net.wire.popleft())
    assert leader.configuration == ConfState((1, 2))


def test_votes_tell_what_is_committed() -> None:
    """The only node that can be elected learns from voters that it needs no votes of removed members."""
    net = Network(snapshot=bootstrap((1, 2, 3, 4)), members=(1, 2))
    begin = conf_change_entry(removing(3, 4, transition=Transition.IMPLICIT))
    end = conf_change_entry(ConfChangeV2())
    log = [Entry(2, 2), replace(begin, term=2, index=3), replace(end, term=2, index=4)]
    net.add(1, log, HardState(2, 1, 4))
    net.add(2, [*log, Entry(2, 5)], HardState(2, 1, 3))  # the end of the joint configuration, not its commit
    net.tick(4 * ELECTION_TICKS)
    assert (net.leader.id, net[2].configuration) == (2, ConfState((1, 2)))


@pytest.mark.parametrize("tail", [[], [Entry(2, 4)]])
def test_candidates_tell_what_is_committed(tail: list[Entry]) -> None:
    """A learner with the longest log learns from a candidate that it is a voter, and leads.

    The leader, alone, has committed that change, and has lost what it had sent and not written. Of another
    tail, of an earlier term, the learner's last entry says nothing about the candidate's log.
    """
    net = Network(snapshot=bootstrap((1,), learners=(2,)))
    log = [Entry(2, 2), replace(conf_change_entry(adding(2)), term=2, index=3)]
    net.add(1, [*log, *tail], HardState(3, 1, 3))
    net.add(2, [*log, Entry(3, 4), Entry(3, 5)], HardState(3, None, 2))
    net.tick(4 * ELECTION_TICKS)
    assert (net.leader.id, net[1].configuration) == (2, ConfState((1, 2)))


def test_a_candidate_that_learns_of_its_removal_gives_up() -> None:
    """A candidate that learns from the votes that it was removed does not become leader."""
    net = three()
    log = [Entry(2, 2), replace(conf_change_entry(removing(2)), term=2, index=3)]
    for node_id in (1, 3):
        net.add(node_id, log, HardState(2, 1, 3))
    net.add(2, [*log, Entry(2, 4)], HardState(2, 1, 2))
    net.settle()
    net[2].raw.campaign()
    net.settle()
    assert (net[2].raw.role, net[2].configuration) == (StateRole.FOLLOWER, ConfState((1, 3)))
    net.tick(4 * ELECTION_TICKS)
    assert net.leader.id in (1, 3)


# ---------------------------------------------------------------- reads before the term's first commit


@pytest.mark.parametrize("option", ReadOnlyOption)
def test_a_new_leader_answers_no_read_before_it_has_committed(option: ReadOnlyOption) -> None:
    """What an earlier leader acknowledged is seen by every read, though the next one did not know of it."""
    net = three(read_only=option, votes_tell_commit=False)
    net.elect(1)
    acknowledged = net[1].raw.last_index + 1
    net.lost = lambda message: message.to == 2 and message.commit >= acknowledged
    net.propose(1, b"x")
    assert net[1].data == [b"x"]
    net.isolated = {1}
    net.lost = lambda message: message.type is MessageType.APP_RESP
    leader = net.elect(2)
    leader.raw.read_index(b"read")
    net.tick(2, nodes=[2])
    assert (leader.raw.commit < acknowledged, leader.reads) == (True, [])
    net.lost = lambda message: False
    net.tick(2, nodes=[2])
    assert [(read.index >= acknowledged, read.context) for read in leader.reads] == [(True, b"read")]


def test_a_single_voter_answers_no_read_before_it_has_committed() -> None:
    """One that decides alone does not know after a restart either how far it had committed."""
    net = Network(snapshot=bootstrap((1,)))
    core = net.add(1, log_of([1, 1, 1]), HardState(1, None, 2))
    core.lead_alone()
    core.raw.read_index(b"read")
    core.hand_out()
    assert core.reads == []
    net.settle()
    assert core.reads == [ReadState(5, b"read")]


# ---------------------------------------------------------------- duplicate read contexts


def test_reads_of_one_context_are_two_reads() -> None:
    """Each gets the commit index of its own arrival, and the first one's round answers the first only."""
    net = three()
    leader = net.elect(1)
    leader.raw.read_index(b"same")
    net.hand_out(1)
    first, net.wire = list(net.wire), type(net.wire)()
    before = leader.raw.commit
    net.propose(1, b"x")
    net.lost = lambda message: message.type is MessageType.HEARTBEAT and message not in first
    leader.raw.read_index(b"same")
    net.wire.extend(first)
    net.settle()
    assert leader.reads == [ReadState(before, b"same")]
    net.lost = lambda message: False
    net.tick(1, nodes=[1])
    assert leader.reads == [ReadState(before, b"same"), ReadState(leader.raw.commit, b"same")]


# ---------------------------------------------------------------- lease reads around a transfer


def test_a_lease_ends_when_somebody_was_asked_to_take_over() -> None:
    """From then on each read needs a round, even after the transfer was given up: the order may be late."""
    net = three(read_only=ReadOnlyOption.LEASE_BASED)
    leader = net.elect(1)
    late: list[Message] = []

    def hold_back(message: Message) -> bool:
        if message.type is MessageType.TIMEOUT_NOW:
            late.append(message)
        return message in late

    net.lost = hold_back
    leader.raw.transfer_leader(2)
    net.tick(ELECTION_TICKS)
    assert leader.raw.status().transferee is None
    net.isolated = {1}
    net[2].raw.step(late[0])
    net.settle()
    net.propose(2, b"newer")
    assert (leader.leads, net[2].data) == (True, [b"newer"])
    leader.raw.read_index(b"read")
    net.settle()
    assert leader.reads == []
