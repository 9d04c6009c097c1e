"""What a run measures, and how long."""

from dataclasses import dataclass

from benchmarks.contestants import Contestant, Echo, Etcd, Ours, OursAsEtcd
from benchmarks.measurements.growth import Series
from benchmarks.measurements.state import FEW_KEYS, Lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that differs between runs.

    Attributes:
        limit_s: the whole run ends with an error after this time.
        rounds: of the loads, of the disk, and of proposals.
        seconds: of each load.
        contestants: over HTTP, in the order of their turns.
        loads: operation and number of clients.
        load_keys: each load is on so many keys.
        etcd_api: contestants that are asked by etcd's API, in the order of their turns.
        proposals: whether the node without HTTP is measured.
        state_nodes, keys: for what is measured with few and with many keys.
        state_lasts_s: how long PUTs go on there.
        traced_puts: whose way is followed, one after the other.
        kills: of the leader.
        series: for growth; None measures none.
        growth_limit_s: points of growth whose turn would come later are left out.
    """

    limit_s: int
    rounds: int
    seconds: float
    contestants: tuple[Contestant, ...]
    loads: tuple[tuple[str, int], ...]
    load_keys: int
    etcd_api: tuple[Contestant, ...]
    proposals: bool
    state_nodes: int
    keys: tuple[int, ...]
    state_lasts_s: Lasts
    traced_puts: int
    kills: int
    series: Series | None
    growth_limit_s: float


def full_plan(*, rounds: int, seconds: float, keys: int, limit_s: int) -> Plan:
    """The whole table; `keys` is the largest state."""
    powers = tuple(10**power for power in range(3, 8) if 10**power <= keys)
    return Plan(
        limit_s=limit_s,
        rounds=rounds,
        seconds=seconds,
        contestants=(Ours(3), Etcd(3), Ours(1), Echo()),
        loads=(("get", 64), ("get", 1), ("put", 1), ("put", 64), ("put", 256)),
        load_keys=1000,
        etcd_api=(OursAsEtcd(3), Etcd(3)),
        proposals=True,
        state_nodes=3,
        keys=tuple(dict.fromkeys((FEW_KEYS, keys))),
        state_lasts_s=Lasts(least=6 * seconds, most=600.0, step=seconds),
        traced_puts=500,
        kills=5 * rounds,
        series=Series(
            keys=powers,
            clients=(1, 4, 16, 64, 256),
            value_bytes=(100, 1000, 10_000, 100_000, 1_000_000),
            nodes=(1, 3, 5),
        ),
        growth_limit_s=840.0,
    )


def quick_plan() -> Plan:
    """A smoke test: every part runs once, on little; its figures say nothing."""
    return Plan(
        limit_s=120,
        rounds=1,
        seconds=0.2,
        contestants=(Ours(1), Etcd(3), Echo()),
        loads=(("get", 64), ("put", 64)),
        load_keys=100,
        etcd_api=(OursAsEtcd(1),),
        proposals=False,
        state_nodes=1,
        keys=(500,),
        state_lasts_s=Lasts(least=0.0, most=0.0, step=0.2),
        traced_puts=20,
        kills=1,
        series=None,
        growth_limit_s=0.0,
    )
