"""Clusters over slow links: long round trips, little bandwidth."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from raftkv_trio.errors import NoLeader
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.peers import outbox
from raftkv_trio.testing import Conditions, Simulation
from raftkv_trio.testing.campaign.pursuit import leader_of
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.simulator.task_member import TaskSimulation
from raftkv_trio.testing.world.determinism import deterministic_scheduling

WRITE = encode_txn(Txn(success=(Put(b"key", b"value"),)))


@pytest.mark.parametrize("round_trip_s", [0.2, 0.4, 0.7, 0.9])
def test_all_nodes_read_and_write_over_long_round_trips(round_trip_s: float) -> None:
    """With round trips of up to an election timeout (1 s) each node answers reads, and the leader stays."""
    transit_s = round_trip_s / 2
    simulation = Simulation(Store, conditions=Conditions(delay_s=(transit_s, transit_s)))
    leader = simulation.leader(within_s=20)
    for _ in range(3):
        for node in simulation.members:
            simulation.propose(WRITE, node=node, within_s=4 * round_trip_s + 1)
            simulation.machine(node, within_s=4 * round_trip_s + 1)
    assert simulation.leader() == leader


@pytest.mark.parametrize("round_trip_s", [0.4, 0.9])
def test_a_planted_bug_leaves_reads_without_an_answer(round_trip_s: float) -> None:
    """The test above can fail: if only the answer to the newest attempt counted, no follower could read."""
    with PLANTED["only-the-last-context-counts"].plant(), pytest.raises(NoLeader, match="could not read"):
        test_all_nodes_read_and_write_over_long_round_trips(round_trip_s)


@asynccontextmanager
async def whole_nodes(conditions: Conditions) -> AsyncIterator[TaskSimulation]:
    """Three nodes with all their tasks, of which one leads."""
    async with trio.open_nursery() as nursery:
        simulation = TaskSimulation(Store, conditions=conditions)
        simulation.run_in(nursery)
        try:
            await simulation.step_until(20.0, lambda: leader_of(simulation) is not None)
            await simulation.step_until(simulation.now + 2.0)
            yield simulation
        finally:
            simulation.abandon()


def large_values_over_a_slow_link() -> None:
    """Two values, each of which takes three election timeouts to each follower, with reads at all nodes."""

    async def run() -> None:
        async with whole_nodes(Conditions(bytes_per_s=400_000)) as simulation:
            leader = leader_of(simulation)
            assert leader is not None
            assert leader.parts is not None
            assert leader.node is not None
            term = leader.parts.raw.term
            value = encode_txn(Txn(success=(Put(b"key", bytes(1_200_000)),)))
            proposals = [leader.node.submit(value) for _ in range(2)]
            answered = 0
            while not all(proposal.is_settled for proposal in proposals):
                rounds = [m.parts.reads.join() for m in simulation.members.values() if m.parts]
                within_s = simulation.now + 1.0
                await simulation.step_until(within_s, lambda: all(r.done.is_set() for r in rounds))  # noqa: B023
                assert all(read_round.index is not None for read_round in rounds)
                answered += 1
            assert simulation.now > 8.0
            assert answered > 10
            assert leader.parts.raw.term == term

    with deterministic_scheduling("slow link"):
        trio.run(run, clock=trio.testing.MockClock())


def test_a_large_value_over_a_slow_link_costs_no_leader() -> None:
    """Heartbeats and reads pass it: each read is answered within an election timeout."""
    large_values_over_a_slow_link()


def test_without_the_urgent_queue_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: behind the value, heartbeats come too late."""
    monkeypatch.setattr(outbox, "is_urgent", lambda item: False)
    with pytest.raises(ExceptionGroup) as raised:
        large_values_over_a_slow_link()
    assert raised.group_contains(AssertionError)
