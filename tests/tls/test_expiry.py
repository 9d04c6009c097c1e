"""A real member's certificate ends while its connections are up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from tests.integration.cluster import PATIENCE_S, Cluster
from tests.integration.members import members, wait_said
from tests.tls.certificates import Authority, Pair
from tests.tls.configs import replace_pair

#: So long two nodes may take to start and to meet.
LIFE = timedelta(seconds=45)


def give(cluster: Cluster, authority: Authority, node_id: int, pair: Pair) -> None:
    own = ("--peer-cert-file", pair.certificate, "--peer-key-file", pair.key)
    cluster.give(node_id, *own, "--peer-trusted-ca-file", authority.certificate)


async def wait_until(moment: datetime) -> None:
    while (left := moment - datetime.now(UTC)) >= timedelta(0):  # noqa: ASYNC110 - time is what this is about
        await trio.sleep(left.total_seconds() + 0.1)


@pytest.mark.long
async def test_a_certificate_ends_under_a_connection(tmp_path: Path) -> None:
    """What is up stays up; who connects anew is refused; the node does not start before it has a new one."""
    cluster = Cluster(tmp_path, 2)
    ca = Authority(tmp_path, cluster_id=cluster_id_of(parse_cluster(cluster.peer_urls()), ""))
    pair = ca.node(2, ends=LIFE)
    give(cluster, ca, 1, ca.node(1))
    give(cluster, ca, 2, pair)
    try:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            await outlive(cluster, http, ca, pair)
    finally:
        cluster.kill()


async def outlive(cluster: Cluster, http: httpx.AsyncClient, ca: Authority, pair: Pair) -> None:
    """What happens to node 2, whose pair this is, before and after the end of its certificate."""
    cluster.start()
    await cluster.wait_ready(http)
    await wait_until(pair.parsed.not_valid_after_utc + timedelta(seconds=1))
    (await http.put(cluster.url(2, "/key"), content=b"acknowledged by both")).raise_for_status()
    for node_id in cluster.ids:
        seen = await members(http, cluster, node_id)
        assert [member["trouble"] for member in seen.values()] == [None, None]

    assert cluster.stop(1) == 0
    cluster.start(1)
    await wait_said(cluster, 1, "the other end's certificate is refused: certificate has expired")
    await wait_said(cluster, 2, "the other end refused TLS: this end's certificate has expired, by its clock")
    assert cluster.stop(2) == 0
    cluster.start(2)
    assert cluster.wait_exit(2) == 2
    last_words = cluster.log(2).read_text().splitlines()[-1]
    assert f"--peer-cert-file {pair.certificate} has expired; renew it" in last_words

    replace_pair(pair, ca.node(2))
    cluster.start(2)
    await cluster.wait_ready(http)
    assert (await http.get(cluster.url(2, "/key"))).content == b"acknowledged by both"
