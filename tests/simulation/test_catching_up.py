"""A member that needs a snapshot catches up while writers go on, however long sending and restoring take."""

from contextlib import suppress
from dataclasses import replace

import pytest

from raftkv_trio.errors import Overloaded
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.node.snapshotter import Snapshotter
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.testing import Simulation
from raftkv_trio.testing.campaign.pursuit import is_streaming
from raftkv_trio.testing.invariants.violation import Violation
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.schedule import Limits

WIDE = Limits()
NARROW = Limits(max_catch_up_bytes=20_000)
#: As of a large state: no snapshot is due for the log's sake.
RARE = Limits(snapshot_log_share=1e6)
WRITE = encode_txn(Txn(success=(Put(b"key", b"value"),)))


def write_steadily(simulation: Simulation, node: int, interval_s: float) -> None:
    """Submit a command in every interval, from now on."""
    member = simulation.members[node]
    if member.node is not None:
        with suppress(Overloaded):
            member.node.submit(WRITE)
    simulation.timeline.after(interval_s, write_steadily, simulation, node, interval_s)


def catch_up(seed: int, limits: Limits = WIDE) -> Simulation:
    """Raises Violation if a member that was away does not catch up under writes."""
    limits = replace(limits, snapshot_entries=4, catch_up_entries=0)
    simulation = Simulation(Store, seed=seed, limits=limits)
    leader = simulation.leader()
    away = leader % 3 + 1
    simulation.crash(away)
    write_steadily(simulation, leader, 0.003)
    simulation.run_for(1.0)
    simulation.start(away)
    simulation.members[away].disk_call_s = (0.3, 0.4)

    simulation.run_until(lambda: is_streaming(simulation, away), within_s=6.0)
    return simulation


@pytest.mark.parametrize("seed", range(3))
def test_a_member_catches_up_while_writers_go_on(seed: int) -> None:
    """A snapshot takes up to half a second, and the log of that time is many times `catch_up_entries`."""
    catch_up(seed)


def test_without_the_log_behind_the_snapshot_it_does_not() -> None:
    """The test above can fail: if compaction does not wait, each snapshot comes too late for the log."""
    with PLANTED["compaction-does-not-wait"].plant(), pytest.raises(Violation, match="liveness"):
        catch_up(0)


@pytest.mark.parametrize("seed", range(3))
def test_writers_are_slowed_if_the_log_that_is_kept_does_not_suffice(seed: int) -> None:
    """With room for some hundred entries, the member catches up all the same, and then writers go on."""
    simulation = catch_up(seed, NARROW)
    committed = simulation.invariants.committed_index
    simulation.run_for(2.0)
    assert simulation.invariants.committed_index > committed + 300


def test_without_that_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: writers that go on at full speed leave the member behind for ever."""
    monkeypatch.setattr(CatchingUp, "tick", lambda catching_up: None)
    with pytest.raises(Violation, match="liveness"):
        catch_up(0, NARROW)


@pytest.mark.parametrize("seed", range(3))
def test_memory_has_the_newest_part_of_the_log_while_snapshots_are_rare(seed: int) -> None:
    """A member that lacks the rest gets a new snapshot; a start finds all of the log on the disk."""
    simulation = catch_up(seed, RARE)
    simulation.run_for(1.0)
    leader = simulation.leader()
    parts = simulation.members[leader].parts
    assert parts is not None
    log, position = parts.raw.raft.log, parts.applier.position
    snapshot_index = parts.storage.snapshot.index
    assert position.index - snapshot_index > 300
    assert log.first_index() > snapshot_index + 100
    simulation.crash(leader)
    simulation.run_for(0.1)
    simulation.start(leader)
    parts = simulation.members[leader].parts
    assert parts is not None
    assert parts.raw.raft.log.first_index() == snapshot_index + 1
    assert parts.raw.last_index >= position.index


def test_a_snapshot_that_the_log_does_not_continue_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a leader that sends the newest one whatever it is sends it for ever."""
    monkeypatch.setattr(MemoryStorage, "snapshot", lambda log: log.newest_snapshot)
    monkeypatch.setattr(Snapshotter, "want", lambda snapshotter: None)
    with pytest.raises(Violation, match="liveness"):
        catch_up(0, RARE)
