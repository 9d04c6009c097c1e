"""Three servers of etcd's API that make one cluster: our nodes, or etcd's members."""

import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import find_free_ports

PATIENCE_S = 60.0
POLL_S = 0.05
IDS = (1, 2, 3)


class Coordinator(ABC):
    """Three servers, each with its ports and its directory over restarts.

    Attributes:
        name: for messages.
    """

    name: str

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ports = dict(zip(IDS, find_free_ports(3), strict=True))
        self._peer_ports = dict(zip(IDS, find_free_ports(3), strict=True))

    @property
    def hosts(self) -> list[str]:
        """Where etcd's API is served."""
        return [f"127.0.0.1:{port}" for port in self._ports.values()]

    def peer_urls(self, form: str) -> str:
        """The peers, each as `form` with `id` and `url`, separated by commas."""
        urls = {i: f"http://127.0.0.1:{port}" for i, port in self._peer_ports.items()}
        return ",".join(form.format(id=i, url=url) for i, url in urls.items())

    @abstractmethod
    def command(self, server_id: int) -> Sequence[str]:
        """What runs a server."""

    def start(self, *server_ids: int) -> None:
        """Start these servers, or all, and return when each answers a linearizable read."""
        for server_id in server_ids or IDS:
            with (self.directory / f"{server_id}.log").open("ab") as log:
                self._processes[server_id] = subprocess.Popen(self.command(server_id), stdout=log, stderr=log)
        for server_id in server_ids or IDS:
            self._wait_answer(server_id, "/v3/kv/range", {"key": "AA=="})

    def leader(self) -> int:
        """The id of the server that leads, once one does."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for server_id in self._processes:
                status = self._wait_answer(server_id, "/v3/maintenance/status", {})
                if status.get("leader") == status["header"]["member_id"]:
                    return server_id
            time.sleep(POLL_S)
        raise AssertionError(f"no server of {self.name} leads")

    def kill(self, server_id: int) -> None:
        """SIGKILL, and wait for its end."""
        process = self._processes.pop(server_id)
        process.kill()
        process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End all servers."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def _wait_answer(self, server_id: int, path: str, request: dict[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                url = f"http://127.0.0.1:{self._ports[server_id]}{path}"
                answer = httpx.post(url, json=request, timeout=PATIENCE_S)
                if answer.status_code == 200:
                    return dict(answer.json())
            except httpx.TransportError:
                pass  # it does not listen yet
            assert time.monotonic() < deadline, f"server {server_id} of {self.name} does not answer"
            time.sleep(POLL_S)


class Etcd(Coordinator):
    """Three members of a real etcd."""

    name = "etcd"

    def command(self, server_id: int) -> Sequence[str]:
        client = f"http://127.0.0.1:{self._ports[server_id]}"
        peer = f"http://127.0.0.1:{self._peer_ports[server_id]}"
        return [
            *("etcd", "--name", f"m{server_id}", "--data-dir", str(self.directory / str(server_id))),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", self.peer_urls("m{id}={url}")),
        ]


class Nodes(Coordinator):
    """Three nodes of ours."""

    name = "raftkv-trio"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._rest_ports = dict(zip(IDS, find_free_ports(3), strict=True))

    def command(self, server_id: int) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "raftkv_trio", "serve", "--id", str(server_id)),
            *("--cluster", self.peer_urls("{id}={url}"), "--port", str(self._rest_ports[server_id])),
            *("--etcd-port", str(self._ports[server_id])),
            *("--data-dir", str(self.directory / str(server_id))),
        ]
