"""Schedules with a single fault, in a calm network."""

from raftkv_trio.testing import Conditions
from raftkv_trio.testing.schedules.schedule import Fault, Schedule


def calm_but_for(fault: Fault, *, seed: int, duration_s: float) -> Schedule:
    """Three nodes, two clients of one key, and this fault."""
    return Schedule(
        seed=seed,
        nodes=3,
        conditions=Conditions(),
        faults=(fault,),
        clients=2,
        keys=1,
        operations=40,
        duration_s=duration_s,
    )
