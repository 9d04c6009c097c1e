"""kill -9 of simulated nodes under load, round after round: nothing acknowledged is lost."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from random import Random

import pytest

from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.campaign.seeds import Verdict, run_schedule
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Limits, Schedule
from raftkv_trio.testing.world.message_network import Conditions

NODES = (1, 2, 3)
ROUNDS = 20  # of one cluster's life
OPERATIONS_A_ROUND = 80
SNAPSHOT_ENTRIES = 50


def draw_rounds(seed: int) -> Schedule:
    """Kills while clients write and read: of all nodes at once in most rounds, of one or two in the others.

    In four of five cases a node that is writing is killed in the middle of that disk call.
    """
    random = Random(f"rounds {seed}")
    faults: list[Fault] = []
    at_s = 1.0
    for _ in range(ROUNDS):
        at_s += random.uniform(1.0, 2.0)
        for node in random.sample(NODES, random.choice((3, 3, 2, 1))):
            down_s = random.uniform(0.05, 0.5)
            faults.append(Fault(at_s=at_s, kind=FaultKind.KILL, duration_s=down_s, node=node))
    return Schedule(
        seed=seed,
        nodes=len(NODES),
        conditions=Conditions(),
        limits=Limits(snapshot_entries=SNAPSHOT_ENTRIES, catch_up_entries=20),
        faults=tuple(faults),
        clients=8,
        keys=5,
        operations=OPERATIONS_A_ROUND * ROUNDS,
        duration_s=at_s + 1.0,
        disk_call_s=(0.0005, 0.02),
    )


def live(seed: int) -> Verdict:
    return run_schedule(draw_rounds(seed), keep_trace=True)


def live_on_tasks(seed: int) -> Verdict:
    return run_schedule_on_tasks(draw_rounds(seed))


def check(verdict: Verdict) -> None:
    assert verdict.failure is None, f"seed {verdict.schedule.seed}: {verdict.text}"
    assert verdict.faults["kill"] >= ROUNDS
    assert verdict.operations["completed"] > OPERATIONS_A_ROUND * ROUNDS // 2


def test_twenty_rounds_lose_nothing() -> None:
    """Whatever was acknowledged outlives twenty rounds, in each of which snapshots are taken."""
    verdict = live(0)
    check(verdict)
    assert verdict.trace is not None
    assert sum("takes a snapshot" in line for line in verdict.trace) >= ROUNDS


def test_twenty_rounds_of_whole_nodes_lose_nothing() -> None:
    """The same with all tasks of a node."""
    check(live_on_tasks(0))


@pytest.mark.long
@pytest.mark.parametrize("live", [live, live_on_tasks])
def test_a_thousand_rounds_lose_nothing(live: Callable[[int], Verdict]) -> None:
    """As above, in fifty lives of a cluster."""
    with ProcessPoolExecutor(2) as pool:
        verdicts = list(pool.map(live, range(1000 // ROUNDS)))
    for verdict in verdicts:
        check(verdict)
    kills = sum([verdict.faults["kill"] for verdict in verdicts])
    operations = sum([verdict.operations for verdict in verdicts], Counter())
    print(f"{ROUNDS * len(verdicts)} rounds, {kills} nodes killed: {dict(operations)}")


@pytest.mark.parametrize(
    ("bug", "failure"),
    [("acknowledge-before-durable", "durable on a quorum"), ("purge-before-record", "durability")],
)
def test_rounds_find_what_a_kill_can_find(bug: str, failure: str) -> None:
    """What is told, or removed, before the disk has what makes it true is found within a few lives."""
    with PLANTED[bug].plant():
        # Another invariant may notice it first, at another seed.
        assert failure in (live(seed).failure for seed in range(8, 40))
