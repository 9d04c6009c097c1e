"""What many keys cost: bytes that reach the disk for each PUT, memory, a restart, the pause of a snapshot."""

import http.client
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks.ask import ask, connect, exchange
from benchmarks.block_device import BlockDevice
from benchmarks.contestants.ours import OurCluster, Ours, our_cluster
from benchmarks.figures import Figures
from benchmarks.processes import BenchmarkError, run_to_end
from benchmarks.wrk import Load, run_wrk

VALUE_BYTES = 100
#: What larger states are compared with.
FEW_KEYS = 10_000
_FILL_S = 1800.0
_SNAPSHOT_S = 600.0
_RESTART_S = 300.0


class Lasts(NamedTuple):
    """How long PUTs go on, in seconds: until a snapshot was taken, which is a part of their cost.

    Attributes:
        least, most: but so long in any case, and no longer.
        step: for so long at once; then it is seen whether there was a snapshot.
    """

    least: float
    most: float
    step: float


def make_backup(keys: int, value_bytes: int, directory: Path) -> Path:
    """A backup with so many keys; `directory` keeps it."""
    file = directory / f"backup-{keys}-{value_bytes}"
    if not file.exists():
        program = [sys.executable, "-m", "benchmarks.programs.fill"]
        node = directory / f"{file.name}-node"
        run_to_end([*program, node, file, str(keys), str(value_bytes)], _FILL_S)
    return file


def measure_state(
    nodes: int, keys: int, lasts_s: Lasts, figures: Figures, backups: Path, directory: Path
) -> None:
    """Everything that is measured with so many keys, of one cluster that is started for it.

    Args:
        lasts_s: how long the PUTs go on.
    """
    with our_cluster(nodes, directory, make_backup(keys, VALUE_BYTES, backups)) as cluster:
        leader = cluster.leader()
        resident_bytes = cluster.daemons[leader].resident_bytes()
        pause_ms, snapshot_s = _slowest_during_snapshot(cluster, leader, keys)
        rate, written, snapshots = _puts(cluster, leader, directory, keys, lasts_s)
        name, parameters = Ours(nodes).name, {"keys": keys, "value_bytes": VALUE_BYTES}
        if written is not None:
            figures.add("state", name, parameters, written_bytes_per_put=written / nodes)
        figures.add(
            "state",
            name,
            parameters,
            put_rate_per_s=rate,
            snapshots=snapshots,
            resident_bytes=resident_bytes,
            slowest_during_snapshot_ms=pause_ms,
            snapshot_s=snapshot_s,
            restart_s=_restart_s(cluster, (leader + 1) % nodes),
        )


def _puts(
    cluster: OurCluster, leader: int, directory: Path, keys: int, lasts_s: Lasts
) -> tuple[float, float | None, int]:
    """Rate, bytes that reach the disk for each PUT, if counted, and how many snapshots are in them."""
    device = BlockDevice(directory)
    load = Load(
        operation="put", api="rest", clients=64, keys=keys, value_bytes=VALUE_BYTES, seconds=lasts_s.step
    )
    snap = directory / f"node-{leader + 1}" / "snap"
    seen = {_newest(snap)}
    before, began_s, requests, loaded_s = device.written_bytes(), perf_counter(), 0, 0.0
    while True:
        measured = run_wrk(cluster.urls[leader], load)
        requests += measured.requests
        loaded_s += measured.requests / measured.rate_per_s
        seen.add(_newest(snap))
        elapsed_s = perf_counter() - began_s
        # One snapshot of a large state is enough; of a small one there are many in that time, so that it
        # matters little where in the last interval the load ends.
        if elapsed_s >= lasts_s.most or (len(seen) > 1 and elapsed_s >= lasts_s.least):
            break
    written = device.written_since(before)
    return requests / loaded_s, written and written / requests, len(seen) - 1


def _newest(snap: Path) -> str:
    """The name of the newest snapshot: names begin with the index, in digits of a fixed number."""
    return max((file.name for file in snap.iterdir() if not file.name.startswith(".")), default="")


def _slowest_during_snapshot(cluster: OurCluster, leader: int, keys: int) -> tuple[float, float]:
    """The slowest of a client's requests while the leader writes a snapshot, and how long that takes."""
    url = cluster.urls[leader]
    taken_s: list[float] = []

    def snapshot() -> None:
        began_s = perf_counter()
        with closing(connect(url, _SNAPSHOT_S)) as connection:
            if exchange(connection, "POST", "/-/snapshot")[0] < 300:
                taken_s.append(perf_counter() - began_s)

    if ask(url, "PUT", "/bench/0", b"v" * VALUE_BYTES) is None:  # so that there is something new to snapshot
        raise BenchmarkError(f"{url} does not answer")
    taker = threading.Thread(target=snapshot)
    slowest_s = 0.0
    try:
        with closing(connect(url, _SNAPSHOT_S)) as connection:
            taker.start()
            number = 0
            while number < 10 or taker.is_alive():
                number += 1
                began_s = perf_counter()
                body = b"v" * VALUE_BYTES if number % 2 else None
                path = f"/bench/{number * 7919 % keys}"
                status, _ = exchange(connection, "PUT" if body else "GET", path, body)
                if status >= 300:
                    raise BenchmarkError(f"{url} answers with status {status} during a snapshot")
                slowest_s = max(slowest_s, perf_counter() - began_s)
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"a request during a snapshot failed: {error}") from error
    finally:
        taker.join()
    if not taken_s:
        raise BenchmarkError(f"{url} took no snapshot")
    return 1000 * slowest_s, taken_s[0]


def _restart_s(cluster: OurCluster, number: int) -> float:
    """From the start of a node that was killed until it answers reads."""
    cluster.daemons[number].stop(signal.SIGKILL)
    began_s = perf_counter()
    cluster.restart(number)
    cluster.wait_ready(number, _RESTART_S)
    return perf_counter() - began_s
