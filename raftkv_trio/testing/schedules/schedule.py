"""What a seed means: a cluster, the conditions of its network, its clients, and a list of faults.

A schedule is drawn completely (`draw.py`) before anything runs, so that it can be shown, kept and shrunk.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations

from raftkv_trio.testing.world.message_network import Conditions

MIN_DURATION_S = 30.0
MIN_OPERATIONS = 200
MIN_FAULTS = 5
#: How long a fault waits for its occasion; then it strikes anyway.
PATIENCE_S = 3.0
DISK_CALL_S = (0.0003, 0.003)


class FaultKind(Enum):
    """What can go wrong; the value is the kind's name for the reader."""

    PARTITION = "partition"
    ONE_WAY = "one-way partition"
    RING = "ring partition"
    LEADER_CUT_OFF = "leader cut off"
    BAD_NETWORK = "loss, duplication and reordering"
    STRAGGLERS = "late frames"
    DISCONNECT = "broken connection"
    POWER = "loss of power"
    POWER_OF_ALL = "loss of power of all nodes"
    HALT_IN_DISK_CALL = "halt in a disk call"
    KILL = "kill"
    STOP = "clean restart"
    PAUSE = "pause"
    CLOCK = "clock rate"
    SLOW_DISK = "slow disk"
    EIO = "EIO"
    DISK_FULL = "disk full"
    DISK_STAYS_FULL = "disk full until a leader has room"
    BIT_ROT = "bit rot"
    SET_BACK = "data directory set back"
    CLONE = "clone of a node"
    STRANGER = "Byzantine stranger"
    TRANSFER = "leadership transfer"
    JOIN = "node joins"
    REMOVE = "member removed"
    REPLACE = "member replaced"


#: Kinds that are no faults but acts of an operator.
RESHAPING = frozenset({FaultKind.JOIN, FaultKind.REMOVE, FaultKind.REPLACE})


class Occasion(Enum):
    """What happens to a node, and a fault can wait for; the value is for the reader."""

    ELECTED = "is elected"
    INSTALLED = "has installed a snapshot"
    UNTIDY = "has begun a segment or recorded a snapshot"
    CHANGED = "has applied a change of members"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a node's configuration, tight enough to bring about rare events; see `NodeConfig`."""

    election_ticks: int = 10
    max_message_bytes: int = 1024 * 1024
    max_inflight_messages: int = 256
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    segment_bytes: int = 4096
    snapshot_entries: int = 8
    snapshot_log_share: float = 0.0
    catch_up_entries: int = 2
    max_catch_up_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        at_s: start of the fault, in seconds from the beginning.
        duration_s: time until the fault is over, or until the node is started again.
        node: the node that it strikes; None: all nodes, or those in `pairs`.
        leader: it strikes the leader of that moment instead, and `node` only if there is no leader.
        waits_for: it strikes when this next happens to a node: that node, but for an election as above.
        pairs: the pairs (sender, receiver) that are cut.
        number: disk operations until a halt or an error; bits flipped; bytes free; nodes on a leader's side;
            members changed in one request.
        factor: the clock's rate; the probability of loss or delay; the longest disk call, in seconds.
        power: whether a halt loses what was not synced.
        again_s: the node loses power this long after its next start; None: it does not.
        forced: whether members are changed although those that respond would not form a quorum.
    """

    at_s: float
    kind: FaultKind
    duration_s: float = 0.0
    node: int | None = None
    leader: bool = False
    waits_for: Occasion | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    number: int = 0
    factor: float = 0.0
    power: bool = False
    again_s: float | None = None
    forced: bool = False

    def __str__(self) -> str:
        at = (
            f"at {self.at_s:.3f} s{f', or when a node {self.waits_for.value} then' if self.waits_for else ''}"
        )
        parts = [f"{at}: {self.kind.value}"]
        if self.node is not None:
            parts.append(f"node {self.node}{' or the leader' if self.leader else ''}")
        if self.pairs:
            parts.append(", ".join([f"{sender}->{receiver}" for sender, receiver in self.pairs]))
        if self.number:
            parts.append(f"number {self.number}")
        if self.factor:
            parts.append(f"factor {self.factor:.3f}")
        if self.power:
            parts.append("power lost")
        if self.forced:
            parts.append("by force")
        if self.duration_s:
            parts.append(f"for {self.duration_s:.3f} s")
        if self.again_s is not None:
            parts.append(f"power lost {self.again_s:.3f} s after the start")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One simulation.

    Attributes:
        seed: seed of everything that is random during the run.
        duration_s: how long faults and clients go on; then all heals.
        turn_delay_s: the longest time until a node acts on an input.
        haste: the probability that an idle client sends its next request when a fault strikes.
        disk_call_s: the shortest and the longest time of a disk call.
        pursuit: whether at the end a member that was away must catch up while writers go on.
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
    disk_call_s: tuple[float, float] = DISK_CALL_S
    pursuit: bool = False


def one_way(senders: Iterable[int], receivers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The pairs to cut so that `receivers` hear nothing from `senders`."""
    return tuple([(a, b) for a in senders for b in receivers])


def ring(nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The pairs to cut so that each node keeps two neighbours in a ring; three nodes are left in a row."""
    neighbours = {frozenset(pair) for pair in zip(nodes, [*nodes[1:], nodes[0]], strict=True)}
    if len(nodes) == 3:
        neighbours.discard(frozenset((nodes[0], nodes[-1])))
    apart = [pair for pair in combinations(nodes, 2) if frozenset(pair) not in neighbours]
    return (*apart, *[(b, a) for a, b in apart])


#: The lowest value of each field that can be lowered.
LOWEST: dict[str, int] = {"nodes": 1, "clients": 1, "keys": 1, "operations": 1, "duration_s": 1}
