"""Removed nodes end if those tell them whom they believe: real nodes with all their tasks, simulated."""

import pytest

from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Schedule
from raftkv_trio.testing.world.message_network import Conditions

AWAY = 2
JOINERS = (3, 4)


def cut(at_s: float, others: tuple[int, ...], until_s: float) -> Fault:
    """Nothing passes between node `AWAY` and these."""
    pairs = tuple([pair for i in others for pair in ((AWAY, i), (i, AWAY))])
    return Fault(at_s=at_s, kind=FaultKind.PARTITION, pairs=pairs, duration_s=until_s - at_s)


def replaced_while_cut_off(*, has_met: bool) -> Schedule:
    """Both first nodes are removed, one of them while it is cut off; two joiners stay, and it reaches them.

    Args:
        has_met: whether that one has met the joiners before.
    """
    return Schedule(
        seed=12,
        nodes=2,
        conditions=Conditions(),
        faults=(
            cut(4.0 if has_met else 0.5, JOINERS, until_s=9.0),
            Fault(at_s=2.0, kind=FaultKind.JOIN, number=len(JOINERS), duration_s=0.1),
            cut(4.0, (1,), until_s=30.0),
            Fault(at_s=5.0, kind=FaultKind.REMOVE, node=AWAY),
            Fault(at_s=6.0, kind=FaultKind.REMOVE, node=1),
        ),
        clients=1,
        keys=1,
        operations=40,
        duration_s=13.0,
    )


@pytest.mark.parametrize("has_met", [True, False])
def test_a_removed_node_believes_the_members_that_it_has_met(has_met: bool) -> None:
    """It knows from its log which members stay. Without a secret, those prove themselves that it has met."""
    verdict = run_schedule_on_tasks(replaced_while_cut_off(has_met=has_met), keep_trace=True)
    assert verdict.failure is None, verdict.text
    assert verdict.trace is not None
    end_of_1 = next(float(line.split()[0]) for line in verdict.trace if " node 1: ends: " in line)
    assert end_of_1 < 10.0, "this seed's operator was too slow: nobody but the joiners is to tell it"
    last = [line for line in verdict.trace if float(line.split()[0]) > 9.0]
    for joiner in JOINERS:
        assert any(f" {joiner}->{AWAY}: " in line for line in last), "it does not hear from both"
    ends = f" node {AWAY}: ends: node {AWAY} was removed from its cluster"
    assert any(ends in line for line in last) == has_met
