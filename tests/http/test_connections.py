"""Connections: their deadlines, their bounds, and clients that behave unusually."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.status import survey
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import RaftKVError
from raftkv_trio.http import Request, Response
from raftkv_trio.http.client_connection import Connection
from raftkv_trio.rest.keys import KeyHandlers
from tests.rest.serving import PATIENCE_S, Served, Wire, open_server

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
PUT = b"PUT /key" + HEAD
GET = b"GET /key" + HEAD + b"\r\n"
BIG_BYTES = 1024 * 1024


async def put(served: Served, value: bytes) -> None:
    assert (await served.ask(b"PUT /key", b"Content-Length: %d" % len(value), content=value)).status == 204


async def check_serves(served: Served) -> None:
    """The server works for others."""
    assert (await served.ask(b"GET /-/healthy")).content == b"healthy\n"


# ---------------------------------------------------------------- deadlines


async def test_idle(tmp_path: Path) -> None:
    """A connection without a request is closed, new or used, and one in use is not."""
    async with open_server(tmp_path / "data", RestConfig(port=0, idle_timeout_s=0.2)) as served:
        async with served.connect() as wire:
            assert await wire.rest() == b""
        async with served.connect() as wire:
            assert (await wire.ask(b"GET /none")).status == 404
            assert await wire.rest() == b""
        async with served.connect() as wire:
            served.disk.gate.close()
            await wire.send(PUT, b"Content-Length: 0\r\n\r\n")
            await trio.sleep(0.3)
            served.disk.gate.open()
            assert (await wire.answer()).status == 204


@pytest.mark.parametrize("begun", [b"G", b"GET /key", GET[:-2]])
async def test_slow_head(tmp_path: Path, begun: bytes) -> None:
    """A head that does not arrive completely in time is 408, whichever part has arrived."""
    async with open_server(tmp_path / "data", RestConfig(port=0, header_timeout_s=0.2)) as served:
        async with served.connect() as wire:
            assert (await wire.ask(b"GET /none")).status == 404
            await wire.send(begun)
            answer = await wire.answer()
            assert (answer.status, answer.content) == (
                408,
                b"The head of the request did not arrive in time (--header-timeout)\n",
            )
            assert answer.headers["Connection"] == "close"
            assert await wire.rest() == b""
        await check_serves(served)


async def test_a_head_that_trickles(tmp_path: Path) -> None:
    """More bytes of a head give it no more time."""
    server = open_server(tmp_path / "data", RestConfig(port=0, header_timeout_s=0.3))
    async with server as served, served.connect() as wire, trio.open_nursery() as nursery:

        async def trickle() -> None:
            while True:
                await wire.send(b"X")
                await trio.sleep(0.02)

        await wire.send(b"GET /")
        nursery.start_soon(trickle)
        assert (await wire.answer()).status == 408
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"GET"])
async def test_slow_content(tmp_path: Path, method: bytes, framing: bytes) -> None:
    """Content that does not arrive in time is 408, also if it has no meaning; nothing is written."""
    async with open_server(tmp_path / "data", RestConfig(port=0, body_timeout_s=0.2)) as served:
        async with served.connect() as wire:
            await wire.send(method, b" /key", HEAD, framing, b"\r\n\r\n5\r\n")
            answer = await wire.answer()
            assert answer.status == 408
            assert answer.content == b"The content did not arrive within 0.2 s (--body-timeout)\n"
            assert await wire.rest() == b""
        assert len(served.store) == 0


async def test_a_client_that_reads_slowly(tmp_path: Path) -> None:
    """A client that does not read is dropped; one that reads a little in time gets the whole response."""
    async with open_server(tmp_path / "data", RestConfig(port=0, send_timeout_s=0.5)) as served:
        await put(served, b"v" * BIG_BYTES)
        async with served.connect() as lazy, served.connect() as slow:
            for wire in (lazy, slow):
                await wire.send(GET * 20)
            for _ in range(20):
                assert len((await slow.answer()).content) == BIG_BYTES
                await trio.sleep(0.05)
            assert len(await lazy.rest()) < 20 * BIG_BYTES


# ---------------------------------------------------------------- shutdown


async def test_a_client_that_never_reads_holds_up_no_stop(tmp_path: Path) -> None:
    """Clients that do not read, write or go away are gone a second after the server stops, or so."""
    async with open_server(tmp_path / "data", RestConfig(port=0, send_timeout_s=600)) as served:
        await put(served, b"v" * BIG_BYTES)
        wires = [Wire(await trio.open_tcp_stream("127.0.0.1", served.port)) for _ in range(4)]
        never_reads, half_sent, idle, pipelining = wires
        await never_reads.send(GET * 20)
        await half_sent.send(PUT, b"Content-Length: 10\r\n\r\n12345")
        assert (await idle.ask(b"GET /none")).status == 404
        with trio.move_on_after(0.5):
            while True:
                await pipelining.send(GET * 100)
        stopped_at = trio.current_time()
    assert trio.current_time() - stopped_at < PATIENCE_S / 2
    for wire in wires:
        await trio.aclose_forcefully(wire.stream)


async def test_requests_under_way_end(tmp_path: Path) -> None:
    """A write that is under way when the server stops is answered, and its connection closed."""
    async with open_server(tmp_path / "data") as served, served.connect() as wire:
        served.disk.gate.close()
        await wire.send(PUT, b"Content-Length: 1\r\n\r\nv")
        with trio.fail_after(PATIENCE_S):
            while served.node.status().last_index < 3:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        served.stop()
        served.disk.gate.open()
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (204, "close")
        assert await wire.rest() == b""


# ---------------------------------------------------------------- bounds


TOO_MANY = (
    b"Too many connections: this node serves 3 clients, and one host nine tenths of these at most;"
    b" close some, ask another node, or retry later\n"
)


@asynccontextmanager
async def writes_in_progress(served: Served, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections, each with a write whose value has not arrived yet."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(served.connect()) for _ in range(count)]
        for wire in wires:
            await wire.send(PUT, b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
            assert (await wire.answer()).status == 100
        yield wires


@asynccontextmanager
async def connected_from(served: Served, host: str) -> AsyncIterator[Wire]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        await opened.bind((host, 0))
        await opened.connect(("127.0.0.1", served.port))
        yield Wire(trio.SocketStream(opened))


async def test_a_client_that_is_turned_away_sees_no_reset(tmp_path: Path) -> None:
    """A client that has sent its request reads why it is not answered, and then the end; so say commands."""
    config = RestConfig(port=0, max_connections=1)
    async with open_server(tmp_path / "data", config) as served, writes_in_progress(served, 1):
        # Without a checkpoint: the request is in the server's buffer before the server accepts.
        client = socket.create_connection(("127.0.0.1", served.port))
        client.sendall(b"GET /-/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.setblocking(False)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
            received = [data async for data in stream]
        assert b"".join(received).startswith(b"HTTP/1.1 503 ")
        with pytest.raises(RaftKVError, match="too many connections: this node serves 1 clients"):
            await survey([PeerAddress("127.0.0.1", served.port)], 60)


async def test_too_many_connections(tmp_path: Path) -> None:
    """One more connection than allowed is told so if all are in use; when another ends, there is room."""
    config = RestConfig(port=0, max_connections=3)
    async with open_server(tmp_path / "data", config) as served, writes_in_progress(served, 3) as wires:
        async with served.connect() as wire:
            refused = await wire.answer()
            assert (refused.status, refused.content) == (503, TOO_MANY)
            assert refused.headers["Retry-After"] == "1"
            assert await wire.rest() == b""
        await wires[0].stream.aclose()
        with trio.fail_after(PATIENCE_S):
            while (await served.ask(b"GET /-/status")).status == 503:
                pass  # until the server has seen that the other is gone
        for wire in wires[1:]:
            await wire.send(b"v")
            assert (await wire.answer()).status == 204


async def test_the_longest_idle_connection_gives_way(tmp_path: Path) -> None:
    """If all connections are taken, a new client gets the place of the one that was idle longest."""
    async with AsyncExitStack() as stack:
        config = RestConfig(port=0, max_connections=4)
        served = await stack.enter_async_context(open_server(tmp_path / "data", config))
        first, second, third = [await stack.enter_async_context(served.connect()) for _ in range(3)]
        for wire in (first, second, third, first):  # so that `second` is idle longest
            assert (await wire.ask(b"GET /none")).status == 404
        (writer,) = await stack.enter_async_context(writes_in_progress(served, 1))
        newest = await stack.enter_async_context(served.connect())
        assert (await newest.ask(b"GET /-/status")).status == 200
        assert await second.rest() == b""
        for wire in (third, first):
            assert (await wire.ask(b"GET /-/status")).status == 200
        await writer.send(b"v")
        assert (await writer.answer()).status == 204


async def test_one_host_cannot_take_all_connections(tmp_path: Path) -> None:
    """A tenth of the connections is for other hosts, even if one host has requests in progress on many."""
    config = RestConfig(port=0, max_connections=10)
    async with open_server(tmp_path / "data", config) as served, writes_in_progress(served, 9):
        async with served.connect() as wire:
            assert (await wire.answer()).status == 503
        async with connected_from(served, "127.0.0.2") as wire:
            assert (await wire.ask(b"GET /-/status")).status == 200


@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_long_heads(tmp_path: Path, in_one_piece: bool) -> None:
    """A head over the limit is 431, whether or not it comes at once; one of the limit is read."""
    async with open_server(tmp_path / "data", RestConfig(port=0, max_header_bytes=1000)) as served:
        for padding, status in (
            (1000 - len("/Host: localhost\r\nX: \r\n"), 404),
            (1000, 431),
            (100_000, 431),
        ):
            request = b"GET /" + HEAD + b"X: " + b"x" * padding + b"\r\n\r\n"
            async with served.connect() as wire:
                for part in [request] if in_one_piece else [request[:50], request[50:]]:
                    await wire.send(part)
                answer = await wire.answer()
                assert answer.status == status, padding
                assert status == 404 or b"larger than 1000 bytes (--max-header-size)" in answer.content
        many = b"".join(b"a%d: b\r\n" % n for n in range(200))
        async with served.connect() as wire:
            await wire.send(b"GET /" + HEAD + many + b"\r\n")
            assert (await wire.answer()).status == 431


async def test_a_slow_reader_holds_a_slice(tmp_path: Path) -> None:
    """If a client does not read the responses to pipelined requests, the server stops reading from it."""
    async with open_server(tmp_path / "data") as served, served.connect() as wire:
        await put(served, b"v" * BIG_BYTES)
        sent = 0
        with trio.move_on_after(1):
            while True:
                await wire.send(GET * 1000)
                sent += 1000
        assert sent * len(GET) < 16 * 1024 * 1024  # what the buffers of both systems hold, no more
        await check_serves(served)


# ---------------------------------------------------------------- bugs of ours


async def test_a_bug_in_a_request(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that fails is 500 for its request, and an error in the log; everybody else is served."""

    async def fail(handlers: KeyHandlers, request: Request, key: bytes | None) -> Response:
        raise RuntimeError("a bug")

    async with served.connect() as wire:
        with monkeypatch.context() as patch:
            patch.setattr(KeyHandlers, "_dispatch", fail)
            answer = await wire.ask(b"GET /none")
            assert answer.status == 500
            assert answer.content.startswith(b"The request failed because of a bug")
            patch.setattr(KeyHandlers, "handle", fail)
            assert (await served.ask(b"GET /none")).status == 500
        assert (await wire.ask(b"GET /none")).status == 404
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


