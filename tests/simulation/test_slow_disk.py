"""A leader whose disk has stalled does not hold up the cluster."""

import pytest

from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing.simulator.simulation import Simulation

ELECTION_TIMEOUT_S = 1.0


@pytest.mark.parametrize("seed", range(20))
def test_a_stalled_disk_ends_leadership_within_two_election_timeouts(seed: int) -> None:
    """Another leads then, takes writes, and the write that the stalled leader had sent on is not lost."""
    simulation = Simulation(Store, nodes=3, seed=seed)
    stalled = simulation.leader()
    member = simulation.members[stalled]
    member.disk_call_s = (1000.0, 1000.0)
    assert member.node is not None
    member.node.submit(encode_txn(Txn(success=(Put(b"sent", b"on"),))))
    member.add_poll(lambda: True)
    simulation.run_until(lambda: not member.leads, within_s=2 * ELECTION_TIMEOUT_S)
    simulation.run_until(lambda: simulation.leader() != stalled)
    simulation.propose(encode_txn(Txn(success=(Put(b"after", b"it"),))))
    store = simulation.machine(simulation.leader())
    assert isinstance(store, Store)
    assert store.get(b"sent")
    assert store.get(b"after")
