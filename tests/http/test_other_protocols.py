"""A connection that turns out to speak HTTP/2 is handed over; one that is dropped at that moment is not."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from raftkv_trio.config import RestConfig
from raftkv_trio.http import OtherProtocol
from raftkv_trio.http.app_exchange import AppServer
from raftkv_trio.http.client_connection import Connection
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.world import TrioClock
from tests.http.services import ScriptedService, get, no_app, octets

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Successor:
    """Notes with which bytes it was made, whether it has run, and how it was told to end."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.told: list[str] = []
        self.was_of_use = True

    async def run(self) -> None:
        self.told.append("run")

    def stop(self) -> None:
        self.told.append("stop")

    def idle_for_long(self) -> None:
        self.told.append("idle")


class WakingStream(TcpStream):
    """Calls a function when bytes have arrived, before whoever waits for them goes on."""

    on_bytes: Callable[[], object] = staticmethod(lambda: None)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await super().receive_some(max_bytes)
        self.on_bytes()
        return data


class Accepted:
    """A connection, the client's end of it, and what HTTP/2 was handed to."""

    def __init__(self, accepted: trio.SocketStream, client: trio.SocketStream) -> None:
        async def answer(request: object) -> object:
            return octets(b"1.1")

        self.client = client
        self.successors: list[Successor] = []
        self.stream = WakingStream(accepted)
        service = ScriptedService(answer)  # type: ignore[arg-type]
        self.connection = Connection(
            service,
            AppServer(no_app, is_tls=False),
            RestConfig(),
            lambda status: None,
            lambda connection, is_idle: None,
            lambda: Pace(TrioClock(), 1, 1),
            self.stream,
            http_2=self._hand_over,
        )

    def _hand_over(self, stream: TcpStream, first: bytes, *args: object) -> OtherProtocol:
        self.successors.append(Successor(first))
        return self.successors[-1]


@asynccontextmanager
async def accepted() -> AsyncIterator[Accepted]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("127.0.0.1", port) as client:
        yield Accepted(await listener.accept(), client)


@pytest.mark.parametrize("pieces", [[PREFACE], [b"P", b"R", b"I ", b"* HTTP/2.0"]])
async def test_http_2_is_handed_over(pieces: list[bytes]) -> None:
    """With all bytes that were read, however they came."""
    async with accepted() as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.connection.run)
        for piece in pieces:
            await one.client.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
    [successor] = one.successors
    assert PREFACE.startswith(successor.first[: len(PREFACE)])
    assert successor.first.startswith(b"PRI ")
    assert successor.told == ["run"]


@pytest.mark.parametrize("pieces", [[get(b"/")], [b"G", get(b"/")[1:]], [b"P", b"UT" + get(b"/")[3:]]])
async def test_all_else_is_http_1_1(pieces: list[bytes]) -> None:
    """Also if its first bytes could be those of HTTP/2."""
    async with accepted() as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.connection.run)
        for piece in pieces:
            await one.client.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await one.client.receive_some()).endswith(b"1.1")
        await one.client.send_eof()
    assert one.successors == []


@pytest.mark.parametrize("end", ["stop", "idle_for_long"])
async def test_one_that_is_dropped_meanwhile(end: str) -> None:
    """Nothing goes on with it, though its preface has come."""
    async with accepted() as one, trio.open_nursery() as nursery:
        one.stream.on_bytes = getattr(one.connection, end)
        nursery.start_soon(one.connection.run)
        await one.client.send_all(PREFACE)
        with trio.fail_after(60):
            try:
                assert await one.client.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # what it had sent was not all read
    assert [successor.told for successor in one.successors] in ([], [[]])
