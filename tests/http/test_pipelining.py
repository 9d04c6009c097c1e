"""Requests that come before the answers to earlier ones: what leaves when, and what a stop does to them."""

import socket
from http import HTTPStatus
from pathlib import Path

import pytest
import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.http import Request, Response, plain
from raftkv_trio.http.client_connection import ANSWERS_A_TURN
from raftkv_trio.http.listener import _Server
from raftkv_trio.tcp_stream import TcpStream
from tests.http.services import HEAD, ScriptedService, get, octets, open_service
from tests.rest.serving import PATIENCE_S, Served, Wire, open_server

BUFFER_BYTES = 64 * 1024
BIG_BYTES = 20 * BUFFER_BYTES


async def answer_empty(request: Request) -> Response:
    return octets(b"")


@pytest.mark.parametrize(
    "write",
    [
        b"PUT /key" + HEAD + b"Content-Length: 1\r\n\r\nv",
        b"DELETE /key" + HEAD + b"\r\n",
        b"POST /4" + HEAD + b"Content-Length: 19\r\n\r\nhttp://127.0.0.1:99",
    ],
)
async def test_an_answer_waits_for_no_write(served: Served, write: bytes) -> None:
    """An answer that is ready leaves before the wait for a write that came with its request."""
    async with served.connect() as wire:
        served.disk.gate.close()
        await wire.send(b"OPTIONS /" + HEAD + b"\r\n", write)
        assert (await wire.answer()).status == 204
        served.disk.gate.open()
        assert (await wire.answer()).status in (204, 404)


async def test_other_tasks_get_their_turns() -> None:
    """Many requests that arrive at once, and are answered without a wait, do not hold up the node's tasks."""
    turns: list[int] = []
    passes = 0

    async def answer(request: Request) -> Response:
        turns.append(passes)
        return octets(b"")

    async def pass_by() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    opening = open_service(ScriptedService(answer))
    async with opening as opened, opened.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(pass_by)
        await wire.send(get(b"/") * 300)
        for _ in range(300):
            assert (await wire.answer()).status == 200
        nursery.cancel_scope.cancel()
    # Trio runs the tasks of one pass in any order, so that two turns may follow each other.
    assert max(turns.count(turn) for turn in set(turns)) <= 2 * ANSWERS_A_TURN


async def test_nothing_begins_after_a_stop() -> None:
    """A request that waited for the answer before it when the stop came is never begun."""

    async def answer(request: Request) -> Response:
        return octets(b"x" * BIG_BYTES)

    service = ScriptedService(answer)
    opening = open_service(service, buffer_bytes=BUFFER_BYTES)
    async with opening as opened, opened.connect(buffer_bytes=BUFFER_BYTES) as wire:
        await wire.send(get(b"/1"), get(b"/2"))
        with trio.fail_after(PATIENCE_S):
            while not service.begun:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        opened.stop()
        assert len((await wire.answer()).content) == BIG_BYTES
        assert await wire.rest() == b""
    assert service.begun == [b"/1"]


async def test_a_connection_accepted_at_the_stop() -> None:
    """A connection whose task starts after the stop is closed, and its request never begun."""
    service = ScriptedService(answer_empty)
    server = _Server(service, RestConfig(port=0))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.open_tcp_stream(*listener.socket.getsockname()) as client:
        await client.send_all(get(b"/"))
        accepted = await listener.accept()
        server.stop()
        with trio.fail_after(PATIENCE_S):
            await server.serve_connection(accepted)
    assert service.begun == []


async def test_the_last_answer_is_followed_by_no_reset(tmp_path: Path) -> None:
    """A client that has sent more when the stop comes reads its answer and then the end."""
    async with open_server(tmp_path / "data") as served, served.connect() as wire:
        served.disk.gate.close()
        await wire.send(b"PUT /key" + HEAD + b"Content-Length: 1\r\n\r\nv")
        with trio.fail_after(PATIENCE_S):
            while served.node.status().last_index < 3:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        await wire.send(get(b"/key"))
        served.stop()
        served.disk.gate.open()
        assert (await wire.answer()).status == 204
        with trio.fail_after(PATIENCE_S):
            assert await wire.stream.receive_some() == b""


async def test_nothing_follows_half_an_answer() -> None:
    """Nothing is sent after an answer that is cut off by a deadline of the next request."""

    async def answer(request: Request) -> Response:
        if request.method == "GET":
            return octets(b"x" * 60_000)
        with trio.move_on_after(0.1):
            await request.part()
        return plain(HTTPStatus.REQUEST_TIMEOUT, "late")

    opening = open_service(ScriptedService(answer), buffer_bytes=4096)
    async with opening as opened, opened.connect(buffer_bytes=4096) as wire:
        await wire.send(get(b"/"), b"PUT /" + HEAD + b"Content-Length: 9\r\n\r\n")
        await trio.sleep(0.3)  # this client does not read meanwhile
        assert b"HTTP/1.1 408" not in await wire.rest()


async def test_what_never_pauses_can_be_cancelled() -> None:
    """Receiving ends by a cancellation even if there is always something to receive; nothing is lost."""
    own, other = trio.socket.socketpair()
    stream = TcpStream(trio.SocketStream(own))
    with other:
        await other.send(b"abc")
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_some(2)
        assert scope.cancelled_caught
        assert await stream.receive_some(2) == b"ab"
        stream.close()


async def test_a_flood_of_empty_lines_ends() -> None:
    """Empty lines begin no request: a client that sends nothing else is idle."""

    async def flood(wire: Wire) -> None:
        while True:
            await wire.send(b"\r\n" * 32 * 1024)

    opening = open_service(ScriptedService(answer_empty), RestConfig(port=0, idle_timeout_s=0.3))
    async with opening as opened, opened.connect() as wire:
        with trio.fail_after(PATIENCE_S), pytest.raises(trio.BrokenResourceError):
            await flood(wire)


async def test_empty_lines_between_requests() -> None:
    """Empty lines before and between requests are skipped, however they arrive."""
    async with open_service(ScriptedService(answer_empty)) as opened, opened.connect() as wire:
        wire.stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\n" + get(b"/") + b"\r\n\r\n":
            await wire.send(bytes([byte]))
        assert (await wire.answer()).status == 200
        await wire.send(b"\r\n\r\n", get(b"/"), b"\r\n", get(b"/"))
        for _ in range(2):
            assert (await wire.answer()).status == 200
