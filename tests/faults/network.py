"""A network namespace and an address for each node, on one bridge, made and removed by the test.

Everything here is iproute2's `ip` and `tc`. A cut is a neighbour's address that nobody has. Loss is a classic
BPF filter on what leaves a node, since few kernels have netem: it draws a number for each frame.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_PREFIX = "rkf"
_NOWHERE = "02:00:00:00:de:ad"  # nobody's: frames to it are lost, and the sender is told nothing

# By Linux' filter.h: load a random u32; if it is greater, skip one; return TC_ACT_SHOT; return TC_ACT_UNSPEC.
_LOSE_BELOW = "4,32 0 0 4294963256,37 1 0 {below},6 0 0 2,6 0 0 4294967295"


class NotInThisKernel(Exception):
    """The kernel cannot do what was asked; the text is what it said."""


class Network:
    """Namespaces of nodes 1 to `size`, each with `address(node_id)`, reached from here over the bridge."""

    def __init__(self, size: int) -> None:
        self._ids = range(1, size + 1)
        self._bridge = f"{_PREFIX}{os.getpid()}"
        self._subnet = f"10.213.{os.getpid() % 256}"  # so that two runs rarely meet
        self._cuts: set[tuple[int, int]] = set()
        self._queues: set[tuple[int, str]] = set()  # node and place of a queueing discipline of ours

    def namespace(self, node_id: int) -> str:
        return f"{self._bridge}-{node_id}"

    def address(self, node_id: int) -> str:
        return f"{self._subnet}.{10 + node_id}"

    def make(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for node_id in self._ids:
            namespace, port = self.namespace(node_id), f"{self._bridge}v{node_id}"
            _ip("netns", "add", namespace)
            _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", port, "master", self._bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{self.address(node_id)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")

    # ------------------------------------------------------------ faults

    def cut(self, source: int, target: int) -> None:
        """From now on nothing that `source` sends gets to `target`; the other way stays open."""
        self._neighbour("replace", source, target, "lladdr", _NOWHERE, "nud", "permanent")
        self._cuts.add((source, target))

    def lose(self, node_id: int, share: float) -> None:
        """From now on this share of the frames that the node sends, to whomever, is lost."""
        self._queue(node_id, "clsact")
        lose = _LOSE_BELOW.format(below=int(share * 2**32))
        self._tc(node_id, "filter", "add", "dev", "eth0", "egress", "bpf", "da", "bytecode", lose)

    def narrow(self, node_id: int, kbit_s: int, *, queue_ms: int = 500) -> None:
        """From now on the node sends no more than that, and what would wait for longer is lost."""
        rate, latency = f"{kbit_s}kbit", f"{queue_ms}ms"
        self._queue(node_id, "root", "tbf", "rate", rate, "burst", "4kb", "latency", latency)

    def held_up(self, node_id: int) -> int:
        """How many of the node's frames were lost, or had to wait, by what was done to it since it healed."""
        found = json.loads(self._tc(node_id, "-json", "-s", "qdisc", "show", "dev", "eth0"))
        return sum(discipline["drops"] + discipline["overlimits"] for discipline in found)

    def heal(self) -> None:
        for source, target in sorted(self._cuts):
            self._neighbour("del", source, target)
        self._cuts.clear()
        for node_id, place in sorted(self._queues):
            self._tc(node_id, "qdisc", "del", "dev", "eth0", place)
        self._queues.clear()

    def _neighbour(self, verb: str, source: int, target: int, *how: str) -> None:
        _ip("-n", self.namespace(source), "neigh", verb, self.address(target), *how, "dev", "eth0")

    def _queue(self, node_id: int, place: str, *discipline: str) -> None:
        self._tc(node_id, "qdisc", "add", "dev", "eth0", place, *discipline)
        self._queues.add((node_id, place))

    def _tc(self, node_id: int, *arguments: str) -> str:
        try:
            return _run("tc", "-n", self.namespace(node_id), *arguments)
        except subprocess.CalledProcessError as error:
            if "unknown" not in error.stderr.lower():
                raise
            raise NotInThisKernel(f"tc {' '.join(arguments[:5])}: {error.stderr.strip()}") from error


@contextmanager
def skipped_if_not_in_this_kernel() -> Iterator[None]:
    """Skip the test if the kernel cannot do what it needs."""
    try:
        yield
    except NotInThisKernel as error:
        pytest.skip(str(error))


@contextmanager
def open_network(size: int) -> Iterator[Network]:
    """Skip the test if namespaces are not allowed; remove what earlier runs have left."""
    if shutil.which("ip") is None or shutil.which("tc") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2's `ip` and `tc`")
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
    """Remove what the run of this pid made, and end the nodes that are left in it."""
    for namespace in re.findall(rf"^{_PREFIX}{pid}-\d+\b", _ip("netns", "list"), re.MULTILINE):
        for node in _ip("netns", "pids", namespace).split():
            os.kill(int(node), signal.SIGKILL)
        _ip("netns", "del", namespace)
    # A namespace outlives its name while connections linger in it, and its port with it.
    for device in re.findall(rf"^{_PREFIX}{pid}(?:v\d+)?\b", _ip("-br", "link", "show"), re.MULTILINE):
        try:
            _ip("link", "del", device)
        except subprocess.CalledProcessError as error:
            if "Cannot find device" not in error.stderr:  # it went with its namespace meanwhile
                raise


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
