"""Draws the schedule of a seed.

Swarm testing (Groce et al., 2012): each seed turns some kinds of faults off and others up, since one kind may
hide what another brings about.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

from raftkv_trio.testing.schedules.draw_disks import (
    with_a_directory_set_back,
    with_a_disk_that_stays_full,
    with_unsynced_ends,
)
from raftkv_trio.testing.schedules.draw_intruders import with_a_clone, with_a_stranger
from raftkv_trio.testing.schedules.draw_reshaping import draw_reshaping
from raftkv_trio.testing.schedules.schedule import (
    DISK_CALL_S,
    MIN_DURATION_S,
    MIN_FAULTS,
    PATIENCE_S,
    RESHAPING,
    Fault,
    FaultKind,
    Limits,
    Occasion,
    Schedule,
    one_way,
    ring,
)
from raftkv_trio.testing.world.message_network import Conditions


def draw_schedule(seed: int) -> Schedule:
    """The schedule of a seed: equal seeds give equal schedules, on every machine."""
    return with_a_stranger(seed, _draw_among_members(seed))


def _draw_among_members(seed: int) -> Schedule:
    schedule = _with_narrow_links(seed, _with_distance(seed, _draw_schedule(seed)))
    for with_disk in (with_a_directory_set_back, with_a_disk_that_stays_full):
        if (changed := with_disk(seed, schedule)) is not None:
            return changed
    schedule = _with_pursuit(seed, _with_rare_snapshots(seed, schedule))
    schedule = with_unsynced_ends(seed, _with_silence(seed, schedule))
    faults = [*schedule.faults, *draw_reshaping(seed, schedule.nodes)]
    faults.sort(key=lambda fault: fault.at_s)
    return replace(schedule, faults=tuple(faults))


def draw_schedule_on_tasks(seed: int) -> Schedule:
    """The schedule of a seed at level 2: as at level 1, and with what needs connections between nodes."""
    return with_a_clone(seed, draw_schedule(seed))


def _draw_schedule(seed: int) -> Schedule:
    random = Random(seed)
    nodes = random.choice((3, 3, 3, 3, 3, 5, 5, 4, 2, 1))
    limits = _draw_limits(random)
    schedule = Schedule(
        seed=seed,
        nodes=nodes,
        conditions=_draw_conditions(random, now_and_then=0.5),
        limits=limits,
        faults=tuple(_draw_faults(random, nodes, limits.election_ticks * 0.1)),
        clients=random.choice((2, 3, 4, 5, 6, 12)),
        keys=random.randint(1, 5),
        turn_delay_s=random.choice((0.0001, 0.0005, 0.0005, 0.005)),
        haste=random.choice((0.0, 0.5, 1.0, 1.0)),
        disk_call_s=random.choice((DISK_CALL_S, DISK_CALL_S, (0.003, 0.03))),
    )
    return _with_returns_only(random, schedule) if nodes > 2 and random.random() < 0.15 else schedule


def _with_distance(seed: int, schedule: Schedule) -> Schedule:
    """In one of ten seeds the nodes are far apart: a round trip takes up to an election timeout.

    It takes a tick less, since the first quorum check of a leader may come a tick early. Clients are many and
    messages large, so that all operations have time. It draws from random numbers of its own.
    """
    random = Random(f"distance {seed}")
    if random.random() < 0.9:
        return schedule
    transit_s = random.uniform(0.3, 0.95) * (schedule.limits.election_ticks - 1) * 0.1 / 2
    conditions = replace(schedule.conditions, delay_s=(0.9 * transit_s, transit_s))
    wide = Limits()
    limits = replace(
        schedule.limits,
        max_message_bytes=wide.max_message_bytes,
        max_inflight_messages=wide.max_inflight_messages,
    )
    return replace(schedule, conditions=conditions, limits=limits, clients=12)


def _with_rare_snapshots(seed: int, schedule: Schedule) -> Schedule:
    """In one of four seeds snapshots are far apart, as those of a large state are."""
    random = Random(f"rare snapshots {seed}")
    if random.random() < 0.75:
        return schedule
    limits = replace(schedule.limits, snapshot_log_share=random.choice((1.0, 5.0, 30.0)))
    return replace(schedule, limits=limits)


def _with_narrow_links(seed: int, schedule: Schedule) -> Schedule:
    """In one of ten seeds links carry little, so that bytes wait for each other; at level 2."""
    random = Random(f"bandwidth {seed}")
    if random.random() < 0.9:
        return schedule
    bytes_per_s = random.choice((10_000.0, 30_000.0, 100_000.0))
    return replace(schedule, conditions=replace(schedule.conditions, bytes_per_s=bytes_per_s))


def _with_silence(seed: int, schedule: Schedule) -> Schedule:
    """In one of four seeds hosts die with their processes: nobody hears that their connections have ended."""
    random = Random(f"silence {seed}")
    if random.random() < 0.75:
        return schedule
    return replace(schedule, conditions=replace(schedule.conditions, silence=random.choice((0.5, 1.0))))


def _with_pursuit(seed: int, schedule: Schedule) -> Schedule:
    """In one of twenty seeds a member must catch up while writers go on, with short logs behind snapshots.

    Not over narrow links: they carry less than is written then.
    """
    if (
        schedule.nodes < 3
        or schedule.conditions.bytes_per_s is not None
        or Random(f"pursuit {seed}").random() < 0.95
    ):
        return schedule
    wide = Limits()
    limits = replace(
        schedule.limits,
        max_message_bytes=wide.max_message_bytes,
        max_inflight_messages=wide.max_inflight_messages,
        max_uncommitted_bytes=wide.max_uncommitted_bytes,
        snapshot_entries=4,
        catch_up_entries=0,
    )
    return replace(schedule, limits=limits, pursuit=True)


def _draw_limits(random: Random) -> Limits:
    wide = Limits()
    return Limits(
        election_ticks=random.choice((3, 5, 10, 10, 20)),
        max_message_bytes=random.choice((0, 0, 300, wide.max_message_bytes)),
        max_inflight_messages=random.choice((1, 2, wide.max_inflight_messages)),
        max_uncommitted_bytes=random.choice((100, 1000, wide.max_uncommitted_bytes)),
        segment_bytes=random.choice((1024, wide.segment_bytes)),
        snapshot_entries=random.choice((2, 2, wide.snapshot_entries, 30, 10_000)),
        catch_up_entries=random.choice((0, 0, wide.catch_up_entries, 10)),
    )


def _draw_faults(random: Random, nodes: int, election_timeout_s: float) -> list[Fault]:
    weights = {
        kind: random.choice((0, 0, 1, 1, 3, 10))
        for kind in FaultKind
        if kind not in _OF_SCENES and (nodes > 1 or kind not in _FOR_SEVERAL)
    }
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    rotten = random.sample(range(1, nodes + 1), (nodes - 1) // 2)
    if not rotten:
        weights[FaultKind.BIT_ROT] = 0
        weights[FaultKind.POWER] += 1
    count = random.randint(MIN_FAULTS, 20)
    kinds = random.choices(list(weights), list(weights.values()), k=count)
    leaders, waits = random.choice((0.0, 0.5, 1.0)), random.choice((0.0, 0.0, 0.5))
    faults = []
    for at_s, kind in zip(_draw_moments(random, count), kinds, strict=True):
        fault = _draw_fault(random, at_s, kind, nodes, rotten)
        if kind in _FOR_LEADERS:
            waits_for = random.choice(_OCCASIONS) if random.random() < waits else None
            fault = replace(fault, leader=random.random() < leaders, waits_for=waits_for)
        faults.append(fault)
    if rotten and random.random() < 0.3:
        moments = _draw_moments(random, 4)
        faults += [_draw_fault(random, at_s, FaultKind.BIT_ROT, nodes, rotten) for at_s in moments]
    if nodes > 2 and random.random() < 0.5:
        for _ in range(3):
            faults += _draw_contest(random)
    if nodes > 2 and random.random() < 0.5:
        for _ in range(3):
            faults += _draw_return(
                random, election_timeout_s, random.uniform(1, MIN_DURATION_S - 4 * PATIENCE_S)
            )
    if nodes > 1 and random.random() < 0.5:
        for _ in range(4):
            faults += _draw_round_trip(random)
    return sorted(faults, key=lambda fault: fault.at_s)


def _draw_contest(random: Random) -> list[Fault]:
    """Leaders cut off with pending writes, each right after its election (as in the paper's figure 8)."""
    at_s = random.uniform(1, MIN_DURATION_S - 4 * PATIENCE_S)
    slow_disk_s = random.choice((0.0, 3.0))
    contest = []
    for number in range(random.randint(1, 3)):
        contest.append(
            Fault(
                at_s=at_s,
                kind=FaultKind.LEADER_CUT_OFF,
                duration_s=random.uniform(0.3, 3.0),
                node=1,
                leader=True,
                waits_for=Occasion.ELECTED if number else None,
                factor=slow_disk_s,
            )
        )
        at_s += random.uniform(0.05, 1.5)
    return contest


def _with_returns_only(random: Random, schedule: Schedule) -> Schedule:
    """Leaders that return one after the other, each with many entries of its own, and with short logs."""
    limits = replace(
        schedule.limits,
        election_ticks=random.choice((3, 5)),
        max_uncommitted_bytes=Limits().max_uncommitted_bytes,
        snapshot_entries=2,
        catch_up_entries=0,
    )
    faults: list[Fault] = []
    at_s = 1.0
    while at_s < MIN_DURATION_S - 2 * PATIENCE_S:
        faults += _draw_return(random, limits.election_ticks * 0.1, at_s)
        at_s += PATIENCE_S
    faults.sort(key=lambda fault: fault.at_s)
    return replace(schedule, limits=limits, faults=tuple(faults), clients=12, haste=1.0)


def _draw_return(random: Random, election_timeout_s: float, at_s: float) -> list[Fault]:
    """A leader, cut off with pending writes, comes back to a new leader, perhaps while its disk is busy.

    Its entries are overwritten, or replaced by a snapshot. Soon it is halted, and must start from its disk.
    """
    away_s = min(PATIENCE_S, random.uniform(1, 4) * election_timeout_s)
    faults = [
        Fault(
            at_s=at_s + random.uniform(0, 0.2),
            kind=FaultKind.LEADER_CUT_OFF,
            node=1,
            leader=True,
            duration_s=away_s,
        )
    ]
    if random.random() < 0.5:
        faults.append(
            Fault(
                at_s=at_s,
                kind=FaultKind.SLOW_DISK,
                node=1,
                leader=True,
                duration_s=random.uniform(0.1, 1.0),
                factor=3 * away_s,
            )
        )
    back_s = at_s + away_s
    if random.random() < 0.7:
        kind, waits_for = random.choice((FaultKind.POWER, FaultKind.KILL)), Occasion.INSTALLED
    else:
        kind, waits_for, back_s = FaultKind.POWER_OF_ALL, None, back_s + random.uniform(0, 2 * away_s)
    faults.append(
        Fault(
            at_s=back_s,
            kind=kind,
            node=1 if waits_for else None,
            waits_for=waits_for,
            duration_s=random.uniform(0.05, 1.0),
        )
    )
    return faults


def _draw_round_trip(random: Random) -> list[Fault]:
    """Leadership moves away and back, perhaps before messages to the earlier leader have arrived."""
    at_s = random.uniform(1, MIN_DURATION_S - 2 * PATIENCE_S)
    interval_s = random.choice((0.05, 0.1, 0.2))
    trips = [at_s + interval_s * number * random.uniform(0.8, 1.2) for number in range(6)]
    faults = [Fault(at_s=moment, kind=FaultKind.TRANSFER) for moment in trips]
    if random.random() < 0.7:
        faults.append(
            Fault(
                at_s=at_s,
                kind=FaultKind.STRAGGLERS,
                duration_s=6 * interval_s,
                factor=random.uniform(0.1, 0.5),
            )
        )
    return faults


def _draw_moments(random: Random, count: int) -> list[float]:
    """Moments of faults: in half of all seeds in bunches, so that faults overlap."""
    last_s = MIN_DURATION_S - 2 * PATIENCE_S
    if random.random() < 0.5:
        return sorted([random.uniform(0, last_s) for _ in range(count)])
    bunches = [random.uniform(0, last_s) for _ in range(random.randint(2, 5))]
    return sorted([min(random.choice(bunches) + random.expovariate(1.0), last_s) for _ in range(count)])


_OCCASIONS = (Occasion.ELECTED, Occasion.INSTALLED, Occasion.UNTIDY)
#: Kinds that are drawn with what belongs to them, and not by themselves.
_OF_SCENES = RESHAPING | {FaultKind.DISK_STAYS_FULL, FaultKind.SET_BACK, FaultKind.CLONE, FaultKind.STRANGER}
_FOR_SEVERAL = frozenset(
    {
        FaultKind.PARTITION,
        FaultKind.ONE_WAY,
        FaultKind.RING,
        FaultKind.LEADER_CUT_OFF,
        FaultKind.BAD_NETWORK,
        FaultKind.STRAGGLERS,
        FaultKind.DISCONNECT,
        FaultKind.TRANSFER,
    }
)
_FOR_LEADERS = frozenset(
    {
        FaultKind.LEADER_CUT_OFF,
        FaultKind.POWER,
        FaultKind.HALT_IN_DISK_CALL,
        FaultKind.KILL,
        FaultKind.STOP,
        FaultKind.PAUSE,
        FaultKind.CLOCK,
        FaultKind.SLOW_DISK,
        FaultKind.EIO,
        FaultKind.DISK_FULL,
    }
)


def _draw_conditions(random: Random, *, now_and_then: float) -> Conditions:
    def maybe(highest: float) -> float:
        return random.uniform(0, highest) if random.random() < now_and_then else 0.0

    slowest = random.choice((0.001, 0.002, 0.002, 0.02, 0.1))
    return Conditions(
        loss=maybe(0.1),
        duplication=maybe(0.2),
        delay_s=(slowest / 10, slowest),
        stray=maybe(0.05),
        reorders=random.random() < now_and_then,
    )


def _draw_fault(random: Random, at_s: float, kind: FaultKind, nodes: int, rotten: Sequence[int]) -> Fault:
    ids = range(1, nodes + 1)
    node: int | None = random.choice(ids)
    duration_s = random.uniform(0.05, random.choice((0.3, 1.0, 3.0, 8.0)))
    pairs: tuple[tuple[int, int], ...] = ()
    number, factor, power = 0, 0.0, False
    again_s: float | None = None
    match kind:
        case FaultKind.PARTITION | FaultKind.ONE_WAY:
            side = random.sample(ids, random.randint(1, nodes - 1))
            pairs = one_way(side, [i for i in ids if i not in side])
            if kind is FaultKind.PARTITION:
                pairs += tuple([(b, a) for a, b in pairs])
            node = None
        case FaultKind.RING:
            pairs, node = ring(random.sample(ids, nodes)), None
        case FaultKind.LEADER_CUT_OFF:
            number, factor = random.randrange((nodes + 1) // 2), random.choice((0.0, 0.5, 3.0))
        case FaultKind.BAD_NETWORK | FaultKind.STRAGGLERS:
            factor, node = random.uniform(0.05, 0.5), None
        case FaultKind.DISCONNECT:
            pairs, node = (random.choice(list(permutations(ids, 2))),), None
            duration_s = 0.0
        case FaultKind.HALT_IN_DISK_CALL:
            number, power = random.randrange(random.choice((5, 60))), random.random() < 0.5
            again_s = random.choice((None, random.uniform(0, 0.1)))
        case FaultKind.EIO:
            number = random.randrange(random.choice((5, 60)))
            again_s = random.choice((None, random.uniform(0, 0.1)))
        case FaultKind.KILL:
            again_s = random.choice((None, random.uniform(0, 0.1)))
        case FaultKind.SLOW_DISK:
            factor = random.choice((0.05, 0.5, 3.0))
        case FaultKind.DISK_FULL:
            number = random.choice((0, 0, 1000, 20_000))
        case FaultKind.BIT_ROT:
            node, number, power = random.choice(rotten), random.choice((1, 1, 1, 5)), random.random() < 0.5
        case FaultKind.CLOCK:
            factor = random.choice((0.5, 0.8, 0.95, 1.05, 1.25, 2.0, 10.0))
        case FaultKind.POWER_OF_ALL | FaultKind.TRANSFER:
            node = None
    return Fault(
        at_s=at_s,
        kind=kind,
        duration_s=duration_s,
        node=node,
        pairs=pairs,
        number=number,
        factor=factor,
        power=power,
        again_s=again_s,
    )
