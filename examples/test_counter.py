"""Three simulated nodes replicate the counter; one is cut off. Usage: pytest test_counter.py"""

from collections.abc import Callable

from counter import Counter

from raftkv_trio.testing import Simulation

pytest_plugins = ["raftkv_trio.testing.pytest_plugin"]


def test_a_majority_goes_on(raft_simulation: Callable[..., Simulation]) -> None:
    """What was added before and during a partition is there on all nodes after it."""
    simulation = raft_simulation(Counter, nodes=3, seed=7)
    assert simulation.propose(b"2") == 2
    cut_off = simulation.leader()
    simulation.partition([cut_off])
    simulation.run_for(5)  # the others elect one of them
    assert simulation.propose(b"40") == 42
    simulation.heal()
    for node in (1, 2, 3):
        machine = simulation.machine(node)
        assert isinstance(machine, Counter)
        assert machine.total == 42
