"""etcd's API: gRPC, JSON, and this project's own client, on clusters of ours and of etcd in turns."""

import json
import sys
from pathlib import Path

from benchmarks import wrk
from benchmarks.contestants import Contestant
from benchmarks.figures import Figures
from benchmarks.measurements.http_load import add_load
from benchmarks.processes import run_to_end
from benchmarks.wrk import Load

KEYS, VALUE_BYTES = 1000, 100
#: Operation, connections, and how many calls are outstanding on each.
GRPC_LOADS = (("put", 1, 1), ("put", 1, 64), ("get", 1, 64), ("txn", 8, 1))
#: Puts in a txn of the load.
PUTS_OF_A_TXN = 100
CLIENTS = 64
_STARTS_S = 60.0


def measure_etcd_api(contestant: Contestant, seconds: float, figures: Figures, directory: Path) -> None:
    """One round of one contestant, which is started for it."""
    with contestant.started(directory) as running:
        port = running.url.rpartition(":")[2]
        for operation, connections, outstanding in GRPC_LOADS:
            loaded = ["benchmarks.programs.grpc_load", port, operation]
            numbers = [connections, outstanding, KEYS, seconds]
            seen = json.loads(_run([*loaded, *map(str, numbers)], seconds))
            parameters = {"connections": connections, "outstanding": outstanding}
            figures.add(
                f"grpc {operation}",
                contestant.name,
                parameters,
                rate_per_s=seen["rate_per_s"],
                p50_ms=seen["p50_ms"],
            )
        rate = float(_run(["benchmarks.programs.client_puts", port, str(CLIENTS), str(seconds)], seconds))
        figures.add("Client put", contestant.name, {"clients": CLIENTS}, rate_per_s=rate)
        if wrk.why_missing() is None:
            load = Load(
                operation="put",
                api=contestant.api,
                clients=CLIENTS,
                keys=KEYS,
                value_bytes=VALUE_BYTES,
                seconds=seconds,
            )
            add_load(figures, contestant.name, running.url, load)


def _run(module_and_arguments: list[str], seconds: float) -> str:
    return run_to_end([sys.executable, "-m", *module_and_arguments], seconds + _STARTS_S)
