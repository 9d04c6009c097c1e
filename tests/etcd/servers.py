"""Real servers of etcd's API, each a process of its own: etcd, to compare with, and ours."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from tests.conftest import find_free_ports

PATIENCE_S = 60.0
HOST = "127.0.0.1"

needs_etcd = pytest.mark.skipif(
    shutil.which("etcd") is None or shutil.which("etcdctl") is None,
    reason="etcd is not installed (Debian: apt-get install etcd-server etcd-client)",
)


class ApiServer:
    """A server of etcd's API.

    Attributes:
        name: for messages of tests.
        port: of the API, gRPC and JSON.
        pid: of its process.
        log: what it has said.
    """

    def __init__(self, name: str, port: int, pid: int = 0, log: Path = Path("/dev/null")) -> None:
        self.name = name
        self.port = port
        self.pid = pid
        self.log = log

    def peak_bytes(self) -> int:
        """The most memory that its process has had in use so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait_ready(self) -> None:
        """Return when the server answers a linearizable read, if only that it wants to know the user."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = httpx.post(f"{self.url}/v3/kv/range", json={"key": "AA=="}, timeout=PATIENCE_S)
                if answer.status_code == 200 or "user name is empty" in answer.text:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{self.name} is not ready"
            time.sleep(0.02)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"{HOST}:{self.port}")


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process, whose output goes into a file; it is ended with the block."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                running.kill()
                raise


@contextmanager
def open_etcd(directory: Path, *arguments: str, ports: tuple[int, int] | None = None) -> Iterator[ApiServer]:
    """A single etcd; with an empty store, unless there is one in the directory.

    Args:
        ports: for clients and for members; None: free ones.
    """
    port, peer_port = ports or find_free_ports(2)
    client, peer = f"http://{HOST}:{port}", f"http://{HOST}:{peer_port}"
    command = [
        *("etcd", "--name", "etcd1", "--data-dir", str(directory / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"etcd1={peer}", *arguments),
    ]
    directory.mkdir(parents=True, exist_ok=True)
    with process(command, directory / "etcd.log"):
        server = ApiServer("etcd", port)
        server.wait_ready()
        yield server


@contextmanager
def open_quickly(name: str, directory: Path) -> Iterator[ApiServer]:
    """`etcd` or `raftkv-trio`, with an empty store; etcd takes no time for passwords, nor for its disk."""
    quick = ("--unsafe-no-fsync", "--bcrypt-cost", "4")
    with open_etcd(directory, *quick) if name == "etcd" else open_node(directory) as server:
        yield server


@contextmanager
def open_node(directory: Path, *arguments: str) -> Iterator[ApiServer]:
    """A single node of ours with an empty store, which keeps all of its history."""
    port, rest_port, peer_port = find_free_ports(3)
    command = [
        *(sys.executable, "-m", "raftkv_trio", "serve", "--cluster", f"http://{HOST}:{peer_port}"),
        *("--port", str(rest_port), "--etcd-port", str(port), "--data-dir", str(directory / "node")),
        *("--auto-compaction-retention", "0", *arguments),
    ]
    directory.mkdir(parents=True, exist_ok=True)
    with process(command, directory / "node.log") as running:
        server = ApiServer("raftkv-trio", port, running.pid, directory / "node.log")
        server.wait_ready()
        yield server
