"""Where the time of one PUT goes: the points of its trace, of a single client at the leader."""

import http.client
from contextlib import closing
from pathlib import Path

from benchmarks.ask import connect
from benchmarks.contestants.ours import Ours, our_cluster
from benchmarks.figures import Figures
from benchmarks.processes import BenchmarkError

_ASKS = {"X-Raft-Trace": "1"}
_WARM_UP = 50
_VALUE = b"v" * 100


def measure_hops(nodes: int, puts: int, figures: Figures, directory: Path) -> None:
    """Trace so many PUTs, one after the other; each is a round of its point."""
    with our_cluster(nodes, directory) as cluster:
        url = cluster.urls[cluster.leader()]
        try:
            with closing(connect(url)) as connection:
                for number in range(_WARM_UP + puts):
                    points = _points(connection)
                    if number >= _WARM_UP:
                        for point, since_ms in points.items():
                            figures.add(f"trace: {point}", Ours(nodes).name, {}, since_parsed_ms=since_ms)
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"{url} does not answer: {error}") from error


def _points(connection: http.client.HTTPConnection) -> dict[str, float]:
    """By name, in milliseconds since the request was parsed; of the followers only the first answer."""
    connection.request("PUT", "/bench/0", _VALUE, _ASKS)
    response = connection.getresponse()
    response.read()
    timing = response.headers["Server-Timing"]
    if timing is None:
        raise BenchmarkError(f"a traced PUT is answered with status {response.status}, and no Server-Timing")
    points: dict[str, float] = {}
    for metric in timing.split(", "):
        name, _, time_ms = metric.partition(";dur=")
        points.setdefault("durable at a follower" if name.startswith("durable-at-") else name, float(time_ms))
    return points
