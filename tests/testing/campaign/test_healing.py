"""When all heals, no fault is left that strikes later."""

from raftkv_trio.kv import Store
from raftkv_trio.testing import Simulation
from raftkv_trio.testing.campaign.faults import mend_all


def test_no_node_loses_power_after_all_has_healed() -> None:
    """A node that was to lose power soon after its next start has started, or is started by the healing."""
    simulation = Simulation(Store)
    simulation.leader()
    for node in (1, 2):
        simulation.plan_restart(node, 0.1, again_s=0.1)
        simulation.crash(node)
    simulation.start(1)
    mend_all(simulation)
    started = {node: member.parts for node, member in simulation.members.items()}
    simulation.run_for(1)
    assert {node: member.parts for node, member in simulation.members.items()} == started
