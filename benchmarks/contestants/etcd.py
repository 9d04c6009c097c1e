"""etcd, asked over its v3 JSON gateway (Debian's package `etcd-server`)."""

import json
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ask import ask_json
from benchmarks.contestants.contestant import Running
from benchmarks.ports import free_ports
from benchmarks.processes import Daemon, stopping, wait_until


class Etcd:
    """A cluster of etcd with its defaults: heartbeats and elections have the same intervals as ours."""

    api = "etcd"

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self.name = f"etcd, {nodes} nodes"

    def why_missing(self) -> str | None:
        """As `Contestant.why_missing`."""
        return None if shutil.which("etcd") else "etcd is not installed (apt install etcd-server)"

    @contextmanager
    def started(self, directory: Path) -> Iterator[Running]:
        """As `Contestant.started`."""
        ports = free_ports(2 * self._nodes)
        clients = [f"http://127.0.0.1:{port}" for port in ports[: self._nodes]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[self._nodes :]]
        cluster = ",".join(f"node{number}={url}" for number, url in enumerate(peers))
        daemons: list[Daemon] = []
        with stopping(daemons):
            for number, (client, peer) in enumerate(zip(clients, peers, strict=True)):
                command: list[str | Path] = [
                    *("etcd", "--name", f"node{number}", "--data-dir", directory / f"etcd-{number}"),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"),
                ]
                daemons.append(Daemon(command, directory / f"etcd-{number}.log"))
            leading: list[int] = []

            def leads() -> bool:
                leading[:] = [number for number, url in enumerate(clients) if _leads(url)]
                return bool(leading)

            wait_until(leads, "etcd has no leader", daemons)
            yield Running(clients[leading[0]], daemons[leading[0]], daemons)

    def fill_request(self, key: int, value: bytes) -> tuple[str, str, bytes]:
        """As `Contestant.fill_request`."""
        body = {"key": b64encode(b"/bench/%d" % key).decode(), "value": b64encode(value).decode()}
        return "POST", "/v3/kv/put", json.dumps(body).encode()


def _leads(url: str) -> bool:
    status = ask_json(url, "POST", "/v3/maintenance/status", b"{}")
    return bool(status) and status.get("leader") == status.get("header", {}).get("member_id", "")
