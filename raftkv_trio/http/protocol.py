"""HTTP/1.1: Hypercorn's protocol over h11, and what we change in it.

- A response leaves in one write, as far as it fits into `SEND_CHUNK_BYTES`.
- A refusal has a sentence, and is counted.
- The app gets the request target byte for byte as it was sent.
- A client that waits for 100 (Continue) gets it when the app begins to read the content, so that a request
  which is refused for its head is refused before the client sends anything (RFC 9110, section 10.1.1).
- Upgrades are ignored, as a server may (RFC 9110, section 7.8): this server speaks only HTTP/1.1.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ConnectionState,
    H11SendableEvent,
    Scope,
)
from hypercorn.utils import parse_socket_addr

#: Under this name the ASGI scope's `state` holds the request target, byte for byte as it was sent.
TARGET = "raftkv_trio.target"
SEND_CHUNK_BYTES = 64 * 1024  # the most that is sent under one deadline
_SENTENCES = {
    HTTPStatus.REQUEST_TIMEOUT: "The head of the request did not arrive in time (--header-timeout)",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The head of the request, which includes the key, is larger"
    " than {max_header_bytes} bytes (--max-header-size)",
    HTTPStatus.NOT_IMPLEMENTED: "The request's transfer coding is not supported; send the content chunked",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "This server speaks only HTTP/1.0 and HTTP/1.1",
}


class HttpProtocol(H11Protocol):
    """The protocol of one connection; Hypercorn's names for its methods and attributes.

    Args:
        context: Hypercorn's; when it is terminated, the response in progress is the last one.
        count_refused: called with the status of each refusal that the app does not see.
        tasks: the requests run in it.
        send: does what the protocol asks for: sends bytes, notes that it is idle, closes.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        count_refused: Callable[[HTTPStatus], None],
        tasks: TaskGroup,
        stream: trio.SocketStream,
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        socket = stream.socket
        client = parse_socket_addr(socket.family, socket.getpeername())
        server = parse_socket_addr(socket.family, socket.getsockname())
        super().__init__(app, config, context, tasks, ConnectionState({}), False, client, server, send)
        self._count_refused = count_refused
        self._is_head = False
        self._unsent = b""

    @property
    def expects_data(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self.connection.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    @property
    def owes_response(self) -> bool:
        """Whether a whole request has arrived that is not answered yet."""
        return self.stream is not None and self.connection.their_state in (h11.DONE, h11.CLOSED)

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that do not make a whole event yet."""
        return bool(self.connection.trailing_data[0])

    async def refuse(self, status: HTTPStatus) -> None:
        """Answer bytes that are no request, or no whole one; the connection cannot be used any more."""
        self._count_refused(status)
        await self.send(Updated(idle=False))
        # From a request's head on h11 knows its method, and a response to HEAD has no content.
        is_head = self._is_head and self.connection.our_state is h11.SEND_RESPONSE
        sentence = self._sentence(status).encode() + b"\n"
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(sentence)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status, headers=fields))
        if not is_head:
            await self._send_h11_event(h11.Data(data=sentence))
        await self._send_h11_event(h11.EndOfMessage())

    def _sentence(self, status: HTTPStatus) -> str:
        sentence = _SENTENCES.get(status, "The request is malformed: it is not valid HTTP/1.1")
        return sentence.format(max_header_bytes=self.config.h11_max_incomplete_size)

    # ------------------------------------------------------------ Hypercorn's methods, changed

    async def _send_error_response(self, status_code: int) -> None:
        await self.refuse(HTTPStatus(status_code))

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and self._is_last_response():
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    def _is_last_response(self) -> bool:
        """Whether the connection closes after it: its request is not read to the end, or we stop."""
        return self.connection.their_state is h11.SEND_BODY or self.context.terminated.is_set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do nothing; Hypercorn upgrades here."""

    async def _create_stream(self, request: h11.Request) -> None:
        self._is_head = request.method == b"HEAD"
        refusal = self._refusal_of(request)
        if refusal is not None:
            await self.refuse(refusal)
            await self.send(Closed())
            return
        waits = self.connection.they_are_waiting_for_100_continue
        self.stream = _ResponseStream(
            _Inviting(self.app, self._invite) if waits else self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode(),
                raw_path=request.target,
                state=ConnectionState({TARGET: request.target}),
            )
        )

    def _refusal_of(self, request: h11.Request) -> HTTPStatus | None:
        if request.http_version not in (b"1.0", b"1.1"):
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        names = [name for name, _ in request.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            # Two readers, such as a proxy and we, may see two different requests (RFC 9112, section 11.2).
            return HTTPStatus.BAD_REQUEST
        fields = sum([len(name) + len(value) + 4 for name, value in request.headers])
        # h11 checks the length only of a head that takes more than one read to arrive.
        if len(request.target) + fields > self.config.h11_max_incomplete_size:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return None

    async def _invite(self) -> None:
        """Tell a client that still waits to send its content."""
        if self.connection.they_are_waiting_for_100_continue:
            await super()._send_h11_event(
                h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
            )

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, h11.InformationalResponse):
            return  # Hypercorn's 100, before the app has seen the request; `_invite` sends ours
        try:
            self._unsent += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return  # the client was refused already; the app's response has nowhere to go
        if not isinstance(event, h11.Response) and (
            type(event) is not h11.Data or len(self._unsent) > SEND_CHUNK_BYTES
        ):
            data, self._unsent = self._unsent, b""
            await self.send(RawData(data))


class _Inviting:
    """An app whose client is invited to send its content when the app begins to receive it."""

    def __init__(self, app: AppWrapper, invite: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._invite = invite

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        async def invite_and_receive() -> ASGIReceiveEvent:
            await self._invite()
            return await receive()

        await self._app(scope, invite_and_receive, send, sync_spawn, call_soon)


class _ResponseStream(HTTPStream):
    """Hypercorn's, but it tells nothing of its end to an app that has answered and may not listen."""

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and self.state is ASGIHTTPState.CLOSED:
            self.closed = True
        else:
            await super().handle(event)
