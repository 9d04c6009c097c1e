"""How much of the log stays in memory while snapshots are rare."""

import trio

from raftkv_trio.node.applier import Commits
from raftkv_trio.node.driver.completions import Completions
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.sync import Wakeup
from tests.node.driver.lagging import Lagging


def compacted(lagging: Lagging, pinned_index: int | None) -> int:
    """The first entry in memory after a turn; a snapshot of `pinned_index` is being taken."""
    commits, _ = trio.open_memory_channel[Commits](1)
    completions = Completions(
        lagging.leader.raw,
        lagging.leader.storage,
        Wakeup(),
        commits,
        lagging.catching_up,
        lambda: pinned_index,
        catch_up_entries=5,
        catch_up_bytes=10**6,
        snapshot_entries=10,
        snapshot_log_bytes=10**6,
    )
    transport: PeerTransport = None  # type: ignore[assignment]  # nothing is sent
    completions.take(transport)
    return lagging.leader.storage.first_index()


def written(count: int) -> Lagging:
    """A log that nobody lags behind, of whom the leader knows."""
    lagging = Lagging(max_bytes=10**6)
    lagging.clock.now_s += 100
    lagging.write(count)
    return lagging


def test_what_was_applied_long_ago_is_dropped() -> None:
    """All but `catch_up_entries`, once as many as make a snapshot due have been applied besides."""
    lagging = written(100)
    assert compacted(lagging, None) == lagging.leader.raw.applied - 4
    few = written(5)
    assert compacted(few, None) == few.leader.storage.newest_snapshot.index + 1


def test_what_is_behind_a_snapshot_under_way_stays() -> None:
    """Whoever is sent it needs that."""
    lagging = written(100)
    assert compacted(lagging, 50) == 50 - 4


def test_an_overtaken_snapshot_drops_nothing() -> None:
    """A leader's newer one has replaced the log, and the node's own has not been given up yet."""
    lagging = written(100)
    lagging.leader.storage.compact(60)
    assert compacted(lagging, 50) == 61
