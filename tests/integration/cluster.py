"""Real `raftkv-trio serve` processes on free ports, for tests."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import trio

from tests.conftest import find_free_ports


class Cluster:
    """Nodes 1 to `size`; each keeps its ports and its data directory over restarts."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        ports = find_free_ports(2 * size)
        self._directory = directory
        self.ids = range(1, size + 1)
        self._peer_ports, self._rest_ports = ports[:size], ports[size:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def url(self, node_id: int, path: str) -> str:
        return f"http://127.0.0.1:{self._rest_ports[node_id - 1]}{path}"

    def start(self, node_id: int) -> None:
        cluster = ",".join(f"http://127.0.0.1:{port}" for port in self._peer_ports)
        arguments = ["--id", str(node_id), "--cluster", cluster, "--port", str(self._rest_ports[node_id - 1])]
        directory = ["--data-dir", str(self._directory / str(node_id))]
        with (self._directory / f"{node_id}.log").open("ab") as log:
            self._processes[node_id] = subprocess.Popen(
                [sys.executable, "-m", "raftkv_trio", "serve", *arguments, *directory], stdout=log, stderr=log
            )

    def signal(self, node_id: int, number: signal.Signals) -> int:
        """Send a signal that ends the node, and return its exit code."""
        process = self._processes.pop(node_id)
        process.send_signal(number)
        return process.wait(30)

    def close(self) -> None:
        for node_id in list(self._processes):
            self.signal(node_id, signal.SIGKILL)

    async def wait_ready(self, client: httpx.AsyncClient) -> None:
        """Return when every running node is ready."""
        with trio.fail_after(60):
            for node_id in list(self._processes):
                while not await self._is_ready(client, node_id):  # noqa: ASYNC110 - it is another process
                    await trio.sleep(0.05)

    async def _is_ready(self, client: httpx.AsyncClient, node_id: int) -> bool:
        try:
            return (await client.get(self.url(node_id, "/-/ready"))).status_code == 200
        except httpx.TransportError:
            return False
