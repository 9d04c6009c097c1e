"""Paper, section 5.1: terms as a logical clock."""

import pytest

from raftkv_trio.raft.types import Entry, Message, MessageType, StateRole
from tests.raft.cores import Core, three


def _in_role(role: StateRole) -> Core:
    """Node 1 of three, in `role`, in term 2."""
    net = three(pre_vote=False)
    if role is StateRole.LEADER:
        return net.elect(1)
    if role is StateRole.FOLLOWER:
        net.elect(2)
        return net[1]
    net[1].raw.campaign()
    return net[1]


_ROLES = [StateRole.FOLLOWER, StateRole.CANDIDATE, StateRole.LEADER]


@pytest.mark.parametrize("role", _ROLES)
@pytest.mark.parametrize("kind", [MessageType.APP, MessageType.HEARTBEAT_RESP, MessageType.APP_RESP])
def test_who_sees_a_later_term_enters_it_as_a_follower(role: StateRole, kind: MessageType) -> None:
    """Whatever its role, a node that receives a later term becomes a follower of that term."""
    core = _in_role(role)
    core.raw.step(Message(type=kind, to=1, from_=3, term=9))
    assert (core.raw.term, core.raw.role) == (9, StateRole.FOLLOWER)


@pytest.mark.parametrize("role", _ROLES)
def test_a_request_of_an_earlier_term_changes_nothing(role: StateRole) -> None:
    """Entries of an earlier term's leader are not taken over, and its sender is not followed."""
    core = _in_role(role)
    log, leader_id = core.log, core.raw.leader_id
    stale = Message(
        type=MessageType.APP, to=1, from_=3, term=1, log_term=1, index=1, entries=(Entry(1, 2),), commit=2
    )
    core.raw.step(stale)
    assert (core.raw.term, core.raw.role, core.raw.leader_id, core.log) == (2, role, leader_id, log)


def test_the_sender_of_an_earlier_term_learns_the_present_one() -> None:
    """A deposed leader's heartbeat is answered with the later term, and it steps down."""
    net = three()
    net.elect(1)
    net.isolated = {1}
    net.elect(2)
    assert net[1].leads
    net.isolated = set()
    net.tick(1, nodes=[1])
    assert (net[1].raw.term, net[1].raw.role) == (3, StateRole.FOLLOWER)


def test_a_term_is_durable_before_anything_is_promised_in_it() -> None:
    """A vote, and the request for it, leave only as responses of the write that holds its term and vote."""
    net = three(pre_vote=False)
    net[1].raw.campaign()
    assert net[1].hand_out() == []
    (request,) = [m for m in net[1].write() if m.to == 2]
    net[2].raw.step(request)
    assert net[2].hand_out() == []
    (write,) = net[2].writes
    assert (write.term, write.vote) == (2, 1)
    assert [response.type for response in write.responses] == [MessageType.VOTE_RESP]


def test_term_and_vote_survive_a_restart() -> None:
    """After a restart a node is in the same term and refuses a second vote in it."""
    net = three(pre_vote=False)
    net[1].raw.campaign()
    net.settle()
    core = net.restart(2)
    assert core.raw.status().vote == 1
    assert core.raw.term == 2
    core.raw.step(Message(type=MessageType.VOTE, to=2, from_=3, term=2, log_term=2, index=9))
    core.hand_out()
    (answer,) = core.write()
    assert answer.reject
