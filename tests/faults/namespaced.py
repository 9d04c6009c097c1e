"""Real nodes, each in a network namespace of its own."""

import subprocess
import sys
from pathlib import Path

from tests.faults.network import Network
from tests.integration.cluster import Cluster

_REST_PORT, _PEER_PORT = 9121, 9021


class NamespacedCluster(Cluster):
    def __init__(self, directory: Path, network: Network, size: int) -> None:
        super().__init__(directory, size)
        self._network = network

    def url(self, node_id: int, path: str) -> str:
        return f"http://{self._network.address(node_id)}:{_REST_PORT}{path}"

    def start(self, *node_ids: int) -> None:
        """Start these nodes, or all."""
        cluster = ",".join(f"http://{self._network.address(other)}:{_PEER_PORT}" for other in self.ids)
        for node_id in node_ids or self.ids:
            inside = [
                "ip",
                "netns",
                "exec",
                self._network.namespace(node_id),
            ]  # it execs: the pid is the node's
            arguments = ["--id", str(node_id), "--cluster", cluster, "--port", str(_REST_PORT)]
            arguments += ["--host", self._network.address(node_id)]
            arguments += ["--data-dir", str(self._directory / str(node_id))]
            with (self._directory / f"{node_id}.log").open("ab") as log:
                self._processes[node_id] = subprocess.Popen(
                    [*inside, sys.executable, "-m", "raftkv_trio", "serve", *arguments],
                    stdout=log,
                    stderr=log,
                )
