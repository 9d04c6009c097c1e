"""Rate and latency of GET and PUT, of the contestants in turns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.ask import send_all
from benchmarks.contestants import Contestant, Running
from benchmarks.figures import Figures
from benchmarks.wrk import Load, run_wrk

#: Not measured: the first requests find caches cold and code not yet specialised.
_WARM_UP_S = 1.0
_VALUE_BYTES = 100


def measure_loads(
    contestant: Contestant,
    loads: Sequence[tuple[str, int]],
    keys: int,
    seconds: float,
    figures: Figures,
    directory: Path,
) -> None:
    """One round of one contestant, which is started for it.

    Args:
        loads: operation and number of clients.
        keys: of 100 bytes each.
    """
    with contestant.started(directory) as running:
        fill(contestant, running, keys, _VALUE_BYTES)
        for operation, clients in loads:
            load = Load(
                operation=operation,
                api=contestant.api,
                clients=clients,
                keys=keys,
                value_bytes=_VALUE_BYTES,
                seconds=seconds,
            )
            if seconds > _WARM_UP_S:
                run_wrk(running.url, replace(load, seconds=_WARM_UP_S))
            add_load(figures, contestant.name, running.url, load)


def fill(contestant: Contestant, running: Running, keys: int, value_bytes: int) -> None:
    """Write all keys, so that a GET finds them."""
    requests = [contestant.fill_request(key, b"v" * value_bytes) for key in range(keys)]
    send_all(running.url, [request for request in requests if request is not None])


def add_load(figures: Figures, name: str, url: str, load: Load, **parameters: int) -> None:
    """Run one load, and add what it gave; `parameters` are more than those of the load."""
    seen = run_wrk(url, load)
    figures.add(
        load.operation,
        name,
        {**load.parameters, **parameters},
        rate_per_s=seen.rate_per_s,
        p50_ms=seen.p50_ms,
        p99_ms=seen.p99_ms,
        max_ms=seen.max_ms,
    )
