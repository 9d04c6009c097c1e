"""Three real nodes: what is acknowledged is there, wherever and after whatever."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

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


async def test_kill_9_of_all_loses_nothing_acknowledged(cluster: Cluster) -> None:
    """Every write that got 204 before all nodes were killed is there after their restart."""
    acknowledged: list[str] = []

    async def write(node_id: int, round_number: int) -> None:
        for number in itertools.count():
            key = f"/{round_number}-{node_id}-{number}"
            try:
                put = await client.put(cluster.url(node_id, key), content=key.encode())
            except httpx.TransportError:
                return
            if put.status_code == 204:
                acknowledged.append(key)
                if len(acknowledged) >= wanted:
                    enough.set()

    async with httpx.AsyncClient(timeout=30) as client:
        for round_number in range(5):
            await cluster.wait_ready(client)
            enough, wanted = trio.Event(), len(acknowledged) + 100
            async with trio.open_nursery() as nursery:
                for node_id in cluster.ids:
                    nursery.start_soon(write, node_id, round_number)
                await enough.wait()
                for node_id in cluster.ids:
                    assert cluster.signal(node_id, signal.SIGKILL) == -signal.SIGKILL
            for node_id in cluster.ids:
                cluster.start(node_id)
        await cluster.wait_ready(client)
        for key in acknowledged:
            got = await client.get(cluster.url(1, key))
            assert (got.status_code, got.content) == (200, key.encode())


async def test_a_minority_refuses_and_heals(cluster: Cluster) -> None:
    """Without a quorum reads answer 503 and writes 503 or 504; with one again both succeed."""
    async with httpx.AsyncClient(timeout=30) as client:
        await cluster.wait_ready(client)
        for node_id in (2, 3):
            cluster.signal(node_id, signal.SIGKILL)
        assert (await client.get(cluster.url(1, "/key"))).status_code == 503
        assert (await client.put(cluster.url(1, "/key"), content=b"x")).status_code in (503, 504)
        assert "no leader" in (await client.get(cluster.url(1, "/-/status"))).json()["health"]
        cluster.start(2)
        await cluster.wait_ready(client)
        assert (await client.put(cluster.url(2, "/key"), content=b"y")).status_code == 204
        assert (await client.get(cluster.url(1, "/key"))).content == b"y"
