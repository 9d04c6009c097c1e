"""The goals, as ratios within one run: what a machine is capable of must not count."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contestants import Echo, Etcd, Ours
from benchmarks.figures import Figures
from benchmarks.measurements import etcd_api, proposals, state

_THREE, _ONE, _ETCD, _ECHO = Ours(3).name, Ours(1).name, Etcd(3).name, Echo.name


@dataclass(frozen=True, slots=True)
class Target:
    """One goal.

    Attributes:
        part: of the run, which measures all that it is computed from.
        what: in words.
        before: what it was when the goal was set.
        is_at_most: whether less is better.
        compute: the value from the figures; None if one of them is missing.
    """

    part: str
    what: str
    before: str
    goal: float
    is_at_most: bool
    unit: str
    compute: Callable[[Figures], float | None]

    def is_met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return value <= self.goal if self.is_at_most else value >= self.goal


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def _loads(
    ours: str, theirs: str, operation: str, clients: int, value: str = "rate_per_s"
) -> Callable[[Figures], float | None]:
    def compute(figures: Figures) -> float | None:
        return _ratio(
            figures.median(operation, ours, value, clients=clients),
            figures.median(operation, theirs, value, clients=clients),
        )

    return compute


def most_keys(figures: Figures) -> int:
    """The largest number of keys of which the state was measured; 0 without any."""
    return max((figure.parameters["keys"] for figure in figures if figure.what == "state"), default=0)


def _state(value: str) -> Callable[[Figures], float | None]:
    """A value with the most keys."""

    def compute(figures: Figures) -> float | None:
        keys = most_keys(figures)
        return figures.median("state", _THREE, value, keys=keys) if keys > state.FEW_KEYS else None

    return compute


def _state_growth(value: str) -> Callable[[Figures], float | None]:
    def compute(figures: Figures) -> float | None:
        few = figures.median("state", _THREE, value, keys=state.FEW_KEYS)
        return _ratio(_state(value)(figures), few)

    return compute


def _memory_of_a_key(figures: Figures) -> float | None:
    """What a key takes beside itself and its value, by the difference between many keys and few."""
    many = _state("resident_bytes")(figures)
    few = figures.median("state", _THREE, "resident_bytes", keys=state.FEW_KEYS)
    if many is None or few is None:
        return None
    keys = most_keys(figures)
    return (many - few) / (keys - state.FEW_KEYS) - len(f"/bench/{keys - 1}") - state.VALUE_BYTES


def _proposals(figures: Figures) -> float | None:
    return _ratio(
        figures.median("propose", proposals.OURS, "rate_per_s"),
        figures.median("propose", proposals.PYSYNCOBJ, "rate_per_s"),
    )


def _by_grpc(
    operation: str, outstanding: int, value: str = "rate_per_s"
) -> Callable[[Figures], float | None]:
    def compute(figures: Figures) -> float | None:
        ours, theirs = [
            figures.median(f"grpc {operation}", name, value, outstanding=outstanding)
            for name in (_THREE, _ETCD)
        ]
        return _ratio(ours, theirs)

    return compute


def _json_put(figures: Figures) -> float | None:
    return _loads(_THREE, _ETCD, "put", etcd_api.CLIENTS)(figures)


def _client_put(figures: Figures) -> float | None:
    clients = etcd_api.CLIENTS
    return _ratio(
        figures.median("Client put", _THREE, "rate_per_s", clients=clients),
        figures.median("put", _ETCD, "rate_per_s", clients=clients),
    )


def _stall(figures: Figures) -> float | None:
    return figures.median("failover", _THREE, "stall_election_timeouts")


def _longest_stall(figures: Figures) -> float | None:
    return figures.largest("failover", _THREE, "stall_election_timeouts")


TARGETS = (
    Target(
        "loads",
        "linearizable GET, 64 clients / etcd",
        "0.28",
        1.3,
        False,
        "",
        _loads(_THREE, _ETCD, "get", 64),
    ),
    Target(
        "loads",
        "linearizable GET, 1 client, p50 / etcd",
        "2.8",
        1.3,
        True,
        "",
        _loads(_THREE, _ETCD, "get", 1, "p50_ms"),
    ),
    Target("loads", "PUT, 64 clients / etcd", "0.29", 0.7, False, "", _loads(_THREE, _ETCD, "put", 64)),
    Target("loads", "PUT, 256 clients / etcd", "0.24", 0.7, False, "", _loads(_THREE, _ETCD, "put", 256)),
    Target(
        "loads", "PUT, 1 client, p50 / etcd", "4.3", 2.0, True, "", _loads(_THREE, _ETCD, "put", 1, "p50_ms")
    ),
    Target(
        "loads", "one node, GET 64 clients / echo", "0.14", 0.5, False, "", _loads(_ONE, _ECHO, "get", 64)
    ),
    Target(
        "loads", "one node, PUT 64 clients / echo", "0.10", 0.3, False, "", _loads(_ONE, _ECHO, "put", 64)
    ),
    Target("etcd", "gRPC put, 1 client, p50 / etcd", "-", 2.0, True, "", _by_grpc("put", 1, "p50_ms")),
    Target("etcd", "gRPC put, 64 outstanding / etcd", "-", 0.6, False, "", _by_grpc("put", 64)),
    Target("etcd", "JSON put, 64 clients / etcd", "-", 0.6, False, "", _json_put),
    Target("etcd", "linearizable gRPC get, 64 outstanding / etcd", "-", 1.0, False, "", _by_grpc("get", 64)),
    Target("etcd", "txns of 100 puts, 8 clients / etcd", "-", 3.0, False, "", _by_grpc("txn", 1)),
    Target("etcd", "Client, 64 puts / etcd's JSON gateway, 64 clients", "-", 2.0, False, "", _client_put),
    Target(
        "state",
        "bytes written a PUT, most keys / 10,000 keys",
        "352",
        4,
        True,
        "",
        _state_growth("written_bytes_per_put"),
    ),
    Target(
        "state", "PUT rate, most keys / 10,000 keys", "0.5", 0.9, False, "", _state_growth("put_rate_per_s")
    ),
    Target(
        "state",
        "restart with most keys and a full log",
        "7.4 s at 500,000",
        12,
        True,
        " s",
        _state("restart_s"),
    ),
    Target("state", "memory a key beyond key and value", "354 B", 300, True, " B", _memory_of_a_key),
    Target(
        "proposals", "proposals of 100 bytes, durable / PySyncObj, in memory", "-", 4, False, "", _proposals
    ),
    Target(
        "failover",
        "write stall after kill -9 of the leader, median",
        "1.17",
        1.2,
        True,
        " election timeouts",
        _stall,
    ),
    Target(
        "failover",
        "write stall after kill -9 of the leader, longest",
        "-",
        2,
        True,
        " election timeouts",
        _longest_stall,
    ),
    Target(
        "state",
        "slowest request during a snapshot of most keys",
        "26 to 75 ms",
        100,
        True,
        " ms",
        _state("slowest_during_snapshot_ms"),
    ),
)
