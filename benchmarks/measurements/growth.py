"""Where the rate bends: one thing grows, and everything else stays as it is.

What is busy meanwhile is measured too, since it says why: the leader's process, the machine, the disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from benchmarks.block_device import BlockDevice
from benchmarks.contestants.ours import our_cluster
from benchmarks.figures import Figures
from benchmarks.measurements.http_load import add_load
from benchmarks.measurements.state import make_backup
from benchmarks.processes import Daemon, machine_processor_s
from benchmarks.wrk import Load

#: As a figure's contestant.
NAME = "raftkv-trio"
#: While values grow: a node lets 8 MiB of writes wait.
FEW_CLIENTS = 4
_MAX_VALUES_BYTES = 64_000_000  # more take long to fill in


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
    few = replace(base, clients=FEW_CLIENTS)
    found += [
        replace(few, value_bytes=size, keys=min(1000, _MAX_VALUES_BYTES // size))
        for size in series.value_bytes
    ]
    found += [replace(base, nodes=nodes) for nodes in series.nodes]
    return list(dict.fromkeys(found))


def measure_growth(point: Point, seconds: float, figures: Figures, backups: Path, directory: Path) -> None:
    """GET and PUT at one point, of a cluster that is started for it."""
    backup = make_backup(point.keys, point.value_bytes, backups)
    with our_cluster(point.nodes, directory, backup) as cluster:
        leader = cluster.leader()
        for operation in ("get", "put"):
            load = Load(
                operation=operation,
                api="rest",
                clients=point.clients,
                keys=point.keys,
                value_bytes=point.value_bytes,
                seconds=seconds,
            )
            parameters = {"nodes": point.nodes}
            device = BlockDevice(directory)
            with _usage(
                cluster.daemons[leader], device, figures, operation, {**load.parameters, **parameters}
            ):
                add_load(figures, NAME, cluster.urls[leader], load, **parameters)


@contextmanager
def _usage(
    leader: Daemon, device: BlockDevice, figures: Figures, operation: str, parameters: dict[str, int]
) -> Iterator[None]:
    """Add to a figure what is busy during the block; the start of the load generator counts as part of it."""
    began_s = perf_counter()
    leader_s, machine_s, before = leader.processor_s(), machine_processor_s(), device.written_bytes()
    yield
    elapsed_s = perf_counter() - began_s
    figures.add(
        operation,
        NAME,
        parameters,
        leader_cores=(leader.processor_s() - leader_s) / elapsed_s,
        machine_share=(machine_processor_s() - machine_s) / elapsed_s / len(os.sched_getaffinity(0)),
    )
    if (written := device.written_since(before)) is not None:
        figures.add(operation, NAME, parameters, written_bytes_per_s=written / elapsed_s)
