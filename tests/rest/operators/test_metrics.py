"""`/-/metrics`: what is counted, in a format that Prometheus' own parser reads."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families

from raftkv_trio.config import RestConfig
from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.kv import ExpireLeases, GrantLease, RenewedLease, RevokeLease, encode_command
from tests.rest.serving import PATIENCE_S, Served, open_client, open_cluster, open_server

Samples = dict[tuple[str, ...], float]


async def read(client: httpx.AsyncClient) -> Samples:
    """Samples by name and values of their labels."""
    answer = await client.get("/-/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_consensus(client: httpx.AsyncClient, served: Served) -> None:
    """Leader, term and indexes are those of the status; writes to the log and the store are timed."""
    await served.node.wait_readable()  # the leader's first entry is applied
    before = await read(client)
    for n in range(5):
        await client.put(f"/{n}/", content=b"v")
    after = await read(client)
    status = served.node.status()
    assert after["raftkv_leader_known",] == after["raftkv_leading",] == 1
    assert after["raftkv_leader_changes_total",] == 1
    assert after["raftkv_term",] == status.term
    assert after["raftkv_commit_index",] == after["raftkv_applied_index",] == status.applied_index
    for name in ("raftkv_log_write_duration_seconds", "raftkv_apply_duration_seconds"):
        assert after[f"{name}_count",] - before[f"{name}_count",] == 5
        assert after[f"{name}_bucket", "+Inf"] == after[f"{name}_count",]
        assert after[f"{name}_sum",] > before[f"{name}_sum",] > 0
    assert after["process_resident_memory_bytes",] > 1e6


async def test_the_page_for_operators_has_every_metric(client: httpx.AsyncClient) -> None:
    """The table of docs/operating.md names each metric of a node, with its type, and no other."""
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    table = re.findall(r"^\| `(raftkv_\w+)` \| (\w+) \|", page, re.MULTILINE)
    families = text_string_to_metric_families((await client.get("/-/metrics")).text)
    told = [
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type)
        for family in families
        if family.name.startswith("raftkv_")
    ]
    assert table == told


async def test_proposals(tmp_path: Path) -> None:
    """Each outcome of a write is counted once, and what waits is told."""
    config = RestConfig(port=0, request_timeout_s=0.3)
    server = open_server(tmp_path / "data", config, max_pending_proposals=1)
    async with server as served, open_client(served) as client:
        await served.node.wait_readable()
        names = ("applied", "outcome_unknown", "overloaded", "no_leader", "too_large", "disk_full")
        assert [(await read(client))["raftkv_proposals_total", name] for name in names] == [0] * 6
        served.disk.gate.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.put, "/waits")
            while not served.node.measures().pending_proposals:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
            assert (await client.put("/refused")).status_code == 429
            waiting = await read(client)
            assert waiting["raftkv_proposals_pending",] == 1
            assert waiting["raftkv_proposals_pending_bytes",] > 0
        served.disk.gate.open()
        while (await client.put("/key")).status_code != 204:
            pass  # until the one before it is out of the way
        after = await read(client)
        assert after["raftkv_proposals_total", "overloaded"] >= 1
        assert after["raftkv_proposals_total", "outcome_unknown"] >= 1
        assert after["raftkv_proposals_total", "applied"] == 1
        assert after["raftkv_proposals_pending",] == after["raftkv_proposals_pending_bytes",] == 0


async def test_log_records(client: httpx.AsyncClient) -> None:
    """Of lines that others can cause at will the log has one an interval; those it leaves out are counted."""
    before = await read(client)
    log = LimitedLog(logging.getLogger(__name__), trio.current_time, 3600.0)
    for _ in range(20):
        log.note("again")
    after = await read(client)
    name = "raftkv_log_records_dropped_total"
    assert after[name, "limited"] - before[name, "limited"] == 19
    assert after[name, "unread"] == before[name, "unread"]


async def test_requests(client: httpx.AsyncClient, served: Served) -> None:
    """Requests are counted by method, route and status; no key and no strange method is a label."""
    await client.put("/secret-key", content=b"v")
    for path in ("/secret-key", "/secret-key", "/-/status", "/-/none", "/-/log-level"):
        await client.get(path)
    await client.request("PROPFIND", "/secret-key")
    await client.request("PROPFIND", "/-/status")
    for malformed in (
        b"SECRET / HTTP/1.1\r\n\r\n",
        b"GET / nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ):
        async with served.connect() as wire:
            await wire.send(malformed)
            await wire.answer()
    text = (await client.get("/-/metrics")).text
    assert not any(name in text.lower() for name in ("secret", "propfind"))
    requests = {
        key[1:]: n for key, n in (await read(client)).items() if key[0] == "raftkv_http_requests_total"
    }
    assert requests == {
        ("PUT", "key", "204"): 1,
        ("GET", "key", "200"): 2,
        ("GET", "/-/status", "200"): 1,
        ("GET", "/-/", "404"): 1,
        ("GET", "/-/log-level", "200"): 1,
        ("GET", "/-/metrics", "200"): 1,
        ("other", "key", "405"): 1,
        ("other", "/-/", "405"): 1,
        ("none", "none", "400"): 1,
        ("none", "none", "501"): 1,
        ("none", "none", "505"): 1,
    }


async def test_peers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """What goes to each peer is counted, and timed by the leader; each node counts for itself."""
    cluster = open_cluster(tmp_path, free_ports(3))
    async with cluster as (leader, follower, third), open_client(leader) as client:
        for _ in range(3):
            assert (await client.put("/key", content=b"v" * 1000)).status_code == 204
        with trio.fail_after(PATIENCE_S):
            for peer in (follower, third):
                while leader.node.measures().peers[peer.node.id].round_trips.total_s == 0:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        of_leader = await read(client)
        async with open_client(follower) as other:
            of_follower = await read(other)
    for peer in (follower, third):
        name = str(peer.node.id)
        assert of_leader["raftkv_peer_sent_bytes_total", name] > 3000
        assert of_leader["raftkv_peer_append_round_trip_seconds_count", name] >= 1
        assert of_leader["raftkv_peer_append_round_trip_seconds_sum", name] > 0
    name = str(leader.node.id)
    assert 0 < of_follower["raftkv_peer_sent_bytes_total", name] < 3000
    assert of_follower["raftkv_peer_append_round_trip_seconds_count", name] == 0
    assert (of_leader["raftkv_leading",], of_follower["raftkv_leading",]) == (1, 0)
    assert ("raftkv_http_requests_total", "PUT", "key", "204") not in of_follower


async def test_a_peer_that_is_away(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """What cannot be sent is counted as dropped."""
    cluster = open_cluster(tmp_path, free_ports(3))
    async with cluster as (leader, _, away), open_client(leader) as client:
        away_id = away.node.id
        leader.parts.peers.outgoing[away_id].outbox.close()  # as when the connection breaks
        assert (await client.put("/key", content=b"v" * 1000)).status_code == 204
        measures = leader.node.measures().peers[away_id]
        assert measures.dropped_messages >= 1
        assert measures.dropped_bytes > 1000
        assert (await read(client))["raftkv_peer_dropped_bytes_total", str(away_id)] > 1000


async def test_leases(client: httpx.AsyncClient, served: Served) -> None:
    """How many there are, and how many have expired; one that was revoked has not."""
    for lease_id in (1, 2, 3):
        await served.node.propose(encode_command(GrantLease(lease_id, 60)))
    await served.node.propose(encode_command(ExpireLeases(served.node.term, (RenewedLease(1, 1),))))
    await served.node.propose(encode_command(RevokeLease(2)))
    samples = await read(client)
    assert (samples["raftkv_leases",], samples["raftkv_leases_expired_total",]) == (1, 1)
