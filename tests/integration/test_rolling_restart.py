"""Three real processes, restarted one after the other while clients write."""

from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trio

from tests.integration.cluster import Cluster
from tests.integration.members import started

WRITERS = 6
MAX_STALL_S = 0.3


class Write(NamedTuple):
    """One write: from its first attempt to its answer, in seconds of this test's clock."""

    begun_at: float
    ended_at: float
    attempts: int
    said: str


async def write_for_ever(http: httpx.AsyncClient, cluster: Cluster, first: int, writes: list[Write]) -> None:
    """One write after the other, each tried again through the next node if it fails, and once only."""
    node_id = first
    while True:
        begun_at = trio.current_time()
        said = await put(http, cluster, node_id)
        attempts = 1
        if said != "204":
            node_id = node_id % len(cluster.ids) + 1
            attempts, said = 2, await put(http, cluster, node_id)
        writes.append(Write(begun_at, trio.current_time(), attempts, said))


async def put(http: httpx.AsyncClient, cluster: Cluster, node_id: int) -> str:
    """What the node said: a status, or that it said nothing."""
    try:
        return str((await http.put(cluster.url(node_id, "/key"), content=b"value")).status_code)
    except httpx.TransportError as error:
        return type(error).__name__


@pytest.mark.timing
async def test_a_rolling_restart(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """No write fails after one retry, and none takes 300 ms, while each is stopped cleanly and started."""
    with started(tmp_path, 3, founders=3, arguments=()) as cluster:
        await cluster.wait_ready(http)
        writes: list[Write] = []
        async with trio.open_nursery() as nursery:
            for first in range(WRITERS):
                nursery.start_soon(write_for_ever, http, cluster, first % 3 + 1, writes)
            for node_id in (*cluster.ids, await cluster.leader(http)):
                await trio.sleep(1)
                assert await trio.to_thread.run_sync(cluster.stop, node_id) == 0
                cluster.start(node_id)
                await cluster.wait_ready(http)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    failed = [write for write in writes if write.said != "204"]
    longest = max(writes, key=lambda write: write.ended_at - write.begun_at)
    stall_s = longest.ended_at - longest.begun_at
    retried = sum(write.attempts > 1 for write in writes)
    print(f"{len(writes)} writes, {retried} retried; the longest took {stall_s * 1000:.0f} ms")
    assert not failed
    assert stall_s < MAX_STALL_S
