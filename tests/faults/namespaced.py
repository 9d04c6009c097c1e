"""Real nodes, each in a network namespace and on a small disk of its own."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from tests.faults.disks import Disks, open_disks
from tests.faults.network import Network, open_network
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

_REST_PORT, _PEER_PORT = 9121, 9021
# Full within seconds; half of it holds more than is ever on its way to the log at once, as of a real one: on
# that a node on a full disk counts.
_SEGMENT_BYTES = 128 * 1024
_DISK_KIB = 8 * 1024
_SERVE = Path(__file__).with_name("serve_variant.py")


class NamespacedCluster(Cluster):
    """Nodes on `network` and `disks`; `bug` is one of `PLANTED` that every node has, or "none"."""

    def __init__(
        self, directory: Path, size: int, network: Network, disks: Disks, arguments: Sequence[str], bug: str
    ) -> None:
        super().__init__(directory, size, arguments)
        self.network = network
        self.disks = disks
        self._bug = bug

    def data_dir(self, node_id: int) -> Path:
        return self.disks.mount_point(node_id) / "data"

    def url(self, node_id: int, path: str) -> str:
        return f"http://{self.network.address(node_id)}:{_REST_PORT}{path}"

    @property
    def running(self) -> Sequence[int]:
        """Nodes that were started, and neither stopped nor killed since."""
        return sorted(self._processes)

    def take_ended(self) -> Mapping[int, int]:
        """The nodes that have ended by themselves since the last call, and their exit codes."""
        codes = {node_id: process.poll() for node_id, process in self._processes.items()}
        ended = {node_id: code for node_id, code in codes.items() if code is not None}
        for node_id in ended:
            del self._processes[node_id]
        return ended

    async def wait_serving(self, http: httpx.AsyncClient, node_id: int) -> None:
        """Return when the node answers clients, with or without a leader."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    await self.status(http, node_id)
                except httpx.TransportError:
                    await trio.sleep(POLL_S)
                else:
                    return

    def _command(self, node_id: int, arguments: Sequence[str]) -> list[str]:
        inside = ["ip", "netns", "exec", self.network.namespace(node_id)]  # it execs: the pid is the node's
        members = ",".join(f"http://{self.network.address(other)}:{_PEER_PORT}" for other in self.ids)
        addresses = ["--cluster", members, "--host", self.network.address(node_id), "--insecure"]
        addresses += ["--port", str(_REST_PORT)]
        return [*inside, sys.executable, str(_SERVE), str(_SEGMENT_BYTES), self._bug, *arguments, *addresses]


@asynccontextmanager
async def open_namespaced(
    directory: Path,
    size: int = 3,
    arguments: Sequence[str] = (),
    *,
    bug: str = "none",
    disk_kib: int = _DISK_KIB,
) -> AsyncIterator[tuple[NamespacedCluster, httpx.AsyncClient]]:
    """A cluster that is ready; its nodes, network and disks are gone afterwards, however it went."""
    with (
        open_network(size) as network,
        open_disks(directory, range(1, size + 1), size_kib=disk_kib) as disks,
    ):
        cluster = NamespacedCluster(directory, size, network, disks, arguments, bug)
        try:
            cluster.start()
            async with httpx.AsyncClient(timeout=PATIENCE_S, limits=httpx.Limits()) as http:
                await cluster.wait_ready(http)
                yield cluster, http
        finally:
            cluster.take_ended()
            cluster.kill()
