"""Services that do nothing but what a test tells them, behind the real accept loop."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from raftkv_trio.config import RestConfig
from raftkv_trio.http import Request, Response, StreamedResponse, serve_http, with_content
from raftkv_trio.tls.credentials import Credentials
from tests.rest.serving import Wire, open_stoppable

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"


def get(target: bytes) -> bytes:
    return b"GET " + target + HEAD + b"\r\n"


async def no_app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    raise AssertionError("nothing is left to the app")


async def to_the_app(request: Request) -> None:
    """Leaves every request to the app."""


def octets(content: bytes) -> Response:
    return with_content(HTTPStatus.OK, content, "application/octet-stream")


class ScriptedService:
    """Answers with a function, and notes the targets of the requests that have begun."""

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Response | StreamedResponse | None]] = to_the_app,
        app: ASGIFramework = no_app,
    ) -> None:
        self.app = app
        self.begun: list[bytes] = []
        self._answer = answer

    async def answer(self, request: Request) -> Response | StreamedResponse | None:
        self.begun.append(request.target)
        return await self._answer(request)


class Opened(NamedTuple):
    """A service at `port`, until `stop`."""

    port: int
    stop: Callable[[], None]

    @asynccontextmanager
    async def connect(self, *, buffer_bytes: int | None = None) -> AsyncIterator[Wire]:
        """A connection, perhaps of a client that takes hardly anything until it reads."""
        with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
            if buffer_bytes is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            await opened.connect(("127.0.0.1", self.port))
            yield Wire(trio.SocketStream(opened))


@asynccontextmanager
async def open_service(
    service: ScriptedService,
    config: RestConfig | None = None,
    *,
    buffer_bytes: int | None = None,
    tls: Credentials | None = None,
) -> AsyncIterator[Opened]:
    """Serve until the end of the context; `buffer_bytes`: what the system takes of a response at once."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    if buffer_bytes is not None:  # what is accepted inherits it
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    serve = partial(serve_http, service, config or RestConfig(port=0), listeners, tls=tls)
    async with open_stoppable(serve) as (port, stop):
        yield Opened(port, stop)
