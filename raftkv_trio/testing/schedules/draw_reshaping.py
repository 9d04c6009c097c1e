"""Draws an operator's changes of members, and faults that strike meanwhile.

It draws from random numbers of its own, and changes only half of all seeds.
"""

from dataclasses import replace
from random import Random

from raftkv_trio.testing.schedules.schedule import (
    MIN_DURATION_S,
    PATIENCE_S,
    Fault,
    FaultKind,
    Occasion,
    one_way,
)


def draw_reshaping(seed: int, nodes: int) -> list[Fault]:
    """Changes of members, faults that wait for them, and faults that aim at new members."""
    random = Random(f"members {seed}")
    if random.random() < 0.5:
        return []
    weights = {
        FaultKind.JOIN: random.choice((1, 3, 10)),
        FaultKind.REMOVE: random.choice((0, 1, 3, 10)),
        FaultKind.REPLACE: random.choice((0, 1, 3)),
    }
    aims, haste_s = random.choice((0.0, 0.5, 1.0)), random.choice((0.3, 3.0))
    faults: list[Fault] = []
    at_s = random.uniform(1, 5)
    for kind in random.choices(list(weights), list(weights.values()), k=random.randint(2, 10)):
        change = _draw_change(random, at_s, kind, nodes)
        faults.append(change)
        if random.random() < aims:
            faults.append(_draw_disturbance(random, at_s, nodes + 4))
        if random.random() < 0.3:
            again = random.choice((change, _draw_change(random, at_s, kind, nodes)))
            faults.append(replace(again, at_s=at_s + random.uniform(0, haste_s)))
        at_s += random.expovariate(1 / random.choice((haste_s, 3.0)))
        if at_s > MIN_DURATION_S - 2 * PATIENCE_S:
            break
    return faults


def _draw_change(random: Random, at_s: float, kind: FaultKind, nodes: int) -> Fault:
    is_forced = random.random() < 0.3
    if kind is FaultKind.JOIN:
        return Fault(
            at_s=at_s,
            kind=kind,
            node=random.randint(1, nodes + 2) if random.random() < 0.3 else None,
            number=random.choice((1, 1, 1, 2)),
            duration_s=random.choice((0.0, random.uniform(0, 3))),
            forced=is_forced,
        )
    return Fault(
        at_s=at_s,
        kind=kind,
        node=random.randint(1, nodes + 3),
        leader=random.random() < 0.4,
        number=random.choice((1, 1, 1, 2)),
        duration_s=random.choice((0.0, random.uniform(0, 3))),
        forced=is_forced,
    )


def _draw_disturbance(random: Random, at_s: float, ids: int) -> Fault:
    """A fault that strikes when a change is applied, or while it is pending."""
    kind = random.choice(
        (
            FaultKind.POWER,
            FaultKind.POWER_OF_ALL,
            FaultKind.KILL,
            FaultKind.LEADER_CUT_OFF,
            FaultKind.PAUSE,
            FaultKind.PARTITION,
            FaultKind.ONE_WAY,
            FaultKind.TRANSFER,
        )
    )
    fault = Fault(
        at_s=at_s + random.uniform(0, 0.3),
        kind=kind,
        node=random.randint(1, ids),
        leader=random.random() < 0.6,
        duration_s=random.uniform(0.05, random.choice((0.3, 1.0, 3.0))),
        waits_for=random.choice((None, Occasion.CHANGED, Occasion.CHANGED, Occasion.ELECTED)),
    )
    if kind in (FaultKind.PARTITION, FaultKind.ONE_WAY):
        side = random.sample(range(1, ids + 1), random.randint(1, ids - 1))
        pairs = one_way(side, [i for i in range(1, ids + 1) if i not in side])
        if kind is FaultKind.PARTITION:
            pairs += tuple([(b, a) for a, b in pairs])
        return replace(fault, node=None, leader=False, pairs=pairs)
    if kind is FaultKind.LEADER_CUT_OFF:
        return replace(fault, leader=True, number=random.randrange(3))
    if kind in (FaultKind.POWER_OF_ALL, FaultKind.TRANSFER):
        return replace(fault, node=None, leader=False)
    return fault