async def test_a_bug_in_a_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that fails ends alone, with an error in the log."""

    async def fail(connection: Connection, request: Request) -> bool:
        raise RuntimeError("a bug")

    async with served.connect() as other:
        assert (await other.ask(b"GET /none")).status == 404
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "_answer", fail)
            async with served.connect() as wire:
                await wire.send(GET)
                assert await wire.rest() == b""
        assert (await other.ask(b"GET /none")).status == 404
    (record,) = caplog.records
    assert "unexpected error" in record.message


# ---------------------------------------------------------------- other manners


async def test_pipelining(served: Served) -> None:
    """Requests that come at once are answered in order, whatever their methods and contents."""
    async with served.connect() as wire:
        requests = []
        for n in range(100):
            requests += [b"PUT /%d/" % n, HEAD, b"Content-Length: 3\r\n\r\n%03d" % n]
            requests += [b"GET /%d/" % n, HEAD, b"Content-Length: 7\r\n\r\nignored"]
            requests += [b"POST /%d/" % n, HEAD, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
        await wire.send(*requests)
        for n in range(100):
            assert (await wire.answer()).status == 204
            assert (await wire.answer()).content == b"%03d" % n
            assert (await wire.answer()).status == 400


async def test_half_closed(served: Served) -> None:
    """A client that has closed its own side still gets all answers; half a request is 400."""
    async with served.connect() as wire:
        await wire.send(PUT, b"Content-Length: 1\r\n\r\nv", GET)
        await wire.stream.send_eof()
        assert (await wire.answer()).status == 204
        assert (await wire.answer()).content == b"v"
        assert await wire.rest() == b""
    async with served.connect() as wire:
        await wire.send(b"GET /key HTTP/1.1\r\nHo")
        await wire.stream.send_eof()
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""


async def test_an_answer_arrives_before_the_content_is_sent(served: Served) -> None:
    """A client that sends more than we read can go on for a while, and then read why it was refused."""
    async with served.connect() as wire:
        await wire.send(b"PUT /key", HEAD, b"Content-Length: 2000000\r\n\r\n")
        for _ in range(20):
            await wire.send(b"v" * 100_000)
        assert (await wire.answer()).status == 413
        assert await wire.rest() == b""


@pytest.mark.parametrize("path", [b"/key", b"/-/status"])
async def test_a_close_is_announced(served: Served, path: bytes) -> None:
    """A response before the end of its request tells the client that the connection closes."""
    async with served.connect() as wire:
        await wire.send(b"PATCH " + path, HEAD, b"Content-Length: 5\r\n\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (405, "close")
        assert await wire.rest() == b""
    async with served.connect() as wire:
        assert "Connection" not in (await wire.ask(b"PATCH " + path)).headers
        assert "Connection" not in (await wire.ask(b"PUT /key", b"Content-Length: 1", content=b"v")).headers


async def test_expect_100_continue(served: Served) -> None:
    """A client that waits to be told to go on is told."""
    async with served.connect() as wire:
        await wire.send(PUT, b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        invitation = await wire.answer()
        assert (invitation.status, "Cache-Control" in invitation.headers) == (100, False)
        await wire.send(b"v")
        assert (await wire.answer()).status == 204


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (PUT + b"Content-Length: 2000000\r\n", 413),
        (PUT + b"If-Match: 1\r\nContent-Length: 1\r\n", 400),
        (b"PATCH /key" + HEAD + b"Content-Length: 1\r\n", 405),
    ],
)
async def test_who_waits_for_100_is_refused_before_it(served: Served, head: bytes, status: int) -> None:
    """A request that its head condemns is refused at once: the client is never told to send its content."""
    async with served.connect() as wire:
        await wire.send(head, b"Expect: 100-continue\r\n\r\n")
        assert (await wire.answer()).status == status
        assert await wire.rest() == b""


async def test_http_1_0(served: Served) -> None:
    """HTTP/1.0 is answered, and the connection closed after it."""
    async with served.connect() as wire:
        await wire.send(b"GET /none HTTP/1.0\r\n\r\n")
        assert (await wire.answer()).status == 404
        assert await wire.rest() == b""


async def test_http_2_preface(served: Served) -> None:
    """HTTP/2 without being asked is refused in words that HTTP/1.1 clients can read."""
    async with served.connect() as wire:
        await wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(9))
        answer = await wire.answer()
        assert (answer.status, answer.content) == (505, b"This server speaks only HTTP/1.0 and HTTP/1.1\n")
        assert await wire.rest() == b""
    await check_serves(served)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"HEAD /" + HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"HEAD /" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ],
)
async def test_refused_heads(
    served: Served, caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int
) -> None:
    """A HEAD is refused without content; what is no request after one is refused with a sentence."""
    async with served.connect() as wire:
        await wire.send(request_bytes)
        assert (await wire.answer(b"HEAD")).status == status
        assert await wire.rest() == b""
    async with served.connect() as wire:
        assert (await wire.ask(b"HEAD /none")).status == 404
        await wire.send(b"GET / nonsense\r\n\r\n")
        assert (await wire.answer()).content == b"The request is malformed: it is not valid HTTP/1.1\n"
    assert not caplog.records


@pytest.mark.parametrize(
    "upgrade",
    [
        [b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade, HTTP2-Settings"],
        [b"Upgrade: h2c", b"HTTP2-Settings: !!!", b"Connection: Upgrade"],
        [
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
        ],
    ],
)
@pytest.mark.parametrize("path", [b"/none", b"/-/none"])
async def test_upgrades_are_ignored(served: Served, path: bytes, upgrade: list[bytes]) -> None:
    """A request to upgrade is answered in HTTP/1.1, as the RFC allows, and the connection goes on."""
    async with served.connect() as wire:
        for _ in range(2):
            assert (await wire.ask(b"GET " + path, *upgrade)).status == 404


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\nX\n\n",
        b"\x00" * 100_000,
    ],
)
async def test_what_is_no_http(served: Served, request_bytes: bytes) -> None:
    """Other bytes get one 4xx or 5xx of a client's doing, with a sentence, and the connection ends."""
    async with served.connect() as wire:
        await wire.send(request_bytes)
        answer = await wire.answer()
        assert answer.status in (400, 431, 501, 505)
        assert answer.content.endswith(b"\n")
        assert await wire.rest() == b""
    await check_serves(served)
