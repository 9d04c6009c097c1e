"""Clusters over slow links: long round trips."""

import pytest

from raftkv_trio.errors import NoLeader
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing import Conditions, Simulation
from raftkv_trio.testing.planted import PLANTED

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
