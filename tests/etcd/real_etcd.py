"""A real etcd 3.4 to compare with, for tests that are skipped where it is not installed."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.etcd.servers import open_etcd


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


@contextmanager
def running_etcd(directory: Path) -> Iterator[RealEtcd]:
    """Start etcd with its data in a directory, and stop it at the end."""
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd 3.4: Debian's package etcd-server")
    version = subprocess.run(["etcd", "--version"], capture_output=True, text=True).stdout
    if "etcd Version: 3.4" not in version:
        pytest.skip("needs etcd of version 3.4; another one is installed")
    with open_etcd(directory, "--unsafe-no-fsync") as server:
        etcd = RealEtcd(server.port)
        yield etcd
        etcd.close()
