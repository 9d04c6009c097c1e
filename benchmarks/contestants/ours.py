"""raftkv-trio itself, with any number of nodes; empty, or with the state of a backup."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ask import ask, ask_json
from benchmarks.contestants.contestant import Running
from benchmarks.ports import free_ports
from benchmarks.processes import Daemon, run_to_end, stopping, wait_until

PROGRAM = (sys.executable, "-m", "raftkv_trio")
_RESTORE_S = 600.0


class OurCluster:
    """The nodes of one cluster, which may be ended and started again, one at a time."""

    def __init__(self, nodes: int, directory: Path) -> None:
        ports = free_ports(3 * nodes)
        self._ports = ports[:nodes]
        self.etcd_ports = ports[nodes : 2 * nodes]
        self._peers = ",".join(f"http://127.0.0.1:{port}" for port in ports[2 * nodes :])
        self._directory = directory
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.daemons: list[Daemon] = []

    def restore(self, backup: Path) -> None:
        """Make the data directories from a backup, before the start."""
        for number in range(len(self.urls)):
            run_to_end([*PROGRAM, "restore", *self._member(number), backup], _RESTORE_S)

    def start(self) -> None:
        """Start all nodes."""
        self.daemons += [self._start(number) for number in range(len(self.urls))]

    def restart(self, number: int) -> None:
        """Start a node again that has ended."""
        self.daemons[number] = self._start(number)

    def wait_ready(self, number: int, timeout_s: float = 60.0) -> None:
        """Wait until a node answers reads."""
        wait_until(
            lambda: (answer := ask(self.urls[number], "GET", "/-/ready")) and answer[0] == 200,
            f"{self.urls[number]} is not ready",
            [self.daemons[number]],
            timeout_s,
        )

    def leader(self) -> int:
        """The number of the node that leads, from 0, once there is one."""
        leading: list[int] = []

        def leads() -> bool:
            statuses = [ask_json(url, "GET", "/-/status") for url in self.urls]
            leading[:] = [n for n, status in enumerate(statuses) if status and status["role"] == "leader"]
            return bool(leading)

        wait_until(leads, "no node leads")
        return leading[0]

    def _start(self, number: int) -> Daemon:
        ports = ["--port", str(self._ports[number]), "--etcd-port", str(self.etcd_ports[number])]
        command = [*PROGRAM, "serve", *self._member(number), *ports]
        return Daemon(command, self._directory / f"node-{number + 1}.log")

    def _member(self, number: int) -> list[str | Path]:
        data_dir = self._directory / f"node-{number + 1}"
        return ["--id", str(number + 1), "--cluster", self._peers, "--data-dir", data_dir]


class Ours:
    """A cluster of ours, as another contestant."""

    api = "rest"

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self.name = f"raftkv-trio, {nodes} node{'s' if nodes > 1 else ''}"

    def why_missing(self) -> str | None:
        """Never: it is here."""
        return None

    @contextmanager
    def started(self, directory: Path) -> Iterator[Running]:
        """As `Contestant.started`."""
        with our_cluster(self._nodes, directory) as cluster:
            number = cluster.leader()
            yield Running(cluster.urls[number], cluster.daemons[number], cluster.daemons)

    def fill_request(self, key: int, value: bytes) -> tuple[str, str, bytes]:
        """As `Contestant.fill_request`."""
        return "PUT", f"/bench/{key}", value


class OursAsEtcd(Ours):
    """The same cluster, asked at its ports for etcd's API."""

    api = "etcd"

    @contextmanager
    def started(self, directory: Path) -> Iterator[Running]:
        """As `Contestant.started`."""
        with our_cluster(self._nodes, directory) as cluster:
            number = cluster.leader()
            url = f"http://127.0.0.1:{cluster.etcd_ports[number]}"
            yield Running(url, cluster.daemons[number], cluster.daemons)


@contextmanager
def our_cluster(nodes: int, directory: Path, backup: Path | None = None) -> Iterator[OurCluster]:
    """A cluster whose nodes are ready, with empty data or those of a backup; it ends with the block."""
    cluster = OurCluster(nodes, directory)
    with stopping(cluster.daemons):
        if backup is not None:
            cluster.restore(backup)
        cluster.start()
        for number in range(nodes):
            cluster.wait_ready(number)
        yield cluster
