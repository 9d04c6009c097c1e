"""A member whose disk has no room stays a member: it votes, answers heartbeats, and takes entries later."""

import errno
import os

import pytest

from raftkv_trio.errors import ChangeRefused, ProposalError
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.testing.schedules.schedule import Limits
from raftkv_trio.testing.simulator.simulated_member import DATA_DIR, ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

SEGMENT_BYTES = Limits().segment_bytes


def put(simulation: Simulation, numbers: range) -> None:
    for number in numbers:
        simulation.propose(encode_txn(Txn(success=(Put(b"%d" % number, bytes(500)),))))


def applied(member: SimulatedMember) -> int:
    assert member.parts is not None
    return member.parts.applied.index


@pytest.mark.parametrize("free_bytes", [0, SEGMENT_BYTES, 5 * SEGMENT_BYTES])
@pytest.mark.parametrize("seed", range(5))
def test_a_follower_without_room_votes_and_takes_entries_when_there_is_some(
    seed: int, free_bytes: int
) -> None:
    """The others go on; it never ends, is the vote that a new leader needs, and has everything at last."""
    simulation = Simulation(Store, nodes=3, seed=seed)
    leader = simulation.leader()
    third, full = [simulation.members[n] for n in simulation.members if n != leader]
    full.disk.free_bytes = free_bytes
    put(simulation, range(50))
    assert (full.state, full.restarts) == (ProcessState.UP, 0)
    assert applied(full) < applied(simulation.members[leader]) - 10
    assert simulation.leader() == leader
    simulation.crash(leader)
    assert simulation.leader() == third.id
    simulation.run_for(10)
    assert third.leads
    with pytest.raises(ProposalError):
        put(simulation, range(50, 51))
    full.disk.free_bytes = None
    simulation.run_until(lambda: full.node is not None and full.node.status().health is None, within_s=30)
    put(simulation, range(51, 60))
    store = simulation.machine(full.id)
    assert isinstance(store, Store)
    assert all(store.get(b"%d" % number) for number in (*range(50), *range(51, 60)))
    assert (full.state, full.restarts) == (ProcessState.UP, 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_needs_it_can_answer_reads(seed: int) -> None:
    """A new leader's first entry is empty, and is taken: without it committed nobody could read."""
    simulation = Simulation(Store, nodes=3, seed=seed)
    leader = simulation.leader()
    third, full = [simulation.members[n] for n in simulation.members if n != leader]
    simulation.run_for(1)  # so that it is up to date, and needs no snapshot
    full.disk.free_bytes = 0
    written = 0
    while full.node and full.parts and (full.node.status().health is None or full.parts.log_writer.has_room):
        put(simulation, range(written, written + 1))
        simulation.run_for(0.1)  # until all have applied it: the full one must lack none that others have
        written += 1
        assert written < 1000
    simulation.run_for(1)
    assert full.node is not None
    assert applied(full) == applied(third)
    simulation.crash(leader)
    store = simulation.machine(simulation.leader())
    assert isinstance(store, Store)
    assert store.get(b"%d" % (written - 1))


def test_a_follower_without_room_counts_in_no_quorum() -> None:
    """It only answers heartbeats; with it and without the healthy follower nothing could be committed."""
    simulation = Simulation(Store, nodes=3, seed=0)
    leader = simulation.leader()
    third, full = [simulation.members[n] for n in simulation.members if n != leader]
    full.disk.free_bytes = 0
    put(simulation, range(50))
    simulation.run_for(5)
    node = simulation.members[leader].node
    assert node is not None
    assert {m.id for m in node.members() if m.is_active} == {leader, third.id}
    with pytest.raises(ChangeRefused, match=f"only {leader} would acknowledge"):
        node.dry_run_change(ChangeRequest((MemberChange(Action.REMOVE, third.id),)))
    assert node.dry_run_change(ChangeRequest((MemberChange(Action.REMOVE, full.id),))) is None


def fill_up(simulation: Simulation, member: SimulatedMember) -> int:
    """Take the room from a member's disk, and write until it has noticed that; returns how often."""
    member.disk.free_bytes = 0
    written = 0
    while member.node and member.node.status().health is None:
        put(simulation, range(written, written + 1))
        simulation.run_for(0.1)  # until all have applied it: the full one must lack none that others have
        written += 1
    simulation.run_for(1)
    return written


@pytest.mark.parametrize("seed", range(10))
def test_a_node_without_room_that_is_elected_hands_over(seed: int) -> None:
    """Its disk was full before, and stays full; writes succeed a few election timeouts after it leads."""
    simulation = Simulation(Store, nodes=3, seed=seed)
    leader = simulation.leader()
    third, full = [simulation.members[n] for n in simulation.members if n != leader]
    simulation.run_for(1)
    written = fill_up(simulation, full)
    # The third node lacks an entry that the full one has, so only the full one can be elected.
    simulation.partition([third.id])
    put(simulation, range(1))
    simulation.crash(leader)
    simulation.heal()
    simulation.run_until(lambda: full.leads, within_s=20)
    simulation.start(leader)
    simulation.run_until(lambda: not full.leads, within_s=5)
    simulation.run_until(lambda: any(simulation.members[i].leads for i in (leader, third.id)), within_s=5)
    put(simulation, range(written, written + 1))


@pytest.mark.parametrize("seed", range(10))
def test_leadership_does_not_go_to_a_node_without_room(seed: int) -> None:
    """Asked to take over, it leaves that to the next candidate, although its log is as long."""
    simulation = Simulation(Store, nodes=3, seed=seed)
    leader = simulation.leader()
    full, third = [simulation.members[n] for n in simulation.members if n != leader]
    simulation.run_for(1)
    fill_up(simulation, full)
    simulation.members[leader].transfer_leadership()

    def leads_at_last() -> bool:
        assert not full.leads
        return third.leads

    simulation.run_until(leads_at_last, within_s=3)


def test_without_room_for_a_snapshot_the_spare_segment_is_used() -> None:
    """Entries are taken while there is a segment for the next cut."""
    simulation = Simulation(Store, nodes=3, seed=0)
    leader = simulation.leader()
    full = next(simulation.members[n] for n in simulation.members if n != leader)
    simulation.run_for(1)  # so that it has made a spare segment ready
    assert full.node is not None
    assert full.parts is not None
    full.disk.free_bytes = 0
    full.parts.snapshotter.failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    put(simulation, range(8))
    simulation.run_for(1)
    assert full.node.status().health is not None
    assert applied(full) == applied(simulation.members[leader])
    assert len([path for path in full.disk.files(DATA_DIR / "wal") if path.suffix == ".wal"]) == 2
