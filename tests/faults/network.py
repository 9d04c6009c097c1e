"""A network namespace and an address for each node, on one bridge, made and removed by the test."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_PREFIX = "rkf"
_NOWHERE = "02:00:00:00:de:ad"  # nobody's: frames to it are lost, and the sender is told nothing


class Network:
    """Namespaces of nodes 1 to `size`, each with `address(node_id)`, reached from here over the bridge."""

    def __init__(self, size: int) -> None:
        self._ids = range(1, size + 1)
        self._bridge = f"{_PREFIX}{os.getpid()}"
        self._cuts: set[tuple[int, int]] = set()

    def namespace(self, node_id: int) -> str:
        return f"{self._bridge}-{node_id}"

    def address(self, node_id: int) -> str:
        return f"10.213.77.{10 + node_id}"

    def make(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", "10.213.77.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for node_id in self._ids:
            namespace, port = self.namespace(node_id), f"{self._bridge}v{node_id}"
            _ip("netns", "add", namespace)
            _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", port, "master", self._bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(node_id)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")

    def cut(self, source: int, target: int) -> None:
        """From now on nothing that `source` sends gets to `target`; the other way stays open."""
        self._neighbour("replace", source, target, "lladdr", _NOWHERE, "nud", "permanent")
        self._cuts.add((source, target))

    def heal(self) -> None:
        for source, target in sorted(self._cuts):
            self._neighbour("del", source, target)
        self._cuts.clear()

    def _neighbour(self, verb: str, source: int, target: int, *how: str) -> None:
        _ip("-n", self.namespace(source), "neigh", verb, self.address(target), *how, "dev", "eth0")


@contextmanager
def open_network(size: int) -> Iterator[Network]:
    """Skip the test where namespaces are not allowed; what dead earlier runs left is removed first."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    for pid in _owners():
        if not os.path.exists(f"/proc/{pid}"):
            _remove(pid)
    try:
        network = Network(size)
        try:
            network.make()
        except subprocess.CalledProcessError as error:
            if "not permitted" not in error.stderr:
                raise
            pytest.skip(f"network namespaces are not allowed: {error.stderr.strip()}")
        yield network
    finally:
        _remove(os.getpid())


def _owners() -> set[int]:
    """Pids in the names of this suite's namespaces, bridges and their ports."""
    listed = _ip("netns", "list") + "\n" + _ip("-br", "link", "show")
    return {int(pid) for pid in re.findall(rf"^{_PREFIX}(\d+)", listed, re.MULTILINE)}


def _remove(pid: int) -> None:
    for namespace in re.findall(rf"^{_PREFIX}{pid}-\d+\b", _ip("netns", "list"), re.MULTILINE):
        _ip("netns", "del", namespace)
    # A namespace outlives its name while connections linger in it, and its port with it.
    for device in re.findall(rf"^{_PREFIX}{pid}(?:v\d+)?\b", _ip("-br", "link", "show"), re.MULTILINE):
        try:
            _ip("link", "del", device)
        except subprocess.CalledProcessError as error:
            if "Cannot find device" not in error.stderr:  # it went with its namespace meanwhile
                raise


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
