"""Draws what befalls a disk beyond one fault: a full disk, a directory that is set back, ends without a sync.

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
    Limits,
    Schedule,
)
from raftkv_trio.testing.world.message_network import Conditions


def with_a_disk_that_stays_full(seed: int, schedule: Schedule) -> Schedule | None:
    """In one of ten seeds: a full disk at the next leader, which stays full after all else has healed.

    Other faults come before that, and the leader is lost late: once a node without room takes no entries any
    more, its log is soon too short to be elected. It draws from random numbers of its own.
    """
    random = Random(f"disk stays full {seed}")
    if schedule.nodes < 3 or random.random() < 0.9:
        return None
    node = random.randint(1, schedule.nodes)
    at_s = MIN_DURATION_S - random.uniform(5, 7)
    lost_at_s = at_s + random.uniform(0.5, 2.5)
    scene = (
        Fault(at_s=at_s, kind=FaultKind.DISK_STAYS_FULL, node=node),
        # Its clock is fast, so that mostly it is the first to campaign.
        Fault(at_s=at_s, kind=FaultKind.CLOCK, node=node, factor=4.0, duration_s=PATIENCE_S),
        Fault(
            at_s=lost_at_s,
            kind=random.choice((FaultKind.KILL, FaultKind.PAUSE, FaultKind.STOP)),
            node=node % schedule.nodes + 1,
            leader=True,
            duration_s=4.0,
        ),
    )
    before = [fault for fault in schedule.faults if fault.at_s < at_s - PATIENCE_S]
    if len(before) + len(scene) < MIN_FAULTS:
        return None
    limits = replace(
        schedule.limits,
        segment_bytes=Limits().segment_bytes,
        snapshot_entries=2,  # so that it soon finds out that there is no room
    )
    return replace(schedule, limits=limits, faults=(*before, *scene))


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


def with_unsynced_ends(seed: int, schedule: Schedule) -> Schedule:
    """In one of ten seeds: nodes are killed before the log is synced, start again, and soon lose power.

    What a start finds was in the page cache only, until the start itself has written it again.
    """
    random = Random(f"unsynced ends {seed}")
    if schedule.nodes == 1 or random.random() < 0.9:
        return schedule
    ends = [
        Fault(
            at_s=random.uniform(1, MIN_DURATION_S - 2 * PATIENCE_S),
            kind=FaultKind.HALT_IN_DISK_CALL,
            node=random.randint(1, schedule.nodes),
            number=random.randrange(4),
            duration_s=random.uniform(0.05, 0.3),
            again_s=random.uniform(0.0, 0.2),
        )
        for _ in range(10)
    ]
    faults = sorted([*schedule.faults, *ends], key=lambda fault: fault.at_s)
    return replace(schedule, faults=tuple(faults))
