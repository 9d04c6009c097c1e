"""Draws processes that do not belong to the cluster and speak to its members: a clone, a stranger.

It draws from random numbers of its own, and changes only a few seeds.
"""

from dataclasses import replace
from random import Random

from raftkv_trio.testing.schedules.schedule import (
    MIN_DURATION_S,
    MIN_FAULTS,
    PATIENCE_S,
    RESHAPING,
    Fault,
    FaultKind,
    Schedule,
)
from raftkv_trio.testing.world.message_network import Conditions

_ENDS = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.POWER, FaultKind.STOP, FaultKind.TRANSFER)

#: They say themselves what else befalls their nodes.
_SCENES = (FaultKind.SET_BACK, FaultKind.DISK_STAYS_FULL)


def with_a_clone(seed: int, schedule: Schedule) -> Schedule:
    """In one of twenty seeds: a copy of a running node's directory is started as a second process.

    In half of them under all the faults that are drawn, but without changes of members: a single voter is a
    quorum by itself, and so is its clone. In the other half in a calm network, and nothing befalls the node
    itself: it must keep its connections. It is for level 2.
    """
    random = Random(f"clone {seed}")
    if random.random() < 0.95 or any(fault.kind in _SCENES for fault in schedule.faults):
        return schedule
    nodes = max(3, schedule.nodes)
    node = random.randint(1, nodes)
    at_s = random.uniform(2, MIN_DURATION_S - PATIENCE_S)
    clone = Fault(at_s=at_s, kind=FaultKind.CLONE, node=node, duration_s=random.uniform(2, 12))
    if random.random() < 0.5:
        faults = [fault for fault in schedule.faults if fault.kind not in RESHAPING]
        return _with(schedule, [clone, *faults], nodes)
    others = [other for other in range(1, nodes + 1) if other != node]
    ends = [
        Fault(
            at_s=random.uniform(1, MIN_DURATION_S - PATIENCE_S),
            kind=random.choice(_ENDS),
            node=random.choice(others),
            duration_s=random.uniform(0.05, 3.0),
        )
        for _ in range(random.randint(MIN_FAULTS, 8))
    ]
    return _with(replace(schedule, conditions=Conditions()), [clone, *ends], nodes)


def with_a_stranger(seed: int, schedule: Schedule) -> Schedule:
    """In one of ten seeds: a process that is in no configuration says to members whatever may harm them.

    Once to thrice, whatever else befalls them; and it may go on when all has healed.
    """
    random = Random(f"stranger {seed}")
    if random.random() < 0.9:
        return schedule
    strangers = [
        Fault(
            at_s=random.uniform(0, MIN_DURATION_S - 1),
            kind=FaultKind.STRANGER,
            duration_s=random.uniform(0.5, random.choice((2, 10))),
        )
        for _ in range(random.randint(1, 3))
    ]
    return _with(schedule, [*schedule.faults, *strangers], schedule.nodes)


def _with(schedule: Schedule, faults: list[Fault], nodes: int) -> Schedule:
    return replace(schedule, nodes=nodes, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)))
