"""The traps that implementations of Raft are known to fall into: a section each, a test for each guard.

Each was seen to fail with its guard taken out.
"""

from collections.abc import Sequence

import pytest

from raftkv_trio.raft.confchange import ConfChangeV2, Transition, conf_change_entry
from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.errors import UncommittedLimit
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.types import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    ReadState,
    Snapshot,
    StateRole,
)
from tests.raft.cores import ELECTION_TICKS, Core, Network, adding, bootstrap, log_of, removing, three


def _configuration(core: Core) -> ConfState:
    return core.raw.status().configuration


def _lead_alone(core: Core) -> None:
    """Elect a single voter; its first entry is not handed out yet."""
    core.raw.campaign()
    while not core.leads:
        core.hand_out()
        core.write()


# ---------------------------------------------------------------- campaign with an unapplied conf change


def test_nobody_campaigns_with_an_unapplied_conf_change() -> None:
    """A committed change that is not applied forbids every campaign: who votes may not be known yet."""
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
    """When the leader is lost in a joint configuration, whoever is elected leaves it."""
    net = Network(snapshot=bootstrap((1, 2, 3)), members=range(1, 5))
    leader = net.elect(1)
    leader.raw.propose_conf_change(adding(4, transition=Transition.IMPLICIT))
    # everybody learns that the change is committed; the end of the joint configuration reaches nobody
    net.lost = lambda message: any(entry.index > 3 for entry in message.entries)
    net.settle()
    net.isolated = {1}
    net.lost = lambda message: False
    assert _configuration(net[2]) == ConfState((1, 2, 3, 4), (), (1, 2, 3), (), True)
    net.elect(2)
    net.tick(2, nodes=[2])
    assert [_configuration(net[i]) for i in (2, 3, 4)] == [ConfState((1, 2, 3, 4))] * 3


