"""Faults that people have reported of such systems: no cluster gets stuck, and none loses data silently."""

import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.node.driver.catching_up import SILENT_S
from tests.faults.mixed import keep_full
from tests.faults.namespaced import NamespacedCluster, open_namespaced
from tests.faults.network import skipped_if_not_in_this_kernel
from tests.integration.cluster import PATIENCE_S, POLL_S

pytestmark = pytest.mark.faults

ARGUMENTS = ("--request-timeout", "2")
RESTARTS = 5
TAKES_OVER_WITHIN_S = 15.0
READERS, LARGE_WRITERS = 4, 8
READ_FOR_S = 5.0
LARGEST_VALUE_BYTES = 1_500_000
WIDE_DISK_KIB = 256 * 1024


async def put(http: httpx.AsyncClient, url: str, size_bytes: int = 10) -> int:
    """Write a value of this size; returns the answer's status."""
    return (await http.put(url, content=bytes(size_bytes))).status_code


async def wait_until(condition: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Ask the nodes, which are other processes, until they fulfil the condition."""
    with trio.fail_after(within_s):
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(POLL_S)


async def wait_written(http: httpx.AsyncClient, url: str, within_s: float = PATIENCE_S) -> None:
    """Write until a write is acknowledged."""

    async def is_written() -> bool:
        return await put(http, url) == 204

    await wait_until(is_written, within_s)


async def test_a_full_disk_at_the_next_leader(tmp_path: Path) -> None:
    """Leaders go one after the other; whoever is next, full or not, the healthy members write on."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        full = await cluster.leader(http) % 3 + 1
        healthy = [node_id for node_id in cluster.ids if node_id != full]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_full, cluster, full)
            with trio.fail_after(PATIENCE_S):
                while not (await cluster.status(http, full))["health"]:
                    await put(http, cluster.url(healthy[0], "/large"), 4096)
            for _ in range(RESTARTS):
                leader = await cluster.leader(http)
                if leader != full:
                    cluster.stop(leader, signal.SIGTERM)
                    cluster.start(leader)
                    await cluster.wait_serving(http, leader)
                await wait_written(http, cluster.url(healthy[0], "/key"), TAKES_OVER_WITHIN_S)
            nursery.cancel_scope.cancel()
        cluster.disks.free(full)
        await cluster.wait_ready(http)
        await cluster.wait_equal(http)


async def test_a_host_crashes_during_a_snapshot(tmp_path: Path) -> None:
    """The leader waits for the answer to a snapshot, and its host is gone without a word; it comes back."""
    arguments = (*ARGUMENTS, "--snapshot-entries", "20", "--catch-up-entries", "5")
    async with open_namespaced(tmp_path, arguments=arguments) as (cluster, http):
        leader = await cluster.leader(http)
        away = leader % 3 + 1
        cluster.kill(away)
        await trio.sleep(SILENT_S + 1)  # so long the leader keeps its log for a member that may come back
        for number in range(60):
            assert await put(http, cluster.url(leader, f"/key-{number}"), 500) == 204
        # So slow that the follower is met while it receives, and so small that its kernel takes all of it.
        with skipped_if_not_in_this_kernel():
            cluster.network.narrow(leader, 200)
        cluster.start(away)

        async def is_sent() -> bool:
            return await state_of(cluster, http, leader, away) == "snapshot"

        await wait_until(is_sent)
        cluster.halt(away)  # its kernel still acknowledges what the leader sends
        await trio.sleep(3)  # until all of it is acknowledged: no word of the follower can be waited for
        cluster.network.cut(leader, away)
        cluster.network.cut(away, leader)
        cluster.kill(away)
        await trio.sleep(1)  # what its kernel says of its end is lost
        cluster.network.heal()
        cluster.start(away)
        await cluster.wait_ready(http)
        await cluster.wait_equal(http)


async def state_of(cluster: NamespacedCluster, http: httpx.AsyncClient, leader: int, node_id: int) -> str:
    """What the leader does to bring this member up to date."""
    members = (await http.get(cluster.url(leader, "/-/members"))).raise_for_status().json()
    return str({member["id"]: member["state"] for member in members}[node_id])


