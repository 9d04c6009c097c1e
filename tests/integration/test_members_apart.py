"""Real members that hear no other member but are heard: they disturb no election and no client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import wait_alike
from tests.integration.proxy import Proxy


async def test_a_member_that_hears_nobody_disturbs_nobody(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """For seconds it asks to be elected; then it is one of them again, in the term that they had."""
    async with proxied(tmp_path) as (cluster, proxies):
        leader, deaf, term = await deafened(http, cluster, proxies)
        await trio.sleep(2)
        proxies[deaf].release()
        assert (await http.put(cluster.url(deaf, "/key"), content=b"value")).status_code == 204
        await wait_alike(http, cluster, *cluster.ids)
        assert (await cluster.status(http, leader))["term"] == term


async def test_a_removed_member_that_hears_nobody_disturbs_nobody(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """It campaigns at the members that removed it, and learns of its removal when it dials them."""
    async with proxied(tmp_path) as (cluster, proxies):
        leader, deaf, term = await deafened(http, cluster, proxies)
        assert (await http.delete(cluster.url(leader, f"/{deaf}"))).status_code == 204
        assert await trio.to_thread.run_sync(cluster.wait_exit, deaf) == 0
        status = await cluster.status(http, leader)
        assert (status["role"], status["term"]) == ("leader", term)


async def deafened(
    http: httpx.AsyncClient, cluster: Cluster, proxies: Mapping[int, Proxy]
) -> tuple[int, int, int]:
    """The leader, a follower that hears no member and campaigns, and the term before."""
    await cluster.wait_ready(http)
    leader = await cluster.leader(http)
    deaf = next(node_id for node_id in cluster.ids if node_id != leader)
    term = (await cluster.status(http, leader))["term"]
    proxies[deaf].hold()
    await wait_campaigning(http, cluster, deaf)
    return leader, deaf, term


async def wait_campaigning(http: httpx.AsyncClient, cluster: Cluster, node_id: int) -> None:
    """Until a node asks whether it would be elected."""
    with trio.fail_after(PATIENCE_S):
        while (await cluster.status(http, node_id))["role"] != "pre_candidate":  # noqa: ASYNC110
            await trio.sleep(POLL_S)


@asynccontextmanager
async def proxied(directory: Path) -> AsyncIterator[tuple[Cluster, Mapping[int, Proxy]]]:
    """Three nodes that reach each other through proxies."""
    cluster = Cluster(directory, is_proxied=True)
    async with cluster.open_proxies() as proxies:
        try:
            cluster.start()
            yield cluster, proxies
        finally:
            cluster.kill()
