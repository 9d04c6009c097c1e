"""A store that has reached its quota: puts are 507, all else goes on, and every member decides the same."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.access.full_store import FullStoreLog
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from raftkv_trio.kv import OverQuota
from tests.rest.serving import PATIENCE_S, Served, open_client, open_server

QUOTA_BYTES = 1000
VALUE = b"v" * 96  # with its key 100 bytes


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a node whose store has ten keys, and no room for another one."""
    server = open_server(tmp_path / "data", RestConfig(port=0, quota_bytes=QUOTA_BYTES))
    async with server as served, open_client(served) as client:
        for number in range(10):
            assert (await client.put(f"/k/{number}", content=VALUE)).status_code == 204
        yield client


async def test_puts_that_are_on_their_way_together_do_not_exceed_it(tmp_path: Path) -> None:
    """Each alone would fit many times into the empty store that its node sees."""
    statuses = []

    async def put(client: httpx.AsyncClient, number: int) -> None:
        statuses.append((await client.put(f"/k/{number:02}", content=VALUE[1:])).status_code)

    server = open_server(tmp_path / "data", RestConfig(port=0, quota_bytes=QUOTA_BYTES))
    async with server as served, open_client(served) as client, trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(put, client, number)
    assert sorted(statuses) == [204] * 10 + [507] * 20


async def test_puts_are_refused_with_a_sentence(full: httpx.AsyncClient) -> None:
    """What would make the store larger is 507, and not written; the sentence says what to do."""
    answer = await full.put("/more", content=b"v")
    assert answer.status_code == 507
    assert answer.text == (
        "The store is full: it holds 1000 bytes of keys and values, and its quota is 1000; delete keys, or"
        " raise the quota on all members (`raftkv-trio serve --quota-bytes`)\n"
    )
    assert (await full.put("/k/1", content=VALUE + b"v")).status_code == 507
    assert (await full.get("/more")).status_code == 404
    assert (await full.get("/k/1")).content == VALUE


async def test_all_else_goes_on(full: httpx.AsyncClient) -> None:
    """Reads, puts that make nothing larger, failed conditions, and deletes, after which there is room."""
    assert (await full.get("/k/1")).status_code == 200
    assert (await full.put("/k/1", content=b"w" * 96)).status_code == 204
    assert (await full.put("/k/1", content=b"w" * 500, headers={"If-None-Match": "*"})).status_code == 412
    assert (await full.delete("/k/2")).status_code == 204
    assert (await full.put("/more", content=b"v" * 95)).status_code == 204
    assert (await full.put("/", content=b"")).status_code == 507


async def test_metrics_tell_size_and_quota(full: httpx.AsyncClient) -> None:
    """So that an alert comes before the quota does."""
    text = (await full.get("/-/metrics")).text
    assert "\nraftkv_store_size_bytes 1000.0\n" in text
    assert "\nraftkv_store_quota_bytes 1000.0\n" in text


async def test_a_first_value_over_the_quota_is_refused(tmp_path: Path) -> None:
    """Also if it comes to an empty store; and without a quota there is none."""
    for quota_bytes, status in (QUOTA_BYTES, 507), (0, 204):
        config = RestConfig(port=0, quota_bytes=quota_bytes)
        async with open_server(tmp_path / str(quota_bytes), config) as served, open_client(served) as client:
            assert (await client.put("/k", content=bytes(QUOTA_BYTES))).status_code == status


async def test_members_with_different_flags_have_the_same_state(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """Each client is held to the quota of the member that it asks, and all members apply the same."""
    members = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(3), start=1)}
    async with AsyncExitStack() as stack:
        nodes: list[Served] = []
        for node_id, listen in members.items():
            server = open_server(
                tmp_path / str(node_id),
                RestConfig(port=0, quota_bytes=node_id * QUOTA_BYTES, request_timeout_s=PATIENCE_S),
                node_id=node_id,
                members=members,
                listen=listen,
            )
            nodes.append(await stack.enter_async_context(server))
        one, two, three = [await stack.enter_async_context(open_client(served)) for served in nodes]
        for number in range(22):
            path = f"/{number:03}"
            statuses = [(await client.put(path, content=VALUE)).status_code for client in (one, two)]
            # The first one fills the store up to its quota, the second one finds the key there already.
            assert statuses == ([204, 204] if number < 10 else [507, 204] if number < 20 else [507, 507])
        assert (await three.put("/more", content=VALUE)).status_code == 204
        for served in nodes:
            with trio.fail_after(PATIENCE_S):
                await served.node.wait_readable()
        assert len({served.store.state_hash for served in nodes}) == 1
        assert {served.store.size_bytes for served in nodes} == {2101}


async def test_the_log_tells_when_it_begins_and_ends(
    full: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each, however many puts are refused, and though small ones succeed in between."""
    caplog.set_level(logging.INFO, "raftkv_trio.access.full_store")
    for number in range(5):
        assert (await full.put(f"/more/{number}", content=b"v")).status_code == 507
        assert (await full.put("/k/1", content=VALUE[number:])).status_code == 204
    assert (await full.delete("/k/2")).status_code == 204
    assert (await full.put("/k/3", content=VALUE * 5)).status_code == 507  # full again, within the interval
    begun, ended = [record for record in caplog.records if record.name == "raftkv_trio.access.full_store"]
    assert (begun.levelname, ended.levelname) == ("WARNING", "INFO")
    assert "puts are refused (507); it holds 1000 bytes" in begun.getMessage()
    assert ended.getMessage() == "the store has room again: it holds 896 bytes of keys and values"


async def test_a_refused_put_is_not_counted_as_applied(full: httpx.AsyncClient) -> None:
    """It has an outcome of its own, as its error has."""
    before = (await full.get("/-/metrics")).text
    assert 'raftkv_proposals_total{outcome="store_full"} 0.0' in before
    assert (await full.put("/more", content=b"v")).status_code == 507
    after = (await full.get("/-/metrics")).text
    assert 'raftkv_proposals_total{outcome="store_full"} 1.0' in after
    for text in (before, after):
        assert 'raftkv_proposals_total{outcome="applied"} 10.0' in text


def test_the_log_waits_between_two_lines() -> None:
    """Clients that fill and empty the store in turn cannot fill the log."""
    now, log = 0.0, FullStoreLog(1000, 2000, lambda: now)
    for second in range(181):
        now = float(second)
        log.refused(OverQuota(1000, 1000))
        was_full = log.is_full
        log.written(901)
        assert log.is_full is was_full
        log.written(900)
        assert not log.is_full
        assert was_full is (second % 60 == 0)
