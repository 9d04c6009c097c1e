"""Three real nodes: what one acknowledges, the others know."""

import httpx

from tests.integration.cluster import Cluster


async def test_read_your_writes_through_other_nodes(cluster: Cluster, http: httpx.AsyncClient) -> None:
    """A value put through one node is read at once from a third, 200 times."""
    await cluster.wait_ready(http)
    for number in range(200):
        value = str(number).encode()
        put = await http.put(cluster.url(number % 3 + 1, "/key"), content=value)
        assert put.status_code == 204, put.text
        got = await http.get(cluster.url((number + 2) % 3 + 1, "/key"))
        assert (got.status_code, got.content) == (200, value)


async def test_a_stopped_node_catches_up(cluster: Cluster, http: httpx.AsyncClient) -> None:
    """A node that was stopped cleanly reads what was written meanwhile, after it is started again."""
    await cluster.wait_ready(http)
    assert cluster.stop(2) == 0
    await cluster.wait_ready(http)
    assert (await http.put(cluster.url(1, "/key"), content=b"bar")).status_code == 204
    cluster.start(2)
    await cluster.wait_ready(http)
    assert (await http.get(cluster.url(2, "/key"))).content == b"bar"
