"""Seeds in which members come and go do what they are drawn for."""

from raftkv_trio.kv import Store
from raftkv_trio.testing.campaign.reshaping import can_lose
from raftkv_trio.testing.campaign.seeds import SeedRun
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.schedules.schedule import RESHAPING
from raftkv_trio.testing.simulator.simulated_member import ProcessState
from raftkv_trio.testing.simulator.simulation import Simulation


def test_members_come_and_go() -> None:
    """In the end nodes vote that joined, others were removed and have ended; some seeds have none of it."""
    joined: set[int] = set()
    removed: set[int] = set()
    unchanged = 0
    for seed in range(10):
        schedule = draw_schedule(seed)
        run = SeedRun(schedule, Simulation, keep_trace=False)
        run.run()
        configuration = run.simulation.invariants.configuration
        joined.update([i for i in configuration.conf_state.voters if i > schedule.nodes])
        removed.update(configuration.removed)
        states = [run.simulation.members[i].state for i in configuration.removed]
        assert set(states) <= {ProcessState.REMOVED}, seed
        unchanged += not any(fault.kind in RESHAPING for fault in schedule.faults)
    assert joined
    assert removed
    assert 0 < unchanged < 10


def test_disks_rot_while_a_majority_stays_whole() -> None:
    """Of three voters one disk may rot, unless one may be gone already; then none may, and none may leave."""
    simulation = Simulation(Store, nodes=3)
    simulation.members[1].start()
    assert can_lose(simulation, rotten=3)
    simulation.leaving.add(2)
    assert not can_lose(simulation, rotten=3)
    simulation.leaving.clear()
    simulation.members[3].is_rotten = True
    assert not can_lose(simulation, rotten=2)
    assert can_lose(simulation, leaving={3})
    simulation.leaving.add(3)
    assert not can_lose(simulation, leaving={2})
