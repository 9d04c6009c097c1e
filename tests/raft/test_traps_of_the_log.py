"""The traps that implementations of Raft are known to fall into: durability, flow control, snapshots.

A section each, a test for each guard, which was seen to fail with the guard taken out. The others are in
`test_traps.py`.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from raftkv_trio.raft.confchange import ConfChangeV2, conf_change_entry
from raftkv_trio.raft.errors import UncommittedLimit
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.types import (
    ConfState,
    Entry,
    Message,
    MessageType,
    Snapshot,
    StateRole,
)
from tests.raft.cores import Core, Network, adding, bootstrap, removing, three

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


# ---------------------------------------------------------------- a term won before it is durable


def test_no_term_is_won_twice() -> None:
    """A node that crashes in a term that it had not written cannot have led it: it asked for no votes."""
    net = three(pre_vote=False)
    leaders = 0
    for data in (b"x", b"y"):
        net[1].raw.campaign()
        # node 1's disk is slow, and what it sends nevertheless is answered at once
        for _ in range(3):
            net.hand_out()
            net.write(2, 3)
            while net.wire:
                net.deliver(net.wire.popleft())
        if net[1].leads:
            leaders += 1
            net[1].raw.propose(data)
        net.restart(1)
    assert (leaders, net[2].raw.term, net[2].log) == (0, 1, [])


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
    leader.storage.create_snapshot(leader.raw.applied, leader.configuration, b"old")
    leader.storage.compact(leader.raw.applied)
    net.propose(1, b"y")
    net.propose(1, b"z")
    leader.storage.create_snapshot(leader.raw.applied, leader.configuration, b"new")
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
    core.lead_alone()
    core.hand_out()
    core.write()  # its first entry, and so the inherited one is on a quorum
    core.hand_out()
    core.write()  # that it is: for all that the core knows it could be a conf change
    core.raw.propose(bytes(100))
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
    leader.storage.create_snapshot(leader.raw.applied, leader.configuration, b"state")
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
    assert net[3].configuration == ConfState((1, 2, 3, 4))


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
    leader.storage.create_snapshot(index, leader.configuration, b"state")
    net.tick(2, nodes=[1])
    assert (sent, net[4].configuration) == ([index], ConfState((1, 2, 3, 4)))


def test_changes_that_a_snapshot_holds_are_not_applied_again() -> None:
    """A change still being applied when a newer snapshot comes is part of that snapshot already."""
    core = three()[2]
    change = replace(conf_change_entry(removing(3)), term=2, index=2)
    _append(core, 1, 2, [change], commit=2)
    core.write()
    core.hand_out()
    assert core.applies
    snapshot = Snapshot(5, 2, ConfState((1, 2, 3)))  # node 3 is a member again
    core.raw.step(Message(type=MessageType.SNAP, to=2, from_=1, term=2, snapshot=snapshot))
    core.apply()
    assert core.configuration == ConfState((1, 2, 3))
    core.hand_out()
    core.write()
    assert core.configuration == ConfState((1, 2, 3))
