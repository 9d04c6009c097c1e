"""A thousand TLS handshakes at once, at each port of a real leader: heartbeats go on beside them."""

import ssl
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trio

from raftkv_trio.peers.entrance import MAX_HANDSHAKES
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import members
from tests.tls.processes import HOST, client_of, started_with_tls

HANDSHAKES = 1000
#: Both ends of all handshakes are on this machine. If it is slow, they take longer than a client may.
ARGUMENTS = ("--header-timeout", "120")
SLOW = ("--heartbeat-interval", "300", "--election-timeout", "3000")


async def shake_hands(port: int, context: ssl.SSLContext, count: int = HANDSHAKES) -> Counter[str]:
    """So many clients connect, and then begin all at once; returns how it ended for each."""
    ends: Counter[str] = Counter()
    begin = trio.Event()
    connected = trio.Semaphore(0)

    async def one() -> None:
        stream = trio.SSLStream(await trio.open_tcp_stream(HOST, port), context, server_hostname=HOST)
        connected.release()
        await begin.wait()
        try:
            await stream.do_handshake()
            ends["done"] += 1
        except trio.BrokenResourceError:
            ends["turned away"] += 1
        await trio.aclose_forcefully(stream)

    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
            for _ in range(count):
                await connected.acquire()
            begin.set()
    return ends


class View(NamedTuple):
    """What a node knows of the cluster, and how often it has connected to others so far."""

    term: int
    leader: int
    dials: int


async def views(http: httpx.AsyncClient, cluster: Cluster) -> list[View]:
    """That of each node, once it is connected to the others."""
    seen = []
    for node_id in cluster.ids:
        with trio.fail_after(PATIENCE_S):
            while any(m["trouble"] for m in (await members(http, cluster, node_id)).values()):  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        status = await cluster.status(http, node_id)
        dials = cluster.log(node_id).read_text().count(": connected to node ")
        seen.append(View(status["term"], status["leader_id"], dials))
    return seen


@pytest.mark.parametrize(
    "timeouts", [SLOW, pytest.param((), marks=pytest.mark.timing)], ids=["slow", "default"]
)
async def test_no_election_beside_a_thousand_handshakes(tmp_path: Path, timeouts: tuple[str, ...]) -> None:
    """Term and leader stay, no member's connection breaks, writes go on, and no client is turned away."""
    statuses: Counter[int] = Counter()
    with started_with_tls(tmp_path, arguments=(*ARGUMENTS, *timeouts)) as (cluster, certificates):
        async with client_of(certificates) as http:
            await cluster.wait_ready(http)
            leader = await cluster.leader(http)
            other = leader % 3 + 1

            async def keep_writing() -> None:
                while True:
                    answer = await http.put(cluster.url(other, "/key"), content=b"value")
                    statuses[answer.status_code] += 1

            before = await views(http, cluster)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_writing)
                # So many have room at once; of more, a slow machine may turn every single one away.
                few_at_peers = await shake_hands(
                    cluster.peer_port(leader), certificates.context(other), MAX_HANDSHAKES // 2
                )
                at_peers = await shake_hands(cluster.peer_port(leader), certificates.context(other))
                at_clients = await shake_hands(cluster.rest_port(leader), certificates.context())
                nursery.cancel_scope.cancel()
            after = await views(http, cluster)
    print(f"at the port for peers {dict(at_peers)}, at that for clients {dict(at_clients)}; {statuses}")
    assert after == before
    assert all(view.dials > 0 for view in before)
    assert at_clients == {"done": HANDSHAKES}
    assert few_at_peers == {"done": MAX_HANDSHAKES // 2}
    assert at_peers.total() == HANDSHAKES
    assert set(statuses) == {204}
