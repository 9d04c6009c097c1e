"""What a seed means: a cluster, the conditions of its network, its clients, and a list of faults.

A schedule is drawn whole before anything runs, so that it can be shown, and shrunk, as it is. Swarm style
(Groce et al., "Swarm testing", 2012): each seed turns some kinds of faults off and others up, since what
one kind brings about another may hide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import combinations, permutations
from random import Random

from raftkv_trio.testing.member import Limits
from raftkv_trio.testing.message_network import Conditions

MIN_DURATION_S = 30.0
MIN_OPERATIONS = 200
MIN_FAULTS = 5
#: How long a fault waits for somebody to be elected.
PATIENCE_S = 3.0


class FaultKind(Enum):
    """What can go wrong; the value is its name for the reader."""

    PARTITION = "partition"
    ONE_WAY = "one-way partition"
    RING = "ring partition"
    LEADER_CUT_OFF = "leader cut off"
    BAD_NETWORK = "loss, duplication and reordering"
    DISCONNECT = "broken connection"
    POWER = "loss of power"
    POWER_OF_ALL = "loss of power of all"
    HALT_IN_DISK_CALL = "halt in a disk call"
    KILL = "kill"
    STOP = "clean restart"
    PAUSE = "pause"
    CLOCK = "clock rate"
    SLOW_DISK = "slow disk"
    EIO = "EIO"
    DISK_FULL = "disk full"
    BIT_ROT = "bit rot"
    TRANSFER = "leadership transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        at_s: when, from the beginning.
        duration_s: until it is over, or until the node is started again.
        node: where; None: everywhere, or where `pairs` says.
        leader: where whoever leads then is, and at `node` where nobody does.
        waits: not at once, but as soon as somebody has won an election.
        pairs: (sender, receiver) that are cut.
        number: disk operations until a halt or an error; bits flipped; bytes free; nodes on a leader's side.
        factor: the clock's rate, the probability of loss, or seconds that a slow disk call takes at most.
        power: whether a halt is one that loses what was not synced.
        again_s: how long after its next start the node loses power; None: it does not.
    """

    at_s: float
    kind: FaultKind
    duration_s: float = 0.0
    node: int | None = None
    leader: bool = False
    waits: bool = False
    pairs: tuple[tuple[int, int], ...] = ()
    number: int = 0
    factor: float = 0.0
    power: bool = False
    again_s: float | None = None

    def __str__(self) -> str:
        at = f"at {self.at_s:.3f} s{', or when somebody is elected then' if self.waits else ''}"
        parts = [f"{at}: {self.kind.value}"]
        if self.node is not None:
            parts.append(f"node {self.node}{' or whoever leads' if self.leader else ''}")
        if self.pairs:
            parts.append(", ".join([f"{sender}->{receiver}" for sender, receiver in self.pairs]))
        if self.number:
            parts.append(f"number {self.number}")
        if self.factor:
            parts.append(f"factor {self.factor:.3f}")
        if self.power:
            parts.append("power lost")
        if self.duration_s:
            parts.append(f"for {self.duration_s:.3f} s")
        if self.again_s is not None:
            parts.append(f"power lost {self.again_s:.3f} s after the start")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One simulation.

    Attributes:
        seed: of everything that is random while it runs.
        duration_s: how long faults and clients go on; then all heals.
        turn_delay_s: longest time that a node takes to act on what it was told.
        haste: the probability that a client that waits asks the leader something when a fault strikes.
    """

    seed: int
    nodes: int
    conditions: Conditions
    limits: Limits = field(default_factory=Limits)
    faults: tuple[Fault, ...]
    clients: int
    keys: int
    operations: int = MIN_OPERATIONS
    duration_s: float = MIN_DURATION_S
    turn_delay_s: float = 0.0005
    haste: float = 0.0


def draw_schedule(seed: int) -> Schedule:
    """The schedule of a seed: the same for the same seed, always and everywhere."""
    random = Random(seed)
    nodes = random.choice((3, 3, 3, 3, 3, 5, 5, 4, 2, 1))
    return Schedule(
        seed=seed,
        nodes=nodes,
        conditions=_draw_conditions(random, now_and_then=0.5),
        limits=_draw_limits(random),
        faults=tuple(_draw_faults(random, nodes)),
        clients=random.randint(2, 6),
        keys=random.randint(1, 5),
        turn_delay_s=random.choice((0.0001, 0.0005, 0.0005, 0.005)),
        haste=random.choice((0.0, 0.5, 1.0, 1.0)),
    )


def _draw_limits(random: Random) -> Limits:
    wide = Limits()
    return Limits(
        election_ticks=random.choice((3, 5, 10, 10, 20)),
        max_message_bytes=random.choice((0, 0, 300, wide.max_message_bytes)),
        max_inflight_messages=random.choice((1, 2, wide.max_inflight_messages)),
        max_uncommitted_bytes=random.choice((100, 1000, wide.max_uncommitted_bytes)),
        snapshot_entries=random.choice((wide.snapshot_entries, 30, 10_000)),
    )


def _draw_faults(random: Random, nodes: int) -> list[Fault]:
    weights = {
        kind: random.choice((0, 0, 1, 1, 3, 10))
        for kind in FaultKind
        if nodes > 1 or kind not in _FOR_SEVERAL
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
            fault = replace(fault, leader=random.random() < leaders, waits=random.random() < waits)
        faults.append(fault)
    if nodes > 2 and random.random() < 0.5:
        for _ in range(3):
            faults += _draw_contest(random)
    return sorted(faults, key=lambda fault: fault.at_s)


def _draw_contest(random: Random) -> list[Fault]:
    """Leaders cut off with writes under way, each as it is elected (as in the paper's figure 8)."""
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
                waits=number > 0,
                factor=slow_disk_s,
            )
        )
        at_s += random.uniform(0.05, 1.5)
    return contest


def _draw_moments(random: Random, count: int) -> list[float]:
    """Moments of faults: in half of all seeds in bunches, so that one begins before another is over."""
    last_s = MIN_DURATION_S - 2 * PATIENCE_S
    if random.random() < 0.5:
        return sorted([random.uniform(0, last_s) for _ in range(count)])
    bunches = [random.uniform(0, last_s) for _ in range(random.randint(2, 5))]
    return sorted([min(random.choice(bunches) + random.expovariate(1.0), last_s) for _ in range(count)])


_FOR_SEVERAL = frozenset(
    {
        FaultKind.PARTITION,
        FaultKind.ONE_WAY,
        FaultKind.RING,
        FaultKind.LEADER_CUT_OFF,
        FaultKind.BAD_NETWORK,
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
        case FaultKind.BAD_NETWORK:
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


def one_way(senders: Iterable[int], receivers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The pairs to cut so that `receivers` hear nothing of `senders`."""
    return tuple([(a, b) for a in senders for b in receivers])


def ring(nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The pairs to cut so that each node has two neighbours left in a ring, or, of three, in a row."""
    neighbours = {frozenset(pair) for pair in zip(nodes, [*nodes[1:], nodes[0]], strict=True)}
    if len(nodes) == 3:
        neighbours.discard(frozenset((nodes[0], nodes[-1])))
    apart = [pair for pair in combinations(nodes, 2) if frozenset(pair) not in neighbours]
    return (*apart, *[(b, a) for a, b in apart])
