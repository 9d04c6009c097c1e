"""Where the rate bends: one thing grows, and everything else stays as it is."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contestants.ours import our_cluster
from benchmarks.figures import Figures
from benchmarks.measurements.http_load import add_load
from benchmarks.measurements.state import make_backup
from benchmarks.wrk import Load

#: As a figure's contestant.
NAME = "raftkv-trio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What grows, and to which values; everything else is as in `Point` meanwhile."""

    keys: tuple[int, ...]
    clients: tuple[int, ...]
    value_bytes: tuple[int, ...]
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    keys: int = 1000
    clients: int = 64
    value_bytes: int = 100
    nodes: int = 3

    def __str__(self) -> str:
        return (
            f"{self.keys:,} keys of {self.value_bytes:,} bytes, {self.clients} clients, nodes: {self.nodes}"
        )


def points(series: Series) -> list[Point]:
    """All points of the series, each once."""
    base = Point()
    found = [base]
    found += [replace(base, keys=keys) for keys in series.keys]
    found += [replace(base, clients=clients) for clients in series.clients]
    # A node lets 8 MiB of writes wait, and a thousand values of a megabyte take long to fill in.
    few = replace(base, clients=4)
    found += [
        replace(few, value_bytes=size, keys=min(1000, 64_000_000 // size)) for size in series.value_bytes
    ]
    found += [replace(base, nodes=nodes) for nodes in series.nodes]
    return list(dict.fromkeys(found))


def measure_growth(point: Point, seconds: float, figures: Figures, backups: Path, directory: Path) -> None:
    """GET and PUT at one point, of a cluster that is started for it."""
    backup = make_backup(point.keys, point.value_bytes, backups)
    with our_cluster(point.nodes, directory, backup) as cluster:
        url = cluster.urls[cluster.leader()]
        for operation in ("get", "put"):
            load = Load(
                operation=operation,
                api="rest",
                clients=point.clients,
                keys=point.keys,
                value_bytes=point.value_bytes,
                seconds=seconds,
            )
            add_load(figures, NAME, url, load, nodes=point.nodes)
