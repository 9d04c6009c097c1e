"""Draws what befalls a node's disk for longer than one fault: a full disk, a directory that is set back.

Each draws from random numbers of its own, and changes only a few seeds.
"""

from dataclasses import replace
from random import Random

from raftkv_trio.testing.schedules.schedule import (
    MIN_DURATION_S,
    MIN_FAULTS,
    PATIENCE_S,
    Fault,
    FaultKind,
    Schedule,
)
from raftkv_trio.testing.world.message_network import Conditions


def draw_full_disk(seed: int, nodes: int) -> list[Fault]:
    """One disk that is full across elections, and stays full after all else has healed.

    It draws from random numbers of its own, and changes one seed in ten.
    """
    random = Random(f"disk stays full {seed}")
    if nodes < 3 or random.random() < 0.9:
        return []
    last_s = MIN_DURATION_S - PATIENCE_S
    at_s = random.uniform(1, last_s)
    full = Fault(
        at_s=at_s,
        kind=FaultKind.DISK_STAYS_FULL,
        node=random.randint(1, nodes),
        number=random.choice((0, 0, 1000)),
    )
    elections = [
        Fault(
            at_s=random.uniform(max(at_s, MIN_DURATION_S - 2 * PATIENCE_S), MIN_DURATION_S),
            kind=random.choice((FaultKind.KILL, FaultKind.PAUSE, FaultKind.STOP)),
            node=1,
            leader=True,
            duration_s=random.uniform(1.0, 4.0),
        )
        for _ in range(random.randint(1, 4))
    ]
    return [full, *elections]


def with_a_directory_set_back(seed: int, schedule: Schedule) -> Schedule | None:
    """In one of twenty seeds: a follower's directory is set back, and after that there are other faults.

    Until the loss is noticed, there are none: it cannot be noticed under another leader. It draws from random
    numbers of its own.
    """
    random = Random(f"set back {seed}")
    if random.random() < 0.95:
        return None
    set_back = Fault(
        at_s=random.uniform(2, 6),
        kind=FaultKind.SET_BACK,
        node=random.randint(1, 3),
        duration_s=random.uniform(1, 4),
    )
    kinds = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.POWER, FaultKind.STOP, FaultKind.LEADER_CUT_OFF)
    later = [
        Fault(
            at_s=random.uniform(15, MIN_DURATION_S - PATIENCE_S),
            kind=random.choice(kinds),
            node=random.randint(1, 3),
            leader=random.random() < 0.7,
            duration_s=random.uniform(0.05, 3.0),
        )
        for _ in range(random.randint(MIN_FAULTS, 12))
    ]
    return replace(
        schedule,
        nodes=random.choice((3, 3, 5)),
        conditions=Conditions(),
        limits=replace(schedule.limits, election_ticks=10),
        faults=tuple(sorted([set_back, *later], key=lambda fault: fault.at_s)),
    )
