"""Real `raftkv-trio serve` processes on free ports, for tests."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.conftest import find_free_ports
from tests.integration.proxy import Proxy

PATIENCE_S = 60.0  # for what must happen soon, on however slow a machine
POLL_S = 0.05


class Cluster:
    """Nodes 1 to `size`; each keeps its ports and its data directory over restarts.

    Args:
        arguments: of `serve`, the same for every node.
        is_proxied: peers dial ports without a listener until `open_proxies` has made proxies.
        founders: how many of the nodes make the cluster; the others are told to join it.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        arguments: Sequence[str] = (),
        *,
        is_proxied: bool = False,
        founders: int | None = None,
    ) -> None:
        self._founders = founders or size
        self._directory = directory
        self._arguments = arguments
        self._own_arguments: dict[int, Sequence[str]] = {}
        self.ids = range(1, size + 1)
        self._dialled_ports, self._rest_ports = find_free_ports(size), find_free_ports(size)
        self._peer_ports = find_free_ports(size) if is_proxied else self._dialled_ports
        self._first_urls = {node_id: self.peer_url(node_id) for node_id in self.ids}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def peer_url(self, node_id: int) -> str:
        return f"http://127.0.0.1:{self._dialled_ports[node_id - 1]}"

    def peer_urls(self, node_id: int = 1) -> str:
        """The value of --cluster: the founders' first addresses; for a node that joins, its own too.

        The scheme is https if the node was given a certificate for peers.
        """
        told = {i: self._first_urls[i] for i in self.ids[: self._founders]}
        if node_id > self._founders:
            own = self.peer_url(node_id)
            told = {i: url for i, url in told.items() if url != own} | {node_id: own}
        urls = ",".join(f"{i}={url}" for i, url in told.items())
        has_tls = "--peer-cert-file" in self._own_arguments.get(node_id, ())
        return urls.replace("http:", "https:") if has_tls else urls

    def move(self, node_id: int, to_where: int | None = None) -> str:
        """Give a node another peer port from its next start on: a new one, or that of one that is no more.

        Returns its peer URL then.
        """
        ports = self._peer_ports
        (port,) = find_free_ports(1) if to_where is None else (ports[to_where - 1],)
        ports[node_id - 1] = self._dialled_ports[node_id - 1] = port
        return self.peer_url(node_id)

    def give(self, node_id: int, *arguments: str | Path) -> None:
        """Give a node these arguments of its own from its next start on, in the place of those of before."""
        self._own_arguments[node_id] = list(map(str, arguments))

    def data_dir(self, node_id: int) -> Path:
        return self._directory / str(node_id)

    def log(self, node_id: int) -> Path:
        """What a node has said."""
        return self._directory / f"{node_id}.log"

    def peer_port(self, node_id: int) -> int:
        return self._peer_ports[node_id - 1]

    def url(self, node_id: int, path: str) -> str:
        """Where clients reach a node, over TLS if it was given a certificate for them."""
        scheme = "https" if "--cert-file" in self._own_arguments.get(node_id, ()) else "http"
        return f"{scheme}://127.0.0.1:{self.rest_port(node_id)}{path}"

    def rest_port(self, node_id: int) -> int:
        return self._rest_ports[node_id - 1]

    def pid(self, node_id: int) -> int:
        return self._processes[node_id].pid

    @asynccontextmanager
    async def open_proxies(self) -> AsyncIterator[Mapping[int, Proxy]]:
        """What stands before each node, by its id; opened before the nodes are started."""
        proxies = {
            node_id: Proxy(*ports)
            for node_id, *ports in zip(self.ids, self._dialled_ports, self._peer_ports, strict=True)
        }
        async with trio.open_nursery() as nursery:
            for proxy in proxies.values():
                await nursery.start(proxy.run)
            yield proxies
            nursery.cancel_scope.cancel()

    # ------------------------------------------------------------ processes

    def start(self, *node_ids: int) -> None:
        """Start these nodes, or all founders."""
        for node_id in node_ids or self.ids[: self._founders]:
            arguments = ["--id", str(node_id), "--data-dir", str(self.data_dir(node_id)), *self._arguments]
            arguments += self._own_arguments.get(node_id, ())
            command = self._command(node_id, arguments)
            with self.log(node_id).open("ab") as log:
                self._processes[node_id] = subprocess.Popen(command, stdout=log, stderr=log)

    def _command(self, node_id: int, arguments: Sequence[str]) -> list[str]:
        """What runs a node: `serve` with these arguments, and addresses."""
        addresses = ["--cluster", self.peer_urls(node_id), "--port", str(self.rest_port(node_id))]
        addresses += ["--join"] if node_id > self._founders else []
        addresses += ["--listen-peer", f"127.0.0.1:{self._peer_ports[node_id - 1]}"]
        return [sys.executable, "-m", "raftkv_trio", "serve", *arguments, *addresses]

    def stop(self, node_id: int, number: signal.Signals = signal.SIGINT) -> int:
        """Stop a node cleanly; returns its exit code."""
        self._processes[node_id].send_signal(number)
        return self.wait_exit(node_id)

    def wait_exit(self, node_id: int) -> int:
        """Wait until a node ends by itself; returns its exit code. One that does not can still be killed."""
        code = self._processes[node_id].wait(PATIENCE_S)
        del self._processes[node_id]
        return code

    def kill(self, *node_ids: int) -> None:
        """SIGKILL to these nodes, or to all that run, at once."""
        killed = [self._processes.pop(node_id) for node_id in node_ids or list(self._processes)]
        for process in killed:
            process.kill()
        for process in killed:
            assert process.wait(PATIENCE_S) == -signal.SIGKILL

    def signal(self, node_id: int, number: signal.Signals) -> None:
        self._processes[node_id].send_signal(number)

    def halt(self, node_id: int) -> None:
        """SIGSTOP: the node does nothing until `resume`."""
        self.signal(node_id, signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        self.signal(node_id, signal.SIGCONT)

    # ------------------------------------------------------------ what they say

    async def status(self, http: httpx.AsyncClient, node_id: int) -> dict[str, Any]:
        """`/-/status` of a node; it answers without a leader too."""
        return dict((await http.get(self.url(node_id, "/-/status"))).raise_for_status().json())

    async def leader(self, http: httpx.AsyncClient, *node_ids: int) -> int:
        """Wait until one of these nodes, or of all, leads."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for node_id in node_ids or list(self._processes):
                    if (await self.status(http, node_id))["role"] == "leader":
                        return node_id
                await trio.sleep(POLL_S)

    async def wait_ready(self, http: httpx.AsyncClient) -> None:
        """Return when every running node is ready."""
        with trio.fail_after(PATIENCE_S):
            for node_id in list(self._processes):
                while not await self._is_ready(http, node_id):  # noqa: ASYNC110 - it is another process
                    await trio.sleep(POLL_S)

    async def wait_equal(self, http: httpx.AsyncClient) -> None:
        """Return when every running node has applied the same and has the same state."""
        with trio.fail_after(PATIENCE_S):
            while len(await self._states(http)) > 1:  # noqa: ASYNC110 - they are other processes
                await trio.sleep(POLL_S)

    async def _states(self, http: httpx.AsyncClient) -> set[tuple[int, str]]:
        seen = [await self.status(http, node_id) for node_id in self._processes]
        return {(status["applied_index"], status["state_hash"]) for status in seen}

    async def _is_ready(self, http: httpx.AsyncClient, node_id: int) -> bool:
        try:
            return (await http.get(self.url(node_id, "/-/ready"))).status_code == 200
        except httpx.TransportError:
            return False