def test_a_joint_configuration_is_left_after_a_transfer_that_failed() -> None:
    """The end of a joint configuration, held up by a transfer, is proposed with the next applied entry."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose_conf_change(removing(3, transition=Transition.IMPLICIT))
    net.lost = lambda message: message.type is MessageType.TIMEOUT_NOW
    leader.raw.transfer_leader(2)
    net.settle()
    assert _configuration(leader).auto_leave
    net.tick(ELECTION_TICKS)
    net.propose(1, b"x")
    assert _configuration(leader) == ConfState((1, 2))


def test_a_leader_that_is_replaced_leaves_the_joint_configuration_before_it_goes() -> None:
    """A leader outside the incoming half leads on until the end of the joint configuration is applied."""
    net = Network(snapshot=bootstrap((1, 2)), members=range(1, 4))
    net.elect(1)
    net.change(1, ConfChangeV2((*removing(1).changes, *adding(3).changes), Transition.IMPLICIT))
    net.tick(2, nodes=[1])
    assert [_configuration(net[i]) for i in (1, 2)] == [ConfState((2, 3))] * 2
    assert not net[1].leads


# ---------------------------------------------------------------- a learner that must vote


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_learner_votes(pre_vote: bool) -> None:
    """Who does not know yet that it is a voter votes, or the two that are left could elect nobody."""
    net = Network(snapshot=bootstrap((1, 2), learners=(3,)), pre_vote=pre_vote)
    leader = net.elect(1)
    leader.raw.propose_conf_change(adding(3))
    # node 3 gets the change, and is not told that it is committed
    net.lost = lambda message: message.to == 3 and message.commit >= leader.raw.last_index
    net.settle()
    assert [_configuration(net[i]).voters for i in (2, 3)] == [(1, 2, 3), (1, 2)]
    net.isolated = {1}
    net.lost = lambda message: False
    assert net.elect(2).leads


# ---------------------------------------------------------------- reads before the term's first commit


@pytest.mark.parametrize("option", ReadOnlyOption)
def test_a_new_leader_answers_no_read_before_it_has_committed(option: ReadOnlyOption) -> None:
    """What an earlier leader acknowledged is seen by every read, though the next one did not know of it."""
    net = three(read_only=option)
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
    _lead_alone(core)
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


# ---------------------------------------------------------------- ABA in asynchronous appends


def _append(core: Core, sender: int, term: int, entries: Sequence[Entry], **fields: int) -> None:
    """An append behind the snapshot, and its write handed out."""
    message = Message(type=MessageType.APP, to=core.id, from_=sender, term=term, log_term=1, index=1)
    message.entries, message.commit = tuple(entries), fields.get("commit", 1)
    core.raw.step(message)
    core.hand_out()


def test_what_was_overwritten_and_overwritten_back_is_not_durable_yet() -> None:
    """Of three writes under way (A, B, A) the answer to the first says nothing about the third."""
    core = three()[2]
    _append(core, 1, 2, [Entry(2, 2, data=b"A")])
    _append(core, 3, 3, [Entry(3, 2, data=b"B")])
    _append(core, 1, 4, [Entry(2, 2, data=b"A")], commit=2)
    for on_disk in (b"A", b"B"):
        core.write()
        core.hand_out()
        assert (core.storage.entries(2, 3, None)[0].data, list(core.applies)) == (on_disk, [])
    core.write()
    core.hand_out()
    assert [entry.data for entry in core.applies[0].entries] == [b"A"]


def test_what_was_overwritten_in_the_term_of_the_answer_is_not_durable_yet() -> None:
    """The answer to a vote's write names the log's end then; overwritten since, it says nothing of now."""
    core = three(check_quorum=False)[2]
    _append(core, 1, 2, [Entry(2, 2, data=b"A")])
    core.raw.step(Message(type=MessageType.VOTE, to=2, from_=3, term=3, log_term=2, index=9))
    core.hand_out()
    _append(core, 3, 3, [Entry(3, 2, data=b"B")], commit=2)
    for _ in range(2):
        core.write()
        core.hand_out()
        assert not core.applies
    core.write()
    core.hand_out()
    assert [entry.data for entry in core.applies[0].entries] == [b"B"]


def test_what_was_written_in_an_earlier_term_becomes_durable_with_the_next_write() -> None:
    """An answer of an earlier term counts for nothing, so the first of the new term stands for all before."""
    core = three(check_quorum=False)[2]
    _append(core, 1, 2, [Entry(2, 2, data=b"A")])
    core.raw.step(Message(type=MessageType.VOTE, to=2, from_=3, term=3, log_term=2, index=9))
    core.raw.step(Message(type=MessageType.APP, to=2, from_=3, term=3, log_term=2, index=2, commit=2))
    core.hand_out()
    while core.writes:
        core.write()
    core.hand_out()
    assert [entry.data for entry in core.applies[0].entries] == [b"A"]


# ---------------------------------------------------------------- a single node ahead of its own disk


def test_a_single_voter_commits_nothing_before_it_is_durable() -> None:
    """With asynchronous writes: not its vote before that write, and no entry before its write."""
    net = Network(snapshot=bootstrap((1,)), pre_vote=False)
    core = net[1]
    core.raw.campaign()
    core.hand_out()
    assert core.raw.role is not StateRole.LEADER
    net.settle()
    core.raw.propose(b"x")
    core.hand_out()
    assert (core.raw.commit, list(core.applies)) == (core.raw.last_index - 1, [])
    core.write()
    core.hand_out()
    assert [entry.data for entry in core.applies[0].entries] == [b"x"]


def test_a_single_voter_that_writes_itself_commits_nothing_before_it_is_durable() -> None:
    """With synchronous writes: the Ready that holds an entry to write does not hold it to apply."""
    core = Network(snapshot=bootstrap((1,)), async_storage_writes=False, pre_vote=False)[1]
    core.raw.campaign()
    seen = []
    while core.raw.has_ready():
        ready = core.raw.ready()
        seen.append((len(ready.entries), len(ready.committed_entries)))
        core.storage.append(ready.entries)
        core.raw.advance()
    assert seen == [(0, 0), (1, 0), (0, 1)]


# ---------------------------------------------------------------- a paused follower that never resumes


def test_a_stream_whose_messages_were_all_lost_starts_again() -> None:
    """With all inflights lost, the answer to a heartbeat brings an empty append, and that the rest."""
    net = three(max_inflight_messages=2)
    leader = net.elect(1)
    net.lost = lambda message: message.type is MessageType.APP
    for data in (b"x", b"y", b"z"):
        leader.raw.propose(data)
    net.settle()
    assert leader.raw.status().progress[2].paused
    net.lost = lambda message: False
    net.tick(1, nodes=[1])
    assert [net[i].data for i in (1, 2, 3)] == [[b"x", b"y", b"z"]] * 3


def test_a_probe_of_a_follower_that_has_everything_ends() -> None:
    """A follower that was only reported unreachable is streamed to again after a heartbeat."""
    net = three()
    leader = net.elect(1)
    leader.raw.report_unreachable(2)
    assert leader.raw.status().progress[2].state is ProgressState.PROBE
    net.tick(1, nodes=[1])
    assert leader.raw.status().progress[2].state is ProgressState.REPLICATE


def _behind_compaction() -> Network:
    """Node 1 leads and has compacted what node 3 lacks; a snapshot to node 3 was sent and lost."""
    net = three()
    leader = net.elect(1)
    net.isolated = {3}
    net.propose(1, b"x")
    leader.storage.create_snapshot(leader.raw.applied, _configuration(leader), b"old")
    leader.storage.compact(leader.raw.applied)
    net.propose(1, b"y")
    net.propose(1, b"z")
    leader.storage.create_snapshot(leader.raw.applied, _configuration(leader), b"new")
    net.isolated = set()
    net.lost = lambda message: message.type is MessageType.SNAP
    net.tick(1, nodes=[1])
    net.lost = lambda message: False
    assert leader.raw.status().progress[3].state is ProgressState.SNAPSHOT
    return net


def test_a_snapshot_that_failed_is_sent_again() -> None:
    """Told that a snapshot did not arrive, the leader probes from behind the log the follower has."""
    net = _behind_compaction()
    net[1].raw.report_snapshot(3, ok=False)
    progress = net[1].raw.status().progress[3]
    assert (progress.state, progress.next) == (ProgressState.PROBE, progress.match + 1)
    net.tick(2, nodes=[1])
    assert net[3].snapshot.data == b"new"


def test_any_snapshot_that_reaches_the_log_ends_the_wait_for_one() -> None:
    """A follower that installed an older snapshot than was sent goes on, if the log reaches back to it."""
    net = _behind_compaction()
    leader = net[1].raw.status()
    index = net[1].storage.first_index()
    net[1].raw.step(Message(type=MessageType.APP_RESP, to=1, from_=3, term=leader.term, index=index))
    progress = net[1].raw.status().progress[3]
    assert (progress.state, progress.match) == (ProgressState.REPLICATE, index)


# ---------------------------------------------------------------- uncommitted bytes that stay


def test_uncommitted_bytes_return_to_zero_when_all_is_applied() -> None:
    """Whatever was proposed, once it is applied the whole limit is free again."""
    net = three(max_uncommitted_bytes=100)
    leader = net.elect(1)
    for size in (0, 1, 99, 100, 700):
        leader.raw.propose(bytes(size), b"")
        leader.raw.propose_conf_change(ConfChangeV2())  # refused, and becomes an empty entry
        net.settle()
        assert leader.raw.raft.uncommitted_bytes == 0


def test_uncommitted_bytes_of_a_lost_term_are_forgotten() -> None:
    """What a deposed leader had proposed does not count when it leads again."""
    net = three(max_uncommitted_bytes=100)
    leader = net.elect(1)
    net.isolated = {1}
    net.propose(1, bytes(100))
    net.elect(2)
    net.isolated = set()
    net.tick(2, nodes=[2])
    net.elect(1)
    leader.raw.propose(bytes(100))
    net.settle()
    assert leader.raw.raft.uncommitted_bytes == 0


def test_entries_of_earlier_leaders_free_no_bytes() -> None:
    """What a leader inherited was never counted, so applying it must not make room for more."""
    net = Network(snapshot=bootstrap((1,)), max_uncommitted_bytes=100)
    core = net.add(1, [Entry(1, 2, data=bytes(100))])
    _lead_alone(core)
    core.hand_out()
    core.raw.propose(bytes(100))
    core.write()  # its first entry, and so the inherited one is committed
    core.hand_out()
    core.apply()
    assert core.raw.applied == 3
    with pytest.raises(UncommittedLimit):
        core.raw.propose(b"x")


# ---------------------------------------------------------------- a snapshot racing a conf change


def test_a_snapshot_carries_the_configuration_of_its_index() -> None:
    """An older snapshot tells the older configuration; the changes behind it come from the log."""
    net = Network(snapshot=bootstrap((1, 2, 3)), members=range(1, 5))
    leader = net.elect(1)
    net.isolated = {3}
    net.propose(1, b"x")
    leader.storage.create_snapshot(leader.raw.applied, _configuration(leader), b"state")
    leader.storage.compact(leader.raw.applied)
    net.change(1, adding(4))
    net.isolated = set()
    seen: list[ConfState] = []

    def watch(message: Message) -> bool:
        if message.snapshot is not None:
            seen.append(message.snapshot.conf_state)
        return False

    net.lost = watch
    net.tick(2, nodes=[1])
    assert seen[0] == ConfState((1, 2, 3))
    assert net[3].snapshot.conf_state == ConfState((1, 2, 3))
    assert _configuration(net[3]) == ConfState((1, 2, 3, 4))


def test_nobody_is_sent_a_snapshot_in_which_it_is_no_member() -> None:
    """Who joined after the newest snapshot would refuse it; it waits until there is a newer one."""
    net = three()
    leader = net.elect(1)
    net.join(4)
    net.change(1, adding(4))
    sent: list[int] = []

    def watch(message: Message) -> bool:
        if message.snapshot is not None:
            sent.append(message.snapshot.index)
        return False

    net.lost = watch
    net.tick(2, nodes=[1])
    assert (sent, net[4].raw.last_index) == ([], 0)
    index = leader.raw.applied
    leader.storage.create_snapshot(index, _configuration(leader), b"state")
    net.tick(2, nodes=[1])
    assert (sent, _configuration(net[4])) == ([index], ConfState((1, 2, 3, 4)))


def test_changes_that_a_snapshot_holds_are_not_applied_again() -> None:
    """A change still being applied when a newer snapshot comes is part of that snapshot already."""
    core = three()[2]
    change = conf_change_entry(removing(3))._replace(term=2, index=2)
    _append(core, 1, 2, [change], commit=2)
    core.write()
    core.hand_out()
    assert core.applies
    snapshot = Snapshot(5, 2, ConfState((1, 2, 3)))  # node 3 is a member again
    core.raw.step(Message(type=MessageType.SNAP, to=2, from_=1, term=2, snapshot=snapshot))
    core.apply()
    assert _configuration(core) == ConfState((1, 2, 3))
    core.hand_out()
    core.write()
    assert _configuration(core) == ConfState((1, 2, 3))
