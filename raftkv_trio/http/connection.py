"""One client's connection: its bytes in and out of Hypercorn's HTTP/1.1 protocol, each wait with a deadline.

In place of Hypercorn's `TCPServer`, which shields what it sends, never times out a reader, and resets the
connection of a client that has more to send than we want to read. Here:
- a client has `idle_timeout_s` without a request, `header_timeout_s` for a request's head, `send_timeout_s`
  for each 64 KiB that it is sent; how long a value may take to arrive, the app says;
- what we close while the client sends is closed one way first and read from for a while, so that the last
  answer arrives (RFC 9112, section 9.6);
- upgrades are ignored, as a server may (RFC 9110, section 7.8): HTTP/1.1 is all that is spoken.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from math import inf

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
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr

from raftkv_trio.config import RestConfig

#: Under this name the ASGI scope's `state` holds the request target, byte for byte as it was sent.
TARGET = "raftkv_trio.target"
READ_BYTES = 16 * 1024  # at once; a connection may hold it several times over
CHUNK_BYTES = 64 * 1024  # most that is sent under one deadline
LINGER_S = 1.0
LINGER_BYTES = 4 * 1024 * 1024
_SENTENCES = {
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request's head is too large",
    HTTPStatus.NOT_IMPLEMENTED: "The request has a transfer coding that is not known here",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "Only HTTP/1.1 is spoken here",
}


class Connection:
    """A client's connection; `run` serves it to its end."""

    def __init__(
        self,
        app: AppWrapper,
        config: RestConfig,
        hypercorn: Config,
        context: WorkerContext,
        count_refused: Callable[[HTTPStatus], None],
        stream: trio.SocketStream,
    ) -> None:
        self._app = app
        self._config = config
        self._hypercorn = hypercorn
        self._context = context
        self._count_refused = count_refused
        self._stream = stream
        self._connection = trio.CancelScope()  # cancelled to drop it; its deadline is that of sending
        self._requests = trio.CancelScope()  # cancelled to take no more of them
        self._reading = trio.CancelScope(deadline=trio.current_time() + config.idle_timeout_s)
        self._sending = trio.Lock()
        self._is_idle = True  # no request is under way
        self._head_has_begun = False

    async def run(self) -> None:
        """Serve requests until either side closes, or a deadline passes.

        What neither a client nor the network can cause is raised, in a group. Cancellation closes the
        connection, whatever is under way on it.
        """
        try:
            with self._connection:
                with trio.CancelScope() as work:
                    async with TaskGroup() as tasks:
                        self._protocol = _Protocol(
                            self._app,
                            self._hypercorn,
                            self._context,
                            self._count_refused,
                            tasks,
                            self._stream,
                            self._handle,
                        )
                        with self._requests:
                            await self._receive()
                            if self._protocol.owes_answer:  # to a client that has only closed its own side
                                await trio.sleep_forever()
                        work.cancel()  # whoever waits for an answer to what is under way is gone
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Drop the connection if it is idle; if not, Hypercorn's context must tell it to end."""
        if self._is_idle:
            self._connection.cancel()

    async def _receive(self) -> None:
        """Feed the protocol until the client closes, or does not go on in time."""
        with self._reading:
            data = b"-"
            while data:
                try:
                    data = bytes(await self._stream.receive_some(READ_BYTES))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                await self._protocol.handle(RawData(data))
                if self._is_idle and not self._head_has_begun and self._protocol.has_unread:
                    self._head_has_begun = True
                    self._reading.deadline = trio.current_time() + self._config.header_timeout_s
        if self._reading.cancelled_caught and self._head_has_begun:
            await self._protocol.refuse(HTTPStatus.REQUEST_TIMEOUT)

    async def _handle(self, event: Event) -> None:
        """What the protocol wants done."""
        match event:
            case RawData():
                await self._send(event.data)
            case Updated():
                self._is_idle = event.idle
                self._head_has_begun = False
                idle_until = trio.current_time() + self._config.idle_timeout_s
                self._reading.deadline = idle_until if event.idle else inf
            case Closed():
                self._requests.cancel()

    async def _send(self, data: bytes) -> None:
        try:
            self._sending.acquire_nowait()  # without a checkpoint, unlike `acquire`
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            for start in range(0, len(data), CHUNK_BYTES):
                self._connection.deadline = trio.current_time() + self._config.send_timeout_s
                await self._stream.send_all(memoryview(data)[start : start + CHUNK_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._connection.cancel()  # the client is gone
        finally:
            self._connection.deadline = inf
            self._sending.release()

    async def _linger(self) -> None:
        """Let a client that is still sending read our last answer before its connection is reset."""
        if not self._protocol.expects_data:
            return
        with trio.move_on_after(LINGER_S):
            try:
                async with self._sending:
                    await self._stream.send_eof()
                received = 0
                while received < LINGER_BYTES and (data := await self._stream.receive_some(READ_BYTES)):
                    received += len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


class _Stream(HTTPStream):
    """Hypercorn's, but that an app which has answered is not told of the end: it may not be listening."""

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and self.state is ASGIHTTPState.CLOSED:
            self.closed = True
        else:
            await super().handle(event)


class _Protocol(H11Protocol):
    """Hypercorn's, with one write an answer, a sentence in each refusal, and the target as it was sent."""

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
    def owes_answer(self) -> bool:
        """Whether a whole request has come that is not answered yet."""
        return self.stream is not None and self.connection.their_state in (h11.DONE, h11.CLOSED)

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come that are no whole event yet."""
        return bool(self.connection.trailing_data[0])

    async def refuse(self, status: HTTPStatus) -> None:
        """Answer what is no request, or not a whole one; the connection cannot be used any more."""
        self._count_refused(status)
        await self.send(Updated(idle=False))
        # h11 knows a request from its head on, and holds us to its method
        is_head = self._is_head and self.connection.our_state is h11.SEND_RESPONSE
        sentence = _SENTENCES.get(status, "The request is malformed").encode() + b"\n"
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

    async def _send_error_response(self, status_code: int) -> None:
        await self.refuse(HTTPStatus(status_code))

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and self._ends_with_answer():
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    def _ends_with_answer(self) -> bool:
        """Whether this answer is the last: the rest of its request is not read, or we stop."""
        return self.connection.their_state is h11.SEND_BODY or self.context.terminated.is_set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would upgrade here."""

    async def _create_stream(self, request: h11.Request) -> None:
        self._is_head = request.method == b"HEAD"
        refusal = self._refusal_of(request)
        if refusal is not None:
            await self.refuse(refusal)
            await self.send(Closed())
            return
        self.stream = _Stream(
            self.app,
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
            return HTTPStatus.BAD_REQUEST  # two readers may see two requests (RFC 9112, section 11.2)
        fields = sum([len(name) + len(value) + 4 for name, value in request.headers])
        # h11 only looks at a head that has not come whole with one read
        if len(request.target) + fields > self.config.h11_max_incomplete_size:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return None

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        try:
            self._unsent += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return  # the client has been refused already, whatever the app still has to say
        if not isinstance(event, h11.Response) and (
            type(event) is not h11.Data or len(self._unsent) > CHUNK_BYTES
        ):
            data, self._unsent = self._unsent, b""
            await self.send(RawData(data))
