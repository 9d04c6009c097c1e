"""Requests that an ASGI app answers: through Hypercorn's stream layer, on the connection of the others.

Hypercorn runs the app in a task of its own and gives the response a form; what it gives for a connection is
written here. The app receives its content straight from the connection, so that it is read, and a client that
waits for 100 (Continue) invited, when the app begins to receive.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol.events import Body, EndBody, Event, Response
from hypercorn.protocol.events import Request as StreamRequest
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ConnectionState,
    Scope,
)
from hypercorn.utils import parse_socket_addr, suppress_body

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.http.messages import Request, encode_head

logger = logging.getLogger(__name__)

_STREAM_ID = 1
UNSENT_BYTES = 32 * 1024  # more is sent before the response ends
_NO_FIELD = re.compile(rb"[\r\n\x00]")


class Carrier(Protocol):
    """The connection that a request has come on."""

    @property
    def socket(self) -> trio.socket.SocketType:
        """What it stands on."""
        ...

    def closes_after(self, request: Request) -> bool:
        """Whether a response that begins now is the last one on the connection."""
        ...

    async def wait_turn(self, status: int) -> None:
        """Return when a response of this status may begin."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes; cancelled if the client is gone."""
        ...


class AppServer:
    """An ASGI app, and what Hypercorn needs to run it.

    Args:
        is_tls: whether clients speak TLS, so that the app is told the scheme https.
    """

    def __init__(self, app: ASGIFramework, *, is_tls: bool = False) -> None:
        self._app = app
        self._is_tls = is_tls
        self._config = Config()
        self._config.errorlog = logger
        self._context = WorkerContext(None)

    async def answer(self, request: Request, connection: Carrier) -> bool:
        """Have the app answer one request; False if the connection is to be closed after it.

        If its content is flawed before the app has answered, nothing is sent: the connection refuses it.

        Raises, in a group, only what is a bug of the app and of Hypercorn. Cancellation ends the app's task.
        """
        exchange = _Exchange(request, connection)
        async with TaskGroup() as tasks:
            stream = HTTPStream(
                partial(_receiving, ASGIWrapper(self._app), exchange.receive),
                self._config,
                self._context,
                tasks,
                self._is_tls,
                *exchange.addresses(),
                exchange.handle,
                _STREAM_ID,
            )
            await stream.handle(
                StreamRequest(
                    stream_id=_STREAM_ID,
                    headers=request.fields,
                    http_version=request.version,
                    method=request.method,
                    raw_path=request.origin_form() or request.target,
                    state=ConnectionState({"peer": request.peer}),
                )
            )
        return exchange.was_refused or (exchange.is_complete and not exchange.closes)


async def _receiving(
    app: ASGIWrapper,
    receive: ASGIReceiveCallable,
    scope: Scope,
    unused: ASGIReceiveCallable,
    send: ASGISendCallable,
    sync_spawn: Callable[..., Any],
    call_soon: Callable[..., Any],
) -> None:
    """Call the app with another way to receive."""
    await app(scope, receive, send, sync_spawn, call_soon)


class _Exchange:
    """One request and its response.

    Attributes:
        closes: whether the connection closes after the response.
        is_complete: whether the response has been sent to its end.
        is_flawed: whether the content ended early, or is none.
    """

    def __init__(self, request: Request, connection: Carrier) -> None:
        self._request = request
        self._connection = connection
        self._is_received = False  # all of the content, by the app
        self._has_begun = False  # the response
        self._is_chunked = False
        self._omits_content = False
        self._left_bytes: int | None = None  # of the content that the response announces
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self.is_flawed = False
        self.closes = False
        self.is_complete = False

    @property
    def was_refused(self) -> bool:
        """Whether the app has given no response, since the content is flawed."""
        return self.is_flawed and not self._has_begun

    def addresses(self) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
        """Those of the client and of the server."""
        socket = self._connection.socket
        try:
            peer = parse_socket_addr(socket.family, socket.getpeername())
        except OSError:  # the client is gone
            peer = None
        return peer, parse_socket_addr(socket.family, socket.getsockname())

    async def receive(self) -> ASGIReceiveEvent:
        """The next part of the content, for the app."""
        if self._is_received:
            await trio.sleep_forever()  # it would be told of nothing but the end of the connection
        try:
            part = await self._request.part()
        except MalformedRequest:
            self._is_received = self.is_flawed = True
            return {"type": "http.disconnect"}
        self._is_received = part is None
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def handle(self, event: Event) -> None:
        """Do what Hypercorn's stream asks for."""
        if self.was_refused:
            return  # the app was told that the client is gone; Hypercorn would answer that the app failed
        match event:
            case Response():
                await self._connection.wait_turn(event.status_code)
                self._has_begun = True
                await self._write(self._head(event))
            case Body() if not self._omits_content:
                data = event.data
                self._count(len(data))
                await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
            case EndBody():
                if self._left_bytes:
                    raise ValueError(f"the app gave {self._left_bytes} bytes less than it announced")
                await self._write(b"0\r\n\r\n" if self._is_chunked else b"")
                await self._flush()
                self.is_complete = True
            case _:
                pass  # the end of the app's task tells the same

    def _head(self, response: Response) -> bytes:
        request, status = self._request, response.status_code
        request.awaits_100 = False  # an interim response would come too late
        fields = []
        for name, value in response.headers:
            if _NO_FIELD.search(name + value):
                raise ValueError(f"the app gave a field that is none: {name!r}: {value!r}")
            if name.lower() != b"connection":
                fields.append((name.decode("latin-1"), value.decode("latin-1")))
            elif value.lower() == b"close":
                self.closes = True
        self._omits_content = suppress_body(request.method, status)
        if not self._omits_content:
            lengths = [int(value) for name, value in fields if name.lower() == "content-length"]
            self._left_bytes = lengths[0] if lengths else None
            self._is_chunked = not lengths and request.version == "1.1"
            # In HTTP/1.0 the end of the connection is the end of content of unknown length.
            self.closes |= not lengths and not self._is_chunked
        if self._is_chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        self.closes |= self._connection.closes_after(request)
        return encode_head(status, fields, closes=self.closes)

    def _count(self, more_bytes: int) -> None:
        """The client finds the next response by the length that this one has announced."""
        if self._left_bytes is not None:
            self._left_bytes -= more_bytes
            if self._left_bytes < 0:
                raise ValueError("the app gave more content than it announced")

    async def _write(self, data: bytes) -> None:
        """Send together with what follows, unless there is much to send."""
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNSENT_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        await self._connection.send(data)
