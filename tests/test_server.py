"""`serve` as a whole: it stops in an order in which every client is answered."""

from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from raftkv_trio import __version__
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.server import serve
from tests.conftest import find_free_ports
from tests.rest.serving import Wire, WireResponse

PATIENCE_S = 30.0


class Pair:
    """Two members, each a server of its own. `url` gives where clients reach it."""

    def __init__(self, directory: Path) -> None:
        ports = find_free_ports(2)
        self._members = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(ports, start=1)}
        self._directory = directory
        self.stops: dict[int, trio.Event] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.urls: dict[int, str] = {}

    async def start(self, node_id: int, nursery: trio.Nursery) -> None:
        self.stops[node_id], self.scopes[node_id] = trio.Event(), trio.CancelScope()
        port = await nursery.start(self._serve, node_id)
        self.urls[node_id] = f"http://127.0.0.1:{port}"

    async def _serve(self, node_id: int, *, task_status: trio.TaskStatus[int]) -> None:
        node = NodeConfig(
            node_id=node_id,
            members=self._members,
            data_dir=self._directory / str(node_id),
            segment_bytes=1024 * 1024,
        )
        config = ServerConfig(node=node, rest=RestConfig(port=0, request_timeout_s=60))
        with self.scopes[node_id]:
            await serve(config, stop=self.stops[node_id], task_status=task_status)


async def status(client: httpx.AsyncClient, url: str) -> dict[str, object]:
    document: dict[str, object] = (await client.get(f"{url}/-/status")).json()
    return document


async def answers_of_a_stop(pair: Pair, node_id: int, client: httpx.AsyncClient) -> dict[bytes, WireResponse]:
    """Answers to a write and a read that are in progress when the node is told to stop, by method."""
    url = pair.urls[node_id]
    before = await status(client, url)
    answers: dict[bytes, WireResponse] = {}
    async with AsyncExitStack() as stack:
        wires: dict[bytes, Wire] = {}
        for method in (b"PUT", b"GET"):
            stream = await trio.open_tcp_stream("127.0.0.1", httpx.URL(url).port or 0)
            wires[method] = wire = Wire(await stack.enter_async_context(stream))
            # With the interim answer, the server knows of the request: the connection is not idle any more.
            await wire.send(
                method,
                b" /key HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            )
            assert (await wire.answer()).status == 100
            await wire.send(b"v")
        while before["role"] == "leader":  # until it has appended the write
            if (await status(client, url))["last_index"] != before["last_index"]:
                break
            await trio.sleep(0.01)
        pair.stops[node_id].set()
        for method, wire in wires.items():
            answers[method] = await wire.answer(method)
    return answers


async def test_a_stop_without_a_quorum_answers_what_waits(tmp_path: Path) -> None:
    """A read gets 503, and so does a write that was never sent."""
    pair = Pair(tmp_path)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, trio.open_nursery() as nursery:
        await pair.start(1, nursery)
        answers = await answers_of_a_stop(pair, 1, client)
    assert (answers[b"GET"].status, answers[b"GET"].content) == (503, b"the node is stopping\n")
    assert (answers[b"PUT"].status, answers[b"PUT"].content) == (
        503,
        b"the node is stopping; it is certainly not applied\n",
    )


async def test_a_leader_alone_that_stops_says_that_a_write_may_have_happened(tmp_path: Path) -> None:
    """A write that a leader has appended gets 504 if nobody is there to confirm it."""
    pair = Pair(tmp_path)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, trio.open_nursery() as nursery:
        for node_id in (1, 2):
            await pair.start(node_id, nursery)
        assert (await client.put(f"{pair.urls[1]}/key", content=b"v")).status_code == 204
        leader = 1 if (await status(client, pair.urls[1]))["role"] == "leader" else 2
        pair.scopes[3 - leader].cancel()
        answers = await answers_of_a_stop(pair, leader, client)
    assert answers[b"GET"].status == 503
    assert (answers[b"PUT"].status, answers[b"PUT"].content) == (
        504,
        b"the node is stopping; it may or may not be applied\n",
    )


@pytest.mark.parametrize("host", ["::", "0.0.0.0", "127.0.0.1"])
async def test_what_is_announced_is_listened_at(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The announced URL answers, also if the server listens at all addresses; `::` takes IPv4 too."""
    (port,) = find_free_ports(1)
    members = {1: PeerAddress("127.0.0.1", port)}
    config = ServerConfig(
        node=NodeConfig(
            node_id=1,
            members=members,
            data_dir=tmp_path / "1",
            listen=PeerAddress(host, port),
            segment_bytes=1024 * 1024,
        ),
        rest=RestConfig(host=host, port=0),
        insecure=True,
    )
    caplog.set_level("INFO")
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, trio.open_nursery() as nursery:
        client_port = await nursery.start(serve, config)
        assert f"node 1 serves clients at http://127.0.0.1:{client_port}" in caplog.messages
        bound = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        assert f"node 1 listens for peers at {bound}" in caplog.messages
        for peer_host in ("127.0.0.1", *(["::1"] if host == "::" else [])):
            await (await trio.open_tcp_stream(peer_host, port)).aclose()
        assert f"raftkv-trio {__version__}, data directory {tmp_path / '1'}" in caplog.messages
        urls = [
            config.client_url(client_port),
            *([f"http://localhost:{client_port}"] if host == "::" else []),
        ]
        for url in urls:
            assert (await client.get(f"{url}/-/healthy")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_the_announced_host_is_answered_though_it_is_no_member_s_any_more(tmp_path: Path) -> None:
    """A node that restarts with its old `--cluster` is shown under the host that it has there."""
    (port,) = find_free_ports(1)
    node = NodeConfig(
        node_id=1,
        members={1: PeerAddress("old.example", port)},
        data_dir=tmp_path / "1",
        listen=PeerAddress("127.0.0.1", port),
        segment_bytes=1024 * 1024,
    )
    config = ServerConfig(node=node, rest=RestConfig(host="0.0.0.0", port=0), insecure=True)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        async with trio.open_nursery() as nursery:
            url = f"http://127.0.0.1:{await nursery.start(serve, config)}"
            moved = await client.put(f"{url}/-/members/1", json={"url": f"http://new.example:{port}"})
            assert moved.status_code < 300, moved.text
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            url = f"http://127.0.0.1:{await nursery.start(serve, config)}"
            (member,) = (await client.get(f"{url}/-/members")).json()
            assert (urlsplit(member["url"]).hostname, urlsplit(member["client_url"]).hostname) == (
                "new.example",
                "old.example",
            )
            for told in member["url"], member["client_url"]:
                own = {"Host": urlsplit(told).netloc}
                assert (await client.get(f"{url}/-/healthy", headers=own)).status_code == 200
            nursery.cancel_scope.cancel()
