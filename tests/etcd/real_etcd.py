"""A real etcd 3.4 to compare with, for tests that are skipped where it is not installed."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

START_S = 30.0


class Answer(NamedTuple):
    """What the gateway has answered; status 0: it has closed the connection without an answer."""

    status: int
    content: bytes

    @property
    def json(self) -> Any:
        """The content as values."""
        return json.loads(self.content)


class RealEtcd:
    """A running etcd with one member, asked over its JSON gateway."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self, path: str, content: bytes, method: str = "POST") -> Answer:
        """Send a request, and return the answer."""
        try:
            self._connection.request(method, path, content)
            response = self._connection.getresponse()
            return Answer(response.status, response.read())
        except http.client.RemoteDisconnected:
            self._connection.close()
            return Answer(0, b"")

    def fields(self, path: str, method: str) -> dict[str, str]:
        """The fields of the answer to a request without content; names in lower case."""
        self._connection.request(method, path, b"")
        response = self._connection.getresponse()
        response.read()
        return {name.lower(): value for name, value in response.getheaders()}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def running_etcd(directory: Path) -> Iterator[RealEtcd]:
    """Start etcd with its data in a directory, and stop it at the end."""
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("needs etcd 3.4: Debian's package etcd-server")
    if (
        "etcd Version: 3.4"
        not in subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("needs etcd of version 3.4; another one is installed")
    port, peer_port = free_port(), free_port()
    clients, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    process = subprocess.Popen(
        [
            *(program, "--data-dir", str(directory / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    etcd = RealEtcd(port)
    try:
        _wait_healthy(etcd, process)
        yield etcd
    finally:
        etcd.close()
        process.terminate()
        process.wait()


def _wait_healthy(etcd: RealEtcd, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, "etcd has ended"
        try:
            if etcd.ask("/health", b"", "GET").content == b'{"health":"true"}':
                return
        except OSError:
            etcd.close()
        time.sleep(0.05)  # another program's start can only be asked for
    raise TimeoutError("etcd does not become healthy")
