"""One fault at a time on real nodes: what each of them may stop, and what it may not."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.testing import History, Register, check_linearizable
from tests.faults.mixed import cut_to_ring, keep_full
from tests.faults.namespaced import NamespacedCluster, open_namespaced
from tests.faults.network import skipped_if_not_in_this_kernel
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import PATIENCE_S, POLL_S

pytestmark = pytest.mark.faults

ARGUMENTS = ("--request-timeout", "2")
WRITES = 20
FAR_BEHIND = 20


@pytest.fixture
def history() -> RegisterHistory:
    return History(trio.current_time)


def client_of(cluster: NamespacedCluster, http: httpx.AsyncClient, history: RegisterHistory) -> Client:
    return Client("client", cluster, http, history, random.Random(1))


async def write_through(client: Client, node_ids: Sequence[int]) -> None:
    """Write through each until that is acknowledged."""
    with trio.fail_after(PATIENCE_S):
        for node_id in node_ids:
            await client.create(node_id)
            while client.status != 204:
                await client.create(node_id)


async def put_large(http: httpx.AsyncClient, url: str) -> int:
    """Write 4 KiB, outside of any history; returns the answer's status."""
    return (await http.put(url, content=bytes(4096))).status_code


async def check_all(
    cluster: NamespacedCluster, http: httpx.AsyncClient, client: Client, history: RegisterHistory
) -> None:
    """All nodes take writes and are equal, and nothing acknowledged is lost."""
    await cluster.wait_ready(http)
    await write_through(client, cluster.ids)
    await cluster.wait_equal(http)
    keys = sorted({str(operation.key) for operation in history.operations})
    for key, node_id in zip(keys, itertools.cycle(cluster.ids), strict=False):
        await client.get(node_id, key)
        assert client.status in (200, 404)
    check_linearizable(history, Register())


async def test_a_leader_that_stands_still_is_replaced(tmp_path: Path, history: RegisterHistory) -> None:
    """The others write without it; when it goes on it follows, and what it reads is theirs."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        client = client_of(cluster, http, history)
        old = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != old]
        await client.put(old, "/key")
        cluster.halt(old)
        await cluster.leader(http, *others)
        await client.put(others[0], "/key")
        cluster.resume(old)
        await client.get(old, "/key")
        await check_all(cluster, http, client, history)


async def test_a_leader_without_room_hands_over(tmp_path: Path, history: RegisterHistory) -> None:
    """It refuses writes and goes on to read; the others write; it takes writes again when there is room."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        client = client_of(cluster, http, history)
        full = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != full]
        await client.put(full, "/key")
        cluster.disks.fill(full)
        with trio.fail_after(PATIENCE_S):
            while await put_large(http, cluster.url(full, "/large")) != 507:
                pass
        await cluster.leader(http, *others)
        await client.put(others[0], "/key")
        assert client.status == 204
        await client.get(full, "/key")
        assert client.status == 200
        cluster.disks.free(full)
        await check_all(cluster, http, client, history)


async def test_a_follower_without_room_catches_up(tmp_path: Path, history: RegisterHistory) -> None:
    """While the others go on to write it stays, and says why it falls behind; with room it catches up."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        client = client_of(cluster, http, history)
        leader = await cluster.leader(http)
        full = leader % 3 + 1
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_full, cluster, full)
                while await lag(cluster, http, full, leader) < FAR_BEHIND:
                    await put_large(http, cluster.url(leader, "/large"))
                nursery.cancel_scope.cancel()
        assert "no room" in (await cluster.status(http, full))["health"]
        cluster.disks.free(full)
        await check_all(cluster, http, client, history)
        assert not cluster.take_ended()


async def lag(cluster: NamespacedCluster, http: httpx.AsyncClient, node_id: int, leader: int) -> int:
    """How many entries of the leader's log a node has not taken."""
    there, here = [await cluster.status(http, one) for one in (leader, node_id)]
    return int(there["last_index"]) - int(here["last_index"])


async def test_frames_are_lost(tmp_path: Path, history: RegisterHistory) -> None:
    """A fifth of all that each node sends: every node still gets its writes through."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        client = client_of(cluster, http, history)
        with skipped_if_not_in_this_kernel():
            for node_id in cluster.ids:
                cluster.network.lose(node_id, 0.2)
        for _ in range(WRITES):
            await write_through(client, cluster.ids)
        assert all(cluster.network.held_up(node_id) for node_id in cluster.ids)
        cluster.network.heal()
        await check_all(cluster, http, client, history)


async def test_a_snapshot_over_a_narrow_link_costs_no_leader(
    tmp_path: Path, history: RegisterHistory
) -> None:
    """While a snapshot goes to a follower at 25 kB/s, heartbeats and writes get through beside it."""
    arguments = (*ARGUMENTS, "--snapshot-entries", "20", "--catch-up-entries", "5")
    async with open_namespaced(tmp_path, arguments=arguments) as (cluster, http):
        client = client_of(cluster, http, history)
        leader = await cluster.leader(http)
        away = leader % 3 + 1
        cluster.kill(away)
        for number in range(60):
            assert await put_large(http, cluster.url(leader, f"/large-{number}")) == 204
        term = (await cluster.status(http, leader))["term"]
        with skipped_if_not_in_this_kernel():
            cluster.network.narrow(leader, 200)
        cluster.start(away)
        await cluster.wait_serving(http, away)
        writes = 0
        with trio.fail_after(PATIENCE_S):
            while (await cluster.status(http, away))["snapshot_index"] < 60:
                await client.put(leader, "/key")
                writes += client.status == 204
        assert cluster.network.held_up(leader)
        assert writes >= 3
        assert (await cluster.status(http, leader))["term"] == term
        cluster.network.heal()
        await check_all(cluster, http, client, history)


async def test_a_ring_costs_no_leader(tmp_path: Path, history: RegisterHistory) -> None:
    """Of five nodes, one that hears two neighbours but not the leader refuses, and unseats no leader."""
    async with open_namespaced(tmp_path, 5, ARGUMENTS) as (cluster, http):
        client = client_of(cluster, http, history)
        leader = await cluster.leader(http)
        term = (await cluster.status(http, leader))["term"]
        deaf = [(leader + 1) % 5 + 1, (leader + 2) % 5 + 1]
        cut_to_ring(cluster)
        for node_id in deaf:
            with trio.fail_after(PATIENCE_S):
                while (await cluster.status(http, node_id))["leader_id"] is not None:  # noqa: ASYNC110
                    await trio.sleep(POLL_S)
            await client.put(node_id, "/key")
            assert client.status == 503
        for node_id in set(cluster.ids) - set(deaf):
            await client.put(node_id, "/key")
            assert client.status == 204
        statuses = [await cluster.status(http, node_id) for node_id in cluster.ids]
        assert {status["term"] for status in statuses} == {term}
        assert statuses[leader - 1]["role"] == "leader"
        cluster.network.heal()
        await check_all(cluster, http, client, history)
