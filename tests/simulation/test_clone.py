"""A clone of a running node next to that node: real nodes with all their tasks, on virtual time."""

import pytest

from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.campaign.seeds import run_schedule
from raftkv_trio.testing.invariants import violation as named
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.draw import draw_schedule, draw_schedule_on_tasks
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Schedule
from tests.simulation.calm import calm_but_for


def schedule(node: int) -> Schedule:
    """A clone of this node runs for seven seconds in a calm network."""
    clone = Fault(at_s=2.0, kind=FaultKind.CLONE, node=node, duration_s=7.0)
    return calm_but_for(clone, seed=3, duration_s=10)


@pytest.mark.parametrize("node", [1, 2, 3])
def test_a_cluster_goes_on_beside_a_clone(node: int) -> None:
    """The clone dials the members again and again, and the first process keeps its streams and is told."""
    verdict = run_schedule_on_tasks(schedule(node), keep_trace=True)
    assert verdict.failure is None, verdict.text
    assert verdict.trace is not None
    life = [line for line in verdict.trace if f" clone of node {node}: " in line]
    assert [line.partition(": ")[2] for line in life] == ["starts", "ends"]
    others = {1, 2, 3} - {node}
    answers = {i: [line for line in verdict.trace if f" {i}->{1000 + node}: " in line] for i in others}
    assert all(len(lines) > 10 for lines in answers.values())


def test_a_clone_that_is_let_in_is_found() -> None:
    """The test above can fail: if the newest connection counts, both processes throw each other off."""
    with PLANTED["second-process-is-let-in"].plant():
        verdict = run_schedule_on_tasks(schedule(2))
    assert verdict.failure == named.FIRST_PROCESS
    assert "thrown off its stream" in verdict.text


def test_clones_are_drawn_at_level_2_only() -> None:
    """At level 1, where nodes have no connections, a clone does nothing, and no seed has one."""
    seeds = range(200)
    with_clones = [
        seed
        for seed in seeds
        if any(fault.kind is FaultKind.CLONE for fault in draw_schedule_on_tasks(seed).faults)
    ]
    assert 5 <= len(with_clones) <= 20
    assert not any(fault.kind is FaultKind.CLONE for seed in seeds for fault in draw_schedule(seed).faults)
    assert run_schedule(schedule(1)).failure is None
