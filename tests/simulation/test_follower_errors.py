"""An error of the disk under a follower that fell behind, starts, and is sent a snapshot: whole nodes."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.campaign.seeds import Verdict
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Limits, Schedule
from raftkv_trio.testing.simulator.simulated_member import DATA_DIR
from raftkv_trio.testing.world.message_network import Conditions

FOLLOWER = 3
CALLS = 120  # from its start to the end, of those that name their file


def live(number: int) -> Verdict:
    """The follower is killed, and misses enough to need a snapshot; then one of its disk calls fails."""
    schedule = Schedule(
        seed=number,
        nodes=3,
        conditions=Conditions(),
        limits=Limits(snapshot_entries=8, catch_up_entries=2),
        faults=(
            Fault(at_s=2.0, kind=FaultKind.KILL, duration_s=1.5, node=FOLLOWER),
            Fault(at_s=3.499, kind=FaultKind.EIO, duration_s=0.5, node=FOLLOWER, number=number),
        ),
        clients=4,
        keys=3,
        operations=250,
        duration_s=6.0,
    )
    return run_schedule_on_tasks(schedule, keep_trace=True)


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.long)])
def test_an_error_in_any_call_of_a_follower(step: int) -> None:
    """It ends, says which file, and starts again; or what it was sent is thrown away, and comes again."""
    outcomes: Counter[str] = Counter()
    with ProcessPoolExecutor(2) as pool:
        for number, verdict in enumerate(pool.map(live, range(0, CALLS, step))):
            assert verdict.failure is None, f"call {number * step}: {verdict.text}"
            assert verdict.trace is not None
            ends = [line for line in verdict.trace if f"node {FOLLOWER}: ends: " in line]
            assert all(str(DATA_DIR) in line and "Input/output error" in line for line in ends), ends
            outcomes["ended" if ends else "went on"] += 1
    print(f"{outcomes.total()} points: {dict(outcomes)}")
    assert outcomes["ended"] > CALLS // step // 2