async def test_a_follower_that_was_set_back(tmp_path: Path) -> None:
    """An older copy of its directory: it says what is wrong, counts for nothing, and the others go on."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS) as (cluster, http):
        leader = await cluster.leader(http)
        back, other = leader % 3 + 1, (leader + 1) % 3 + 1
        await wait_written(http, cluster.url(leader, "/before"), PATIENCE_S)
        await cluster.wait_equal(http)
        cluster.stop(back)
        copy = tmp_path / "copy"
        shutil.copytree(cluster.data_dir(back), copy)
        cluster.start(back)
        await cluster.wait_ready(http)
        for number in range(30):
            assert await put(http, cluster.url(leader, f"/key-{number}")) == 204
        await cluster.wait_equal(http)
        cluster.stop(back)
        shutil.rmtree(cluster.data_dir(back))
        shutil.copytree(copy, cluster.data_dir(back))
        cluster.start(back)
        await cluster.wait_serving(http, back)
        assert await put(http, cluster.url(leader, "/after")) == 204

        async def is_unhealthy() -> bool:
            return (await http.get(cluster.url(back, "/-/healthy"))).status_code != 200

        async def is_inactive() -> bool:
            members = (await http.get(cluster.url(leader, "/-/members"))).raise_for_status().json()
            return not {member["id"]: member["is_active"] for member in members}[back]

        await wait_until(is_unhealthy)
        assert "lost" in (await cluster.status(http, back))["health"]
        await wait_until(is_inactive)  # an election timeout after it was active last
        removal = await http.delete(cluster.url(leader, f"/-/members/{other}"))
        assert removal.status_code == 409
        assert await put(http, cluster.url(leader, "/after")) == 204
        log = cluster.log(back).read_text()
        assert log.count("lost") < 10, "a log line a minute"


async def test_a_snapshot_that_outlasts_the_log_under_writes(tmp_path: Path) -> None:
    """A follower that needs it catches up by one, or a few, though the log behind it is long."""
    arguments = (*ARGUMENTS, "--snapshot-entries", "5", "--catch-up-entries", "0")
    async with open_namespaced(tmp_path, arguments=arguments) as (cluster, http):
        leader = await cluster.leader(http)
        away = leader % 3 + 1
        cluster.kill(away)
        for number in range(30):
            assert await put(http, cluster.url(leader, f"/large-{number}"), 4096) == 204
        with skipped_if_not_in_this_kernel():
            cluster.network.narrow(leader, 800)
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(put_steadily, http, cluster.url(leader, f"/small-{number}"))
            cluster.start(away)

            async def is_streaming() -> bool:
                return await state_of(cluster, http, leader, away) == "replicate"

            await wait_until(is_streaming)
            nursery.cancel_scope.cancel()
        assert cluster.network.held_up(leader)
        cluster.network.heal()
        await cluster.wait_ready(http)
        await cluster.wait_equal(http)


async def put_steadily(http: httpx.AsyncClient, url: str) -> None:
    """Write small values, one after the other."""
    while True:
        await put(http, url)


async def test_the_largest_value_over_a_slow_link(tmp_path: Path) -> None:
    """It takes longer than an election timeout, and costs no leader."""
    async with open_namespaced(tmp_path, arguments=("--request-timeout", "20"), disk_kib=WIDE_DISK_KIB) as (
        cluster,
        http,
    ):
        leader = await cluster.leader(http)
        await wait_written(http, cluster.url(leader, "/key"), PATIENCE_S)
        term = (await cluster.status(http, leader))["term"]
        with skipped_if_not_in_this_kernel():
            for node_id in cluster.ids:
                cluster.network.narrow(node_id, 8_000)
        for _ in range(4):
            assert await put(http, cluster.url(leader, "/large"), LARGEST_VALUE_BYTES) == 204
        assert cluster.network.held_up(leader)
        assert (await cluster.status(http, leader))["term"] == term


async def test_reads_beside_large_writes_over_a_slow_link(tmp_path: Path) -> None:
    """Every node goes on to answer reads, one a second at least: no round waits behind megabytes."""
    async with open_namespaced(tmp_path, arguments=ARGUMENTS, disk_kib=WIDE_DISK_KIB) as (cluster, http):
        leader = await cluster.leader(http)
        await wait_written(http, cluster.url(leader, "/key"))
        with skipped_if_not_in_this_kernel():
            for node_id in cluster.ids:
                cluster.network.narrow(node_id, 50_000, queue_ms=50)
        async with trio.open_nursery() as nursery:
            for number in range(LARGE_WRITERS):
                nursery.start_soon(put_large, http, cluster.url(leader, f"/large-{number}"))
            beside = await count_reads(cluster, http)
            nursery.cancel_scope.cancel()
        assert cluster.network.held_up(leader)
        assert min(beside.values()) >= READ_FOR_S


async def count_reads(cluster: NamespacedCluster, http: httpx.AsyncClient) -> dict[int, int]:
    """How many reads each node answers in `READ_FOR_S` to clients that read one after the other."""
    counts = dict.fromkeys(cluster.ids, 0)

    async def read(node_id: int) -> None:
        while True:
            counts[node_id] += (await http.get(cluster.url(node_id, "/key"))).status_code == 200

    async with trio.open_nursery() as nursery:
        for node_id in cluster.ids:
            for _ in range(READERS):
                nursery.start_soon(read, node_id)
        await trio.sleep(READ_FOR_S)
        nursery.cancel_scope.cancel()
    return counts


async def put_large(http: httpx.AsyncClient, url: str) -> None:
    while True:
        await put(http, url, 200_000)
