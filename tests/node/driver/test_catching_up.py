"""What of the log is kept for members that lag, and how writers are slowed meanwhile."""

from itertools import pairwise

import pytest

from raftkv_trio.node.driver.catching_up import ENTRY_OVERHEAD_BYTES, LATELY_S, LEAST_RATE_S
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.types import MessageType
from tests.node.driver.lagging import DATA, ENTRY_BYTES, TICK_S, Lagging
from tests.raft.cores import Network, bootstrap


@pytest.mark.parametrize("responds", [True, False])
def test_what_a_member_that_responds_still_needs_is_kept(responds: bool) -> None:
    """Not for one that is down: nobody knows when it comes back."""
    lagging = Lagging(max_bytes=10**6)
    lagging.write(20)
    if not responds:
        lagging.clock.now_s += 2
    assert lagging.catching_up.keep_from(18) == (lagging.match + 1 if responds else 18)
    assert lagging.catching_up.keep_from(2) == 2


def test_what_is_kept_is_bounded() -> None:
    """In bytes; beyond that the member is sent a snapshot."""
    lagging = Lagging(max_bytes=10 * ENTRY_BYTES)
    lagging.write(20)
    last = lagging.leader.raw.last_index
    assert lagging.catching_up.keep_from(last) == last - 9
    assert lagging.catching_up.keep_from(last - 15) == last - 15


def test_the_log_behind_a_snapshot_is_kept_until_the_member_has_it() -> None:
    """While it is on its way, and after that, until the member has restored it and acknowledges."""
    lagging = Lagging(max_bytes=10**6)
    index = lagging.lag_behind_a_snapshot()
    lagging.write(20)
    lagging.compact(2)
    assert lagging.leader.storage.first_index() == index + 1
    lagging.leader.raw.report_snapshot(3, ok=True)
    lagging.write(20)
    lagging.compact(2)
    assert lagging.state is ProgressState.PROBE
    assert lagging.leader.storage.first_index() == index + 1


def test_a_member_with_a_snapshot_may_be_silent_for_a_while() -> None:
    """While the snapshot is on its way as long as that takes; then for half a minute, and no longer."""
    lagging = Lagging(max_bytes=10**6)
    index = lagging.lag_behind_a_snapshot()
    kept = []
    for silent_s, is_sent in ((100, False), (0, True), (20, True), (20, True)):
        if is_sent and lagging.state is ProgressState.SNAPSHOT:
            lagging.leader.raw.report_snapshot(3, ok=True)
            lagging.active.heard(3)
        lagging.clock.now_s += silent_s
        lagging.write(20)
        lagging.compact(2)
        kept.append(lagging.leader.storage.first_index() == index + 1)
    assert kept == [True, True, True, False]


def test_a_new_leader_keeps_nothing_for_a_member_that_died_before() -> None:
    """Until it is heard of, all followers look to it as one does that restores a snapshot."""
    lagging = Lagging(max_bytes=10**6)
    lagging.net.lost = lambda message: 3 in (message.to, message.from_)
    lagging.write(20)
    for old, new in ((1, 2), (2, 1)):
        lagging.net[old].raw.transfer_leader(new)
        lagging.net.settle()
    assert lagging.state is ProgressState.PROBE
    lagging.clock.now_s += 2
    lagging.tick()
    lagging.write(20)
    lagging.compact(2)
    assert lagging.leader.storage.first_index() == lagging.leader.storage.newest_snapshot.index - 1


def test_nothing_is_kept_for_a_snapshot_that_has_failed() -> None:
    """The next one will be newer."""
    lagging = Lagging(max_bytes=10**6)
    lagging.lag_behind_a_snapshot()
    lagging.leader.raw.report_snapshot(3, ok=False)
    lagging.write(20)
    lagging.compact(2)
    assert lagging.leader.storage.first_index() == lagging.leader.storage.newest_snapshot.index - 1


def test_writers_are_slowed_before_a_voter_falls() -> None:
    """From half of the bound on, the slower the less is left; and never to a halt."""
    max_bytes = 10_000 * ENTRY_BYTES
    lagging = Lagging(max_bytes=max_bytes)
    rates = []
    for _ in range(15):
        lagging.write(1000)
        lagging.acknowledge()
        admitted = 0
        while lagging.catching_up.slowed_because and lagging.catching_up.admitted([b""]):
            lagging.catching_up.appended([b""])
            admitted += 1
        rates.append(admitted if lagging.catching_up.slowed_because else None)
    assert rates[:4] == [None] * 4
    slow = [rate for rate in rates if rate is not None]
    assert len(slow) >= 10
    assert all(later <= rate + 1 for rate, later in pairwise(slow))  # what is left of a byte is carried over
    assert lagging.catching_up.slowed_because == "the leader slows writers until node 3 has caught up"
    assert slow[0] > 3 * slow[-1] > 0
    assert slow[-1] * ENTRY_OVERHEAD_BYTES >= max_bytes / LEAST_RATE_S * TICK_S
    lagging.net.lost = lambda message: False
    lagging.net.tick(2)
    lagging.catching_up.tick()
    assert not lagging.catching_up.slowed_because
    assert lagging.catching_up.admitted([DATA] * 1000) == 1000


