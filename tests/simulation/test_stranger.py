"""A Byzantine stranger among the faults: what it says changes nothing, at either level."""

import pytest

from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Schedule
from raftkv_trio.testing.world.stranger import STRANGER_ID
from tests.simulation.calm import calm_but_for


def schedule(seed: int) -> Schedule:
    """A stranger speaks from the first election on until everything must be well."""
    stranger = Fault(at_s=0.5, kind=FaultKind.STRANGER, duration_s=6.0)
    return calm_but_for(stranger, seed=seed, duration_s=6)


@pytest.mark.parametrize("level", LEVELS)
def test_a_cluster_goes_on_while_a_stranger_speaks(level: int) -> None:
    """It speaks to every node many times, and no term moves after the election."""
    verdict = LEVELS[level].run(schedule(3), keep_trace=True)
    assert verdict.failure is None, verdict.text
    assert verdict.trace is not None
    for node in (1, 2, 3):
        assert len([line for line in verdict.trace if f" {STRANGER_ID}->{node}: " in line]) > 10
    assert len([line for line in verdict.trace if " leader t" in line]) > 0
    assert not any(" candidate t" in line for line in verdict.trace if float(line.split()[0]) > 3)


@pytest.mark.parametrize("level", LEVELS)
def test_a_stranger_that_is_let_in_is_found(level: int) -> None:
    """The test above can fail: if nodes act on what a stranger says, one of the first seeds shows it."""
    with PLANTED["strangers-are-let-in"].plant():
        assert any(LEVELS[level].run(schedule(seed)).failure for seed in range(10))


def test_one_of_ten_seeds_has_a_stranger() -> None:
    """It is drawn beside all other faults, at both levels."""
    drawn = [draw_schedule(seed) for seed in range(300)]
    count = len([s for s in drawn if any(fault.kind is FaultKind.STRANGER for fault in s.faults)])
    assert 15 <= count <= 45
