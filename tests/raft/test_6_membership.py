"""Paper, section 6: changes of the configuration; learners (dissertation, section 4.2.1)."""

import pytest

from raftkv_trio.raft.confchange import ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Transition
from raftkv_trio.raft.errors import InvalidConfiguration, NotAMember
from raftkv_trio.raft.types import ConfState, EntryType, Message, MessageType, StateRole
from tests.raft.cores import ELECTION_TICKS, Core, Network, adding, bootstrap, log_of, removing, three

LEAVE = ConfChangeV2()


def _compact(core: Core, data: bytes) -> None:
    """Let only a snapshot remain of what `core` has applied."""
    core.storage.create_snapshot(core.raw.applied, core.configuration, data)
    core.storage.compact(core.raw.applied)


def _joint(**settings: object) -> Network:
    """Node 1 leads in the joint configuration of voters 1 2 3, outgoing, and 1 4 5."""
    net = Network(snapshot=bootstrap((1, 2, 3)), members=range(1, 6), **settings)
    net.elect(1)
    changes = [*removing(2, 3).changes, *adding(4, 5).changes]
    net.change(1, ConfChangeV2(tuple(changes), Transition.EXPLICIT))
    assert net[1].configuration == ConfState((1, 4, 5), (), (1, 2, 3))
    return net


def test_a_configuration_is_in_force_when_its_entry_is_applied() -> None:
    """A change counts on each node from the moment its entry is applied, not when it is appended."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3))
    net.hand_out(1)
    assert net[1].configuration.voters == (1, 2, 3)
    net.settle()
    assert [net[node_id].configuration.voters for node_id in (1, 2)] == [(1, 2), (1, 2)]


def test_one_change_at_a_time() -> None:
    """While a change is not applied, another one becomes an empty entry."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3))
    index = leader.raw.propose_conf_change(removing(2))
    assert index == leader.raw.last_index
    assert leader.log[-1].type is EntryType.NORMAL
    assert leader.log[-1].data == b""
    net.settle()
    assert net[1].configuration.voters == (1, 2)


def test_a_new_leader_waits_for_the_log_that_it_inherits() -> None:
    """A new leader takes no change before it has applied all it had when it was elected."""
    net = three()
    leader = net.add(1, log_of([1, 1]))
    net.lost = lambda message: message.type is MessageType.APP
    net.elect(1)
    appended = []
    for _ in range(2):
        leader.raw.propose_conf_change(removing(3))
        appended.append(leader.log[-1].type)
        net.lost = lambda message: False
        net.tick(2, nodes=[1])
    assert appended == [EntryType.NORMAL, EntryType.CONF_CHANGE_V2]


def test_no_two_voters_change_at_once_without_a_joint_configuration() -> None:
    """A change of more than one voter goes through a joint configuration."""
    net = three()
    net.elect(1)
    seen = []

    def watch(message: Message) -> bool:
        seen.append(net[1].configuration)
        return False

    net.lost = watch
    net.change(1, removing(2, 3))
    assert ConfState((1,), (), (1, 2, 3), (), True) in seen
    assert net[1].configuration == ConfState((1,))


@pytest.mark.parametrize("silent", [(2, 3), (4, 5)])
def test_in_a_joint_configuration_both_majorities_commit(silent: tuple[int, int]) -> None:
    """Neither the old nor the new majority alone commits anything."""
    net = _joint()
    net.isolated = set(silent)
    net.propose(1, b"x")
    assert net[1].data == []
    net.isolated = {silent[0]}
    net.tick(2, nodes=[1])
    assert net[1].data == [b"x"]


@pytest.mark.parametrize(("silent", "elected"), [((2, 3), False), ((4, 5), False), ((3, 5), True)])
def test_in_a_joint_configuration_both_majorities_elect(silent: tuple[int, int], elected: bool) -> None:
    """A candidate needs a majority of the old and of the new configuration."""
    net = _joint(pre_vote=False, check_quorum=False)
    net.isolated = set(silent)
    net[1].raw.step(Message(type=MessageType.HEARTBEAT_RESP, to=1, from_=2, term=3))
    net[1].raw.campaign()
    net.settle()
    assert net[1].leads is elected


def test_an_explicit_joint_configuration_is_left_on_request() -> None:
    """It stays, refuses other changes, and is left by an empty change."""
    net = _joint()
    net.tick(3 * ELECTION_TICKS)
    net.change(1, adding(2))
    assert net[1].configuration == ConfState((1, 4, 5), (), (1, 2, 3))
    net.change(1, LEAVE)
    assert [net[i].configuration for i in (1, 4, 5)] == [ConfState((1, 4, 5))] * 3


@pytest.mark.parametrize("transition", [Transition.AUTO, Transition.IMPLICIT])
def test_other_joint_configurations_are_left_by_themselves(transition: Transition) -> None:
    """Joint configurations of AUTO, with several changes, and of IMPLICIT are left without a request."""
    net = three()
    net.elect(1)
    net.change(1, removing(2, 3, transition=transition))
    assert net[1].configuration == ConfState((1,))


