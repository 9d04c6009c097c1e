"""Three real nodes: what is acknowledged is there, wherever and after whatever."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.config import DEFAULT_REQUEST_TIMEOUT_S
from raftkv_trio.testing import Get, History, Outcome, Register, check_linearizable
from tests.integration.clients import (
    KEYS,
    Client,
    RegisterHistory,
    RegisterOperation,
    keep_asking,
)
from tests.integration.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        for node_id in cluster.ids:
            cluster.start(node_id)
        yield cluster
    finally:
        cluster.close()


async def test_read_your_writes_through_other_nodes(cluster: Cluster) -> None:
    """A value put through one node is read at once from a third, 200 times."""
    async with httpx.AsyncClient(timeout=30) as client:
        await cluster.wait_ready(client)
        for round_number in range(200):
            value = str(round_number).encode()
            put = await client.put(cluster.url(round_number % 3 + 1, "/key"), content=value)
            assert put.status_code == 204, put.text
            got = await client.get(cluster.url((round_number + 2) % 3 + 1, "/key"))
            assert (got.status_code, got.content) == (200, value)


async def test_a_stopped_node_catches_up(cluster: Cluster) -> None:
    """A node that was stopped cleanly reads what was written meanwhile, after it is started again."""
    async with httpx.AsyncClient(timeout=30) as client:
        await cluster.wait_ready(client)
        assert cluster.signal(2, signal.SIGINT) == 0
        await cluster.wait_ready(client)
        assert (await client.put(cluster.url(1, "/key"), content=b"bar")).status_code == 204
        cluster.start(2)
        await cluster.wait_ready(client)
        assert (await client.get(cluster.url(2, "/key"))).content == b"bar"


@pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.long)])
async def test_kill_9_of_all_loses_nothing_acknowledged(cluster: Cluster, rounds: int) -> None:
    """What clients saw before, between and after kills of all nodes at once is linearizable."""
    history: RegisterHistory = History(trio.current_time)
    rng = random.Random(rounds)
    clients = [Client(f"c{number}", cluster, history, rng) for number in range(12)]
    async with httpx.AsyncClient(timeout=30) as http:
        for _ in range(rounds):
            await cluster.wait_ready(http)
            await _ask_until_killed(cluster, clients, http, answers=rng.randrange(100, 300))
            for node_id in cluster.ids:
                cluster.start(node_id)
        await cluster.wait_ready(http)
        for key in KEYS:
            last = await clients[0].request(http, 1, key, Get())
            assert last.outcome is Outcome.COMPLETED
    assert sum(o.outcome is Outcome.COMPLETED for o in history.operations) >= 100 * rounds
    check_linearizable(history, Register())


async def _ask_until_killed(
    cluster: Cluster, clients: list[Client], http: httpx.AsyncClient, *, answers: int
) -> None:
    """Clients on all nodes ask until `answers` have come, then all nodes are killed."""
    left = answers
    enough = trio.Event()

    def answered(operation: RegisterOperation) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            enough.set()

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(keep_asking, client, http, cluster.ids[number % len(cluster.ids)], answered)
        await enough.wait()
        for node_id in cluster.ids:
            assert cluster.signal(node_id, signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("survivor_leads", [True, False])
async def test_a_minority_refuses_and_heals(cluster: Cluster, survivor_leads: bool) -> None:
    """Without a quorum requests are refused in time, and the status says why; then all heals."""
    async with httpx.AsyncClient(timeout=60) as http:
        await cluster.wait_ready(http)
        leader_id = (await http.get(cluster.url(1, "/-/status"))).json()["leader_id"]
        survivor = leader_id if survivor_leads else leader_id % 3 + 1
        dead = [node_id for node_id in cluster.ids if node_id != survivor]
        for node_id in dead:
            cluster.signal(node_id, signal.SIGKILL)
        began = trio.current_time()
        answers = await _ask_together(http, cluster.url(survivor, "/key"))
        assert trio.current_time() - began < 5 * DEFAULT_REQUEST_TIMEOUT_S
        assert answers["GET"] == 503
        assert answers["PUT"] in (503, 504)  # the latter if it was on its way before the loss was noticed
        status = (await http.get(cluster.url(survivor, "/-/status"))).json()
        assert status["leader_id"] is None
        assert all(f"node {node_id}: " in status["health"] for node_id in dead)
        assert await _ask_together(http, cluster.url(survivor, "/key")) == {"GET": 503, "PUT": 503}
        cluster.start(dead[0])
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(dead[0], "/key"), content=b"y")).status_code == 204
        assert (await http.get(cluster.url(survivor, "/key"))).content == b"y"


async def _ask_together(http: httpx.AsyncClient, url: str) -> dict[str, int]:
    """The statuses of a GET and a PUT at the same time."""
    answers: dict[str, int] = {}

    async def ask(method: str) -> None:
        answers[method] = (
            await http.request(method, url, content=b"x" if method == "PUT" else None)
        ).status_code

    async with trio.open_nursery() as nursery:
        for method in ("GET", "PUT"):
            nursery.start_soon(ask, method)
    return answers
