"""wrk, the load generator for all contestants that speak HTTP (Debian's package `wrk`)."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, last_words, run_to_end

SCRIPT = Path(__file__).with_name("wrk.lua")
_GRACE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk does to a server.

    Attributes:
        operation: `get` or `put`.
        api: `rest`, as raftexample has it, or `etcd`, its JSON gateway.
        keys: each request is on one of so many.
    """

    operation: str
    api: str
    clients: int
    keys: int
    value_bytes: int
    seconds: float

    @property
    def parameters(self) -> dict[str, int]:
        """As a figure has them."""
        return {"clients": self.clients, "keys": self.keys, "value_bytes": self.value_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What wrk saw. Times are those of all responses."""

    requests: int
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def why_missing() -> str | None:
    """Why there is no load generator; None if there is one."""
    return None if shutil.which("wrk") else "wrk is not installed (apt install wrk)"


def run_wrk(url: str, load: Load) -> Measured:
    """Load a server. Raises BenchmarkError if wrk fails, or any request does: such a rate means nothing."""
    seconds = math.ceil(load.seconds)  # wrk takes whole seconds only; SIGINT ends it earlier
    output = run_to_end(
        [
            *("wrk", "--threads", "1", "--connections", str(load.clients), "--duration", f"{seconds}s"),
            *("--timeout", "30s", "--script", SCRIPT, url, "--"),
            *(load.api, load.operation, str(load.keys), str(load.value_bytes)),
        ],
        timeout_s=seconds + _GRACE_S,
        interrupt_after_s=load.seconds if load.seconds < seconds else None,
    )
    try:
        seen = json.loads(output[output.rindex('{"requests"') :])  # what the script prints at the end
    except ValueError as error:
        raise BenchmarkError(f"wrk says: {last_words(output)}") from error
    errors = {name: count for name, count in seen["errors"].items() if count}
    if errors or not seen["requests"]:
        raise BenchmarkError(f"{load.operation} on {url}: of {seen['requests']} requests failed {errors}")
    return Measured(
        requests=seen["requests"],
        rate_per_s=seen["requests"] / (seen["duration_us"] / 1e6),
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        max_ms=seen["max_us"] / 1000,
    )
