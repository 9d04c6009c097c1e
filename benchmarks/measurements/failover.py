"""How long writes stand still after the leader was killed."""

import http.client
import signal
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from benchmarks.ask import connect, exchange
from benchmarks.contestants.ours import OurCluster, Ours, our_cluster
from benchmarks.figures import Figures
from benchmarks.processes import wait_until

#: The default of `serve`: a follower waits so long for a leader, and up to twice as long.
ELECTION_TIMEOUT_S = 1.0
_REQUEST_S = 8.0
_LIMIT_S = 60.0
_ON_THEIR_WAY_S = 0.3  # no election is as fast, no answer as slow


class _Writer(threading.Thread):
    """A client that writes without a pause, and notes when each write was acknowledged."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.acknowledged_s: list[float] = []
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            try:
                with closing(connect(self._url, _REQUEST_S)) as connection:
                    while not self.is_over:
                        status, _ = exchange(connection, "PUT", "/bench/stall", b"v")
                        if status == 204:
                            self.acknowledged_s.append(perf_counter())
            except (OSError, http.client.HTTPException):
                continue  # it is asked again, as a client would


def measure_failover(kills: int, figures: Figures, directory: Path) -> None:
    """Kill the leader of three nodes several times, each time when all of them are ready."""
    with our_cluster(3, directory) as cluster:
        for number in range(kills):
            leader = cluster.leader()
            stall_s = _stall_s(cluster, leader)
            figures.add(
                "failover",
                Ours(3).name,
                {},
                stall_s=stall_s,
                stall_election_timeouts=stall_s / ELECTION_TIMEOUT_S,
            )
            if number + 1 < kills:
                cluster.restart(leader)
                cluster.wait_ready(leader)


def _stall_s(cluster: OurCluster, leader: int) -> float:
    """Kill the leader; the time between the last write before that and the first one after it."""
    writer = _Writer(cluster.urls[(leader + 1) % len(cluster.urls)])
    writer.start()
    try:
        wait_until(lambda: len(writer.acknowledged_s) > 20, "no writes succeed", cluster.daemons)
        cluster.daemons[leader].stop(signal.SIGKILL)
        killed_s = perf_counter()
        # Answers of before may still be on their way when it is gone.
        wait_until(
            lambda: writer.acknowledged_s[-1] > killed_s and _longest_s(writer, killed_s) > _ON_THEIR_WAY_S,
            "no write succeeds without the leader",
            timeout_s=_LIMIT_S,
        )
        return _longest_s(writer, killed_s)
    finally:
        writer.is_over = True
        writer.join()


def _longest_s(writer: _Writer, killed_s: float) -> float:
    """The longest pause that ended after the kill."""
    times = list(writer.acknowledged_s)
    return max(after - before for before, after in pairwise(times) if after > killed_s)