def test_a_demoted_voter_becomes_a_learner_when_the_joint_configuration_ends() -> None:
    """In the joint configuration it still votes in the old half; afterwards it follows as a learner."""
    net = three()
    net.elect(1)
    demotion = ConfChangeV2((ConfChangeSingle(ConfChangeType.ADD_LEARNER, 3),), Transition.EXPLICIT)
    net.change(1, demotion)
    assert net[1].configuration == ConfState((1, 2), (), (1, 2, 3), (3,))
    net.change(1, LEAVE)
    net.propose(1, b"x")
    assert net[3].configuration == ConfState((1, 2), (3,))
    assert net[3].data == [b"x"]


def test_a_new_node_without_a_log_is_brought_up_by_a_snapshot() -> None:
    """A node that joins empty gets a snapshot in which it is a member, then the log, and then it votes."""
    net = three()
    leader = net.elect(1)
    net.propose(1, b"x")
    _compact(leader, b"before it joined")
    core = net.join(4)
    net.change(1, adding(4))
    net.tick(2, nodes=[1])
    assert core.raw.last_index == 0
    _compact(leader, b"state")
    net.tick(2, nodes=[1])
    assert (core.snapshot.data, net[4].configuration.voters) == (b"state", (1, 2, 3, 4))
    net.isolated = {2}
    net.propose(1, b"y")
    assert core.data == [b"y"]


def test_learners_neither_vote_nor_count_nor_campaign() -> None:
    """A learner gets the log, but no quorum counts it, and it never stands for election."""
    net = Network(snapshot=bootstrap((1, 2), learners=(3,)))
    net.elect(1)
    net.isolated = {2}
    net.propose(1, b"x")
    assert net[1].data == []
    net.isolated = set()
    net.tick(2, nodes=[1])
    assert net[3].data == [b"x"]
    net.isolated = {1, 2}
    net.tick(5 * ELECTION_TICKS, nodes=[3])
    assert net[3].raw.role is StateRole.FOLLOWER


def test_a_leader_that_is_removed_leads_until_that_is_committed_and_then_steps_down() -> None:
    """A leader that is not in the new configuration commits it without counting itself, and follows."""
    net = three()
    net.elect(1)
    net.change(1, removing(1))
    assert net[1].raw.role is StateRole.FOLLOWER
    assert [net[i].configuration.voters for i in (2, 3)] == [(2, 3), (2, 3)]
    net.tick(4 * ELECTION_TICKS, nodes=[2, 3])
    assert net.leader.id in (2, 3)


def test_a_removed_leader_that_stays_takes_no_proposals() -> None:
    """Without step-down on removal it goes on replicating, but refuses proposals."""
    net = three(step_down_on_removal=False)
    net.elect(1)
    net.change(1, removing(1))
    assert net[1].leads
    with pytest.raises(NotAMember):
        net[1].raw.propose(b"x")


def test_a_removed_node_disturbs_nobody() -> None:
    """A node that was removed and does not know it campaigns in vain, and no term rises."""
    net = three()
    net.elect(1)
    net.isolated = {3}
    net.change(1, removing(3))
    net.isolated = set()
    net.tick(10 * ELECTION_TICKS)
    assert (net.leader.id, net[1].raw.term, net[2].raw.term) == (1, 2, 2)


def test_fewer_voters_may_commit_at_once_what_waited() -> None:
    """When the configuration shrinks, what the remaining quorum has already is committed."""
    net = Network(snapshot=bootstrap((1, 2, 3, 4)))
    leader = net.elect(1)
    net.isolated = {4}
    leader.raw.propose_conf_change(removing(4))
    net.hand_out(1)
    net.write(1)
    # the change reaches 2 and 3, the entry behind it 2 only: no majority of four, but one of three
    leader.raw.propose(b"x")
    net.lost = lambda message: message.to == 3 and any(entry.data == b"x" for entry in message.entries)
    net.settle()
    assert leader.data == [b"x"]


def test_a_transfer_to_a_node_that_is_removed_ends() -> None:
    """When the target leaves the configuration, the leader goes on leading and takes proposals."""
    net = three()
    leader = net.elect(1)
    net.isolated = {3}
    leader.raw.propose_conf_change(removing(3))
    leader.raw.transfer_leader(3)
    net.settle()
    net.propose(1, b"x")
    assert leader.data == [b"x"]


def test_a_change_that_could_never_be_applied_is_not_appended() -> None:
    """What no configuration results from becomes an empty entry, so that no node has to refuse it later."""
    net = three()
    leader = net.elect(1)
    for change in (removing(1, 2, 3), ConfChangeV2((), Transition.EXPLICIT)):
        leader.raw.propose_conf_change(change)
        assert leader.log[-1].type is EntryType.NORMAL
        net.settle()
    assert net[1].configuration.voters == (1, 2, 3)


def test_validation_can_be_switched_off() -> None:
    """With it off the leader appends a change that the applied configuration does not allow."""
    net = three(disable_conf_change_validation=True)
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3))
    leader.raw.propose_conf_change(adding(3))
    assert leader.log[-1].type is EntryType.CONF_CHANGE_V2
    net.settle()
    assert net[1].configuration.voters == (1, 2, 3)


def test_a_change_that_does_not_fit_leaves_the_configuration() -> None:
    """Applying an impossible change raises, and nothing changes."""
    net = three()
    with pytest.raises(InvalidConfiguration):
        net[1].raw.apply_conf_change(LEAVE)
    with pytest.raises(InvalidConfiguration):
        net[1].raw.propose_conf_change(ConfChange(ConfChangeType.ADD_VOTER, -1))
    assert net[1].configuration == ConfState((1, 2, 3))
