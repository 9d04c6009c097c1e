"""Real processes whose cluster changes its members while it serves."""

from pathlib import Path

import httpx
import pytest
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster


@pytest.fixture
def growing(tmp_path: Path) -> Cluster:
    """Three nodes, and a fourth that may join; snapshots are frequent, and little is kept behind them."""
    return Cluster(tmp_path, 4, ("--snapshot-entries", "500", "--catch-up-entries", "100"), founders=3)


async def wait_role(http: httpx.AsyncClient, cluster: Cluster, asked: int, member_id: int, role: str) -> None:
    """Until a node sees another one in this role."""
    with trio.fail_after(PATIENCE_S):
        while True:
            members = (await http.get(cluster.url(asked, "/-/members"))).json()
            if {"id": member_id, "role": role}.items() <= {
                k: v for m in members if m["id"] == member_id for k, v in m.items()
            }.items():
                return
            await trio.sleep(POLL_S)


async def test_a_node_joins_and_another_is_removed(growing: Cluster, http: httpx.AsyncClient) -> None:
    """What was written before is read from the newcomer; the removed node ends well, and starts no more."""
    cluster = growing
    try:
        cluster.start()
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(1, "/key"), content=b"value")).status_code == 204
        added = await http.post(cluster.url(2, "/4"), content=cluster.peer_url(4))
        assert added.status_code == 204
        cluster.start(4)
        await cluster.wait_ready(http)
        assert (await http.get(cluster.url(4, "/key"))).text == "value"
        await wait_role(http, cluster, 1, 4, "voter")
        assert (await http.delete(cluster.url(4, "/3"))).status_code == 204
        assert cluster.wait_exit(3) == 0
        cluster.start(3)
        assert cluster.wait_exit(3) == 2
        assert "node 3 was removed from its cluster" in cluster.log(3).read_text()
        assert (await http.put(cluster.url(4, "/key"), content=b"later")).status_code == 204
        assert (await http.get(cluster.url(1, "/key"))).text == "later"
    finally:
        cluster.kill()
