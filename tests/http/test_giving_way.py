"""A connection gives way at the moment at which its next request comes: nothing of that has begun."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.http import Request, Response, plain
from raftkv_trio.http.app_exchange import AppServer
from raftkv_trio.http.client_connection import Connection
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.world import TrioClock
from tests.rest.serving import PATIENCE_S, Wire

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Server:
    """One connection from end to end, and the targets of the requests whose answer has begun."""

    def __init__(self, stream: trio.SocketStream, is_idle_now: Callable[[Connection, bool], None]) -> None:
        self.app: ASGIFramework = QuartTrio(__name__)  # nothing is left to it
        self.begun: list[bytes] = []
        self.task: trio.lowlevel.Task | None = None
        pace = Pace(TrioClock(), rate=1.0, burst=1)
        self.connection = Connection(
            self, AppServer(self.app), RestConfig(), _count, is_idle_now, lambda: pace, TcpStream(stream)
        )

    async def run(self) -> None:
        self.task = trio.lowlevel.current_task()
        await self.connection.run()

    async def answer(self, request: Request) -> Response:
        self.begun.append(request.target)
        return plain(HTTPStatus.OK, "done")


@asynccontextmanager
async def serving(
    is_idle_now: Callable[[Connection, bool], None] = lambda connection, is_idle: None,
) -> AsyncIterator[tuple[Server, Wire]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, listener:
            client = await trio.open_tcp_stream(*listener.socket.getsockname())
            server = Server(await listener.accept(), is_idle_now)
            nursery.start_soon(server.run)
            async with client:
                yield server, Wire(client)


async def test_the_next_request_is_there_already() -> None:
    """What has arrived together is answered, and the connection gives way when it becomes idle after that."""

    def give_way(connection: Connection, is_idle: bool) -> None:
        if is_idle:
            connection.stop()

    async with serving(give_way) as (server, wire):
        await wire.send(b"DELETE /a", HEAD, b"DELETE /b", HEAD)
        for _ in range(2):
            assert (await wire.answer()).status == 200
        assert await wire.rest() == b""
    assert server.begun == [b"/a", b"/b"]


class StopsAtTheNextStep(trio.abc.Instrument):
    """Stops the connection when its task has been woken by a request, and has not run yet."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.has_stopped = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._server.task and not self.has_stopped:
            self._server.connection.stop()
            self.has_stopped = True


@pytest.mark.parametrize("before", [0, 1])
async def test_the_next_request_comes_at_this_moment(before: int) -> None:
    """The client sees the end of the connection and no answer, so that it may send its request again."""
    async with serving() as (server, wire):
        for _ in range(before):
            await wire.send(b"DELETE /a", HEAD)
            assert (await wire.answer()).status == 200
        await trio.testing.wait_all_tasks_blocked()
        stopping = StopsAtTheNextStep(server)
        trio.lowlevel.add_instrument(stopping)
        await wire.send(b"DELETE /b", HEAD)
        assert await wire.rest() == b""
        trio.lowlevel.remove_instrument(stopping)
        assert stopping.has_stopped
    assert server.begun == [b"/a"] * before


def _count(status: HTTPStatus) -> None:
    raise AssertionError(status)
