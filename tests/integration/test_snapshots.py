"""Snapshots of real processes: taken, sent to a node that fell behind, and enough for a restart."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import trio

from tests.cli.program import run
from tests.integration.cluster import Cluster

KEYS = 300


@pytest.fixture
def arguments() -> Sequence[str]:
    """A snapshot every 50 entries, and ten of them kept behind it."""
    return ("--snapshot-entries", "50", "--catch-up-entries", "10")


async def put_all(http: httpx.AsyncClient, cluster: Cluster, node_id: int, value: str) -> None:
    """One value under every key, with some requests under way at once."""
    async with trio.open_nursery() as nursery:
        for first in range(10):
            nursery.start_soon(put_some, http, cluster, node_id, value, range(first, KEYS, 10))


async def put_some(http: httpx.AsyncClient, cluster: Cluster, node_id: int, value: str, keys: range) -> None:
    for key in keys:
        answer = await http.put(cluster.url(node_id, f"/{key}k"), content=f"{value} {key}")
        assert answer.status_code == 204


async def test_a_member_that_fell_behind_receives_a_snapshot(
    cluster: Cluster, http: httpx.AsyncClient
) -> None:
    """What was written meanwhile is compacted away, and it comes to the same state; so after kill -9."""
    await cluster.wait_ready(http)
    await put_all(http, cluster, 1, "first")
    leader = await cluster.leader(http)
    away = next(node_id for node_id in cluster.ids if node_id != leader)
    cluster.kill(away)
    await put_all(http, cluster, leader, "second")
    cluster.start(away)
    await cluster.wait_ready(http)
    await cluster.wait_equal(http)
    status = await cluster.status(http, away)
    assert status["snapshot_index"] > KEYS
    cluster.kill()
    cluster.start()
    await cluster.wait_ready(http)
    for key in range(0, KEYS, 7):
        answer = await http.get(cluster.url(away, f"/{key}k"))
        assert answer.text == f"second {key}"
    await cluster.wait_equal(http)


async def test_a_snapshot_is_taken_on_demand(
    cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The command returns when it is durable; a restart begins there, and nothing is left of the entries."""
    await cluster.wait_ready(http)
    await put_all(http, cluster, 2, "value")
    endpoints = [argument for i in cluster.ids for argument in ("--endpoint", cluster.url(i, ""))]
    said = await trio.to_thread.run_sync(lambda: run("snapshot", *endpoints, directory=tmp_path))
    assert said.returncode == 0
    assert len(said.stdout.splitlines()) == 3
    before = [await cluster.status(http, node_id) for node_id in cluster.ids]
    assert all(status["snapshot_index"] >= KEYS for status in before)
    cluster.kill()
    cluster.start()
    await cluster.wait_ready(http)
    assert (await http.get(cluster.url(3, "/7k"))).text == "value 7"
    await cluster.wait_equal(http)