def test_a_large_command_is_admitted_and_others_wait_for_it() -> None:
    """Whatever its size: it takes what the next ticks would have, if it is appended."""
    lagging = Lagging(max_bytes=10 * ENTRY_BYTES)
    lagging.write(8)
    lagging.acknowledge()
    assert lagging.catching_up.admitted([DATA, DATA]) == 1
    assert lagging.catching_up.admitted([DATA, DATA]) == 1
    lagging.catching_up.appended([DATA])
    assert lagging.catching_up.admitted([b""]) == 0
    ticks = 0
    while not lagging.catching_up.admitted([b""]):
        lagging.catching_up.tick()
        ticks += 1
    assert ticks > 10


def test_writers_are_slowed_only_for_a_voter_that_makes_progress() -> None:
    """A full or hung disk answers heartbeats for hours, and does not catch up however slow writers are."""
    lagging = Lagging(max_bytes=100 * ENTRY_BYTES)
    lagging.write(80)
    lagging.acknowledge()
    assert lagging.catching_up.slowed_because
    slowed_s = 0.0
    while lagging.catching_up.slowed_because:
        lagging.clock.now_s += TICK_S
        slowed_s += TICK_S
        lagging.active.heard(3)
        lagging.tick()
        assert slowed_s < 2 * LATELY_S
    assert slowed_s > LATELY_S / 2
    assert lagging.catching_up.admitted([DATA] * 100) == 100
    lagging.acknowledge()
    assert lagging.catching_up.slowed_because


def test_nobody_is_slowed_for_a_voter_that_acknowledges_nothing_to_a_new_leader() -> None:
    """Its disk hangs. The leader knows nothing of its log, and probes as after a snapshot."""
    lagging = Lagging(max_bytes=100 * ENTRY_BYTES)
    for old, new in ((1, 2), (2, 1)):
        lagging.net[old].raw.transfer_leader(new)
        lagging.net.settle()
    lagging.active.heard(3)
    lagging.write(80)
    assert lagging.state is ProgressState.PROBE
    lagging.tick()
    assert not lagging.catching_up.slowed_because


@pytest.mark.parametrize("is_sent", [False, True])
def test_writers_are_slowed_while_a_snapshot_is_sent_and_restored(is_sent: bool) -> None:
    """Meanwhile the voter acknowledges nothing, and would need the next snapshot after this one."""
    lagging = Lagging(max_bytes=100 * ENTRY_BYTES)
    lagging.lag_behind_a_snapshot()
    lagging.tick()
    if is_sent:
        lagging.leader.raw.report_snapshot(3, ok=True)
    lagging.write(80)
    for _ in range(5):
        lagging.clock.now_s += LATELY_S
        lagging.active.heard(3)
        lagging.tick()
        assert lagging.catching_up.slowed_because


@pytest.mark.parametrize("reason", ["silent", "learner"])
def test_nobody_is_slowed_for_others(reason: str) -> None:
    """A voter that is down, or a learner, which no quorum needs."""
    net = Network(snapshot=bootstrap((1, 2), learners=(3,))) if reason == "learner" else None
    lagging = Lagging(max_bytes=10 * ENTRY_BYTES, net=net)
    lagging.write(30)
    lagging.acknowledge()
    if reason == "silent":
        assert lagging.catching_up.slowed_because
        lagging.clock.now_s += 2
        lagging.catching_up.tick()
    assert not lagging.catching_up.slowed_because


def test_a_member_gets_a_snapshot_that_the_log_continues() -> None:
    """If what it lacks was compacted, and the newest snapshot is older still, a new one is requested."""
    lagging = Lagging(max_bytes=10**6)
    storage = lagging.leader.storage
    lagging.clock.now_s += 10
    lagging.write(20)
    storage.compact(lagging.leader.raw.applied - 2)  # without a snapshot
    lagging.leader.raw.report_unreachable(3)
    lagging.net.lost = lambda message: message.type is MessageType.SNAP
    lagging.tick()
    assert lagging.wanted == 0  # it is silent
    lagging.active.heard(3)
    lagging.net.tick(2)
    lagging.tick()
    assert lagging.wanted == 1
    # From here on the log behind the snapshot is kept for it.
    snapshot = storage.create_snapshot(lagging.leader.raw.applied, lagging.leader.configuration, b"")
    lagging.write(20)
    lagging.active.heard(3)
    assert lagging.catching_up.keep_from(storage.last_index()) == snapshot.index + 1
    lagging.tick()
    assert lagging.wanted == 1
    lagging.net.tick(2)
    assert lagging.state is ProgressState.SNAPSHOT
