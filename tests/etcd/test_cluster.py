"""etcdctl on a cluster of three nodes: members, leadership, status, and a load."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.conftest import find_free_ports
from tests.etcd.servers import HOST, PATIENCE_S, ApiServer, needs_etcd, process
from tests.etcd.test_etcdctl import etcdctl

pytestmark = needs_etcd


class Nodes:
    """Nodes of one cluster, each a process."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.servers: dict[int, ApiServer] = {}
        self.peer_urls: dict[int, str] = {}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, node_id: int, *, join: bool = False) -> None:
        """Start one node; a node that joins dials all that were told before."""
        port, rest_port = find_free_ports(2)
        cluster = ",".join(f"{i}={url}" for i, url in self.peer_urls.items())
        command = [
            *(sys.executable, "-m", "raftkv_trio", "serve", "--id", str(node_id), "--cluster", cluster),
            *("--port", str(rest_port), "--etcd-port", str(port)),
            *("--data-dir", str(self._directory / str(node_id)), *(["--join"] if join else [])),
        ]
        running = process(command, self._directory / f"{node_id}.log")
        self.processes[node_id] = self._stack.enter_context(running)
        self.servers[node_id] = ApiServer(f"node {node_id}", port)

    def status(self, node_id: int) -> dict[str, Any]:
        """What one node says of itself."""
        code, output, error = etcdctl(self.servers[node_id], "endpoint", "status", "-w", "json")
        assert code == 0, error
        [seen] = json.loads(output)
        status: dict[str, Any] = seen["Status"]
        return status

    def leader(self) -> int:
        """The node that leads."""
        return int(self.status(next(iter(self.servers)))["leader"])


@contextmanager
def started(directory: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        nodes = Nodes(directory, stack)
        nodes.peer_urls = {
            node_id: f"http://{HOST}:{port}" for node_id, port in enumerate(find_free_ports(3), 1)
        }
        for node_id in (1, 2, 3):
            nodes.start(node_id)
        for server in nodes.servers.values():
            server.wait_ready()
        yield nodes


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with started(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


def test_all_members_are_named(nodes: Nodes) -> None:
    """Each member names where all serve etcd's API, so that `--cluster` asks all of them."""
    for server in nodes.servers.values():
        code, output, _ = etcdctl(server, "member", "list")
        assert code == 0
        assert output.splitlines() == [
            f"{i}, started, node{i}, http://HOST:PORT, http://HOST:PORT, false" for i in (1, 2, 3)
        ]
    first = nodes.servers[1]
    code, output, _ = etcdctl(first, "endpoint", "status", "--cluster")
    assert (code, len(output.splitlines())) == (0, 3)
    assert output.count(", true, false, ") == 1  # one leads
    code, _, said = etcdctl(first, "endpoint", "health", "--cluster")
    assert (code, said.count("is healthy")) == (0, 3)


def test_hashes_are_equal(nodes: Nodes) -> None:
    """HashKV is the same on all members, at the present and at a past revision."""
    for n in range(20):
        assert etcdctl(nodes.servers[n % 3 + 1], "put", f"key{n % 5}", str(n))[0] == 0
    for server in nodes.servers.values():
        assert etcdctl(server, "get", "key1")[0] == 0  # linearizable, so it has applied all
    revision = json.loads(etcdctl(nodes.servers[1], "get", "key1", "-w", "json")[1])["header"]["revision"]
    for at in (revision, revision - 7):
        seen = [
            etcdctl(server, "endpoint", "hashkv", "--rev", str(at))[1] for server in nodes.servers.values()
        ]
        assert len(set(seen)) == 1, seen


def test_leadership_is_transferred(nodes: Nodes) -> None:
    """Asked at the leader; at another node it is refused with etcd's words."""
    leader = nodes.leader()
    successor = leader % 3 + 1
    code, output, _ = etcdctl(nodes.servers[leader], "move-leader", str(successor))
    assert (code, output) == (0, f"Leadership transferred from {leader} to {successor}\n")
    assert nodes.leader() == successor


def test_members_change(nodes: Nodes) -> None:
    """A learner is added, catches up, is promoted, and removed; each step has etcd's output."""
    [port] = find_free_ports(1)
    url = f"http://{HOST}:{port}"
    first = nodes.servers[1]
    code, output, error = etcdctl(first, "member", "add", "new", "--learner", "--peer-urls", url)
    assert code == 0, error
    assert output.startswith("Member                4 added to cluster")
    assert etcdctl(first, "member", "add", "new", "--peer-urls", url)[2].endswith("Peer URLs already exists")
    assert etcdctl(first, "member", "promote", "4")[2].endswith("in sync with leader")
    assert etcdctl(first, "member", "promote", "1")[2].endswith("can only promote a learner member")
    nodes.peer_urls[4] = url
    nodes.start(4, join=True)
    nodes.servers[4].wait_ready()
    assert nodes.status(4)["isLearner"] is True
    deadline = time.monotonic() + PATIENCE_S
    while etcdctl(first, "member", "promote", "4")[0] != 0:  # until it has caught up
        assert time.monotonic() < deadline
    assert "isLearner" not in nodes.status(4)
    code, output, _ = etcdctl(first, "member", "remove", "4")
    assert (code, output.startswith("Member                4 removed from cluster")) == (0, True)
    del nodes.servers[4]
    assert etcdctl(first, "member", "list")[1].count("started") == 3


def test_a_node_that_waits_to_join(tmp_path: Path) -> None:
    """It says so to clients of JSON, and gRPC is refused, so that neither waits in vain."""
    own, away = find_free_ports(2)
    with ExitStack() as stack:
        alone = Nodes(tmp_path, stack)
        alone.peer_urls = {1: f"http://{HOST}:{away}", 2: f"http://{HOST}:{own}"}
        alone.start(2, join=True)
        server = alone.servers[2]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = httpx.post(f"{server.url}/v3/kv/range", json={"key": "AA=="}, timeout=PATIENCE_S)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert (answer.status_code, "Waiting to join" in answer.text) == (503, True)
        with server.channel() as channel:
            call = channel.unary_unary("/etcdserverpb.KV/Range")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"\n\1a", timeout=PATIENCE_S)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.long
def test_a_load(nodes: Nodes) -> None:
    """etcdctl's own load, small: it passes where the machine is not slow, and is carried out in any case."""
    done = subprocess.run(
        ["etcdctl", "--endpoints", f"{HOST}:{nodes.servers[1].port}", "check", "perf", "--load", "s"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "Throughput is" in done.stdout + done.stderr
