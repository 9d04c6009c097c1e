"""How a node shuts down: cleanly and soon, whatever its clients do, and at once after a second signal."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGSTOP, SIGTERM, Signals

import httpx
import pytest
import trio

from tests.cli.cluster import Cluster
from tests.cli.program import NO_TLS, Node, serving_alone

STOP_S = 2.0  # what `tox -e timing` asserts; plain tox allows five times that
WRITE_S = 0.3  # likewise, and so the next
AT_ONCE_S = 0.2


@pytest.fixture
def pair(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Cluster]:
    """Nodes 1 and 2 of three, in agreement; node 3 accepts connections and never answers."""
    ports = free_ports(5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster = Cluster(tmp_path, [*ports[:2], silent.getsockname()[1], *ports[2:], 0])
        try:
            for node_id in (1, 2):
                cluster.start(node_id)
            for node in cluster.nodes.values():
                node.wait_answer(200, "/-/ready")
            yield cluster
        finally:
            cluster.close()


def leader_of(cluster: Cluster) -> int:
    (node,) = (node for node in cluster.nodes.values() if node.status()["role"] == "leader")
    return int(node.status()["id"])


def connect(node: Node, request: bytes, answer: bytes) -> socket.socket:
    """A connection on which this was sent and this came back, read no further."""
    client = socket.create_connection(("127.0.0.1", node.port), timeout=60)
    client.sendall(request)
    assert client.recv(len(answer), socket.MSG_WAITALL) == answer
    return client


@contextmanager
def rude_clients(node: Node) -> Iterator[None]:
    """A writer that stalls, a client that never reads, and one that keeps its connection idle."""
    with ExitStack() as clients:
        stalled = (
            b"PUT /stalled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        clients.enter_context(connect(node, stalled, b"HTTP/1.1 100")).sendall(b"half")
        httpx.put(node.url + "/big", content=bytes(1_500_000), timeout=60, verify=NO_TLS).raise_for_status()
        never_reads = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
        clients.enter_context(connect(node, never_reads, b"HTTP/1.1 200"))
        idle = clients.enter_context(httpx.Client(timeout=60, verify=NO_TLS))
        assert idle.get(node.url + "/-/healthy").status_code == 200
        yield


def seconds_to_stop(node: Node, number: Signals) -> float:
    started_at = time.monotonic()
    assert node.end(number) == 0
    return time.monotonic() - started_at


def leader_with_everything(cluster: Cluster) -> float:
    leader = cluster.nodes[leader_of(cluster)]
    with rude_clients(leader):
        return seconds_to_stop(leader, SIGTERM)


def leader_with_a_halted_successor(cluster: Cluster) -> float:
    leader_id = leader_of(cluster)
    with rude_clients(cluster.nodes[leader_id]):
        cluster.nodes[3 - leader_id].process.send_signal(SIGSTOP)
        return seconds_to_stop(cluster.nodes[leader_id], SIGTERM)


def minority_with_everything(cluster: Cluster) -> float:
    leader_id = leader_of(cluster)
    node = cluster.nodes[3 - leader_id]
    with rude_clients(node):
        cluster.kill(leader_id)
        node.wait(lambda: node.status()["leader_id"] is None)
        waiting = (
            b"PUT /waiting HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with connect(node, waiting, b""):
            return seconds_to_stop(node, SIGINT)


PROMISED = [leader_with_everything, minority_with_everything]


@pytest.mark.parametrize("scene", [*PROMISED, leader_with_a_halted_successor])
def test_nobody_holds_up_a_stop(pair: Cluster, scene: Callable[[Cluster], float]) -> None:
    """A stop is clean and soon with rude clients and a silent peer, for a leader and without one."""
    assert scene(pair) < 5 * STOP_S


@pytest.mark.timing
@pytest.mark.parametrize("scene", PROMISED)
def test_nobody_holds_up_a_stop_in_time(pair: Cluster, scene: Callable[[Cluster], float]) -> None:
    """The same in 2 seconds."""
    seconds = scene(pair)
    print(f"{scene.__name__}: {seconds:.2f} s")
    assert seconds < STOP_S


def second_signal(directory: Path, number: Signals) -> float:
    """How long a node goes on after a second signal that comes while it waits for requests to end."""
    with serving_alone(directory=directory) as node:
        node.wait_answer(200, "/-/ready")
        assert httpx.put(node.url + "/key", content=b"value", verify=NO_TLS).status_code == 204
        with rude_clients(node):
            node.process.send_signal(number)
            node.wait_said("node 1 is stopping")
            started_at = time.monotonic()
            assert node.end(number) == 128 + number
        assert node.said.endswith(f"a second {number.name}: no clean stop\n")
        return time.monotonic() - started_at


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_second_signal_waits_for_nothing(tmp_path: Path, number: Signals) -> None:
    """A second signal ends a stop that is under way, and what was acknowledged is there."""
    assert second_signal(tmp_path, number) < 5 * AT_ONCE_S
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        assert httpx.get(node.url + "/key", verify=NO_TLS).content == b"value"


@pytest.mark.timing
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """The same in 200 ms."""
    seconds = second_signal(tmp_path, SIGTERM)
    print(f"second signal: {1000 * seconds:.0f} ms")
    assert seconds < AT_ONCE_S


@dataclass
class Writer:
    """Writes through one node, one write after another, until cancelled or refused a connection."""

    url: str
    waits_s: list[float] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    is_refused: bool = False

    async def run(self, client: httpx.AsyncClient) -> None:
        while not self.is_refused:
            started_at = trio.current_time()
            try:
                put = await client.put(self.url + "/key", content=b"value")
            except httpx.TransportError:
                self.is_refused = True
            else:
                self.waits_s.append(trio.current_time() - started_at)
                self.statuses.add(put.status_code)

    async def wait_more(self, count: int) -> None:
        count += len(self.waits_s)
        while len(self.waits_s) < count:  # noqa: ASYNC110 - it is asked often enough
            await trio.sleep(0.005)


async def longest_wait_s(cluster: Cluster) -> float:
    """The longest wait of a write, through any node, while the leader shuts down; each write gets 204."""
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    leader = cluster.nodes.pop(leader_of(cluster))
    at_leader = Writer(leader.url)
    others = [Writer(node.url) for node in cluster.nodes.values()]
    with trio.fail_after(60):
        async with httpx.AsyncClient(timeout=30, verify=NO_TLS) as client, trio.open_nursery() as nursery:
            for writer in (at_leader, *others):
                nursery.start_soon(writer.run, client)
            for writer in (at_leader, *others):
                await writer.wait_more(20)
                writer.waits_s.clear()
            assert await trio.to_thread.run_sync(leader.end, SIGTERM) == 0
            for writer in others:
                await writer.wait_more(20)
            nursery.cancel_scope.cancel()
    assert re.search(r"is stopping\n.* follower at term ", leader.said)
    assert at_leader.is_refused
    assert [writer.is_refused for writer in others] == [False, False]
    assert set().union(*(writer.statuses for writer in (at_leader, *others))) == {204}
    return max(wait_s for writer in (at_leader, *others) for wait_s in writer.waits_s)


async def test_writes_go_on_while_the_leader_stops(cluster: Cluster) -> None:
    """The leader transfers leadership first: no write waits for an election timeout, and none fails."""
    assert await longest_wait_s(cluster) < 5 * WRITE_S


@pytest.mark.timing
async def test_writes_go_on_in_time_while_the_leader_stops(cluster: Cluster) -> None:
    """The same within 300 ms."""
    wait_s = await longest_wait_s(cluster)
    print(f"the longest wait was {1000 * wait_s:.0f} ms")
    assert wait_s < WRITE_S
