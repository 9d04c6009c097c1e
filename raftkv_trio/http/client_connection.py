"""One client's connection: its requests are answered one after the other, in one task, and every wait ends.

- A client has `idle_timeout_s` to begin a request, `header_timeout_s` for the head of a request, and
  `send_timeout_s` to take each 64 KiB of a response; how long content may take to arrive is the affair of who
  answers.
- Content is read when it is asked for. A client that waits for 100 (Continue) gets it then, so that a request
  which is refused for its head is refused before the client sends anything (RFC 9110, section 10.1.1).
- Pipelined requests that have arrived together are answered in one write, unless one has to wait.
- A refusal waits for its turn: a host is told so many a second, so that one which asks again and again for
  what it cannot have keeps the node from nothing else. A host that has had all its turns for now waits with
  new connections too, before anything is read from them: else it could go on by coming again.
- A connection that is closed while the client sends is first closed in one direction and read from for a
  while, so that the last response arrives (RFC 9112, section 9.6).
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Protocol

import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.foreign_text import printable
from raftkv_trio.http.app_exchange import AppServer
from raftkv_trio.http.messages import (
    Refusal,
    Request,
    Response,
    Service,
    StreamedResponse,
    encode_head,
    encode_refusal,
    plain,
)
from raftkv_trio.http.parser import RequestParser
from raftkv_trio.http.streamed_content import StreamedContent
from raftkv_trio.lingering import linger
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import GONE, Peer, TcpStream
from raftkv_trio.tls.stream import TlsFailed, TlsStream

logger = logging.getLogger(__name__)

READ_BYTES = 16 * 1024  # of content; a connection may hold this several times over
# Of heads: 160 pipelined requests at most. They are parsed without a pause, and take 20 times their size.
READ_HEAD_BYTES = 4 * 1024
SEND_CHUNK_BYTES = 64 * 1024  # the most that is sent under one deadline
ANSWERS_A_TURN = 16  # without a wait between them; then the other tasks are let in, which may be heartbeats
#: A refused request costs a turn, and another one for each 4 KiB of it, up to 16 KiB. To read what is refused
#: in the end takes time, most of it for JSON with escapes (`EXACT_CHARACTERS` in etcd/json/text.py).
PRICED_BYTES, PRICED_PIECE_BYTES = 16 * 1024, 4 * 1024
#: What a connection costs that had no answers but refusals. What a host owes for many at once is bounded.
USELESS_TURNS = 1.0
#: With these a client is told that it asks for what it cannot have, whatever is stored.
REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.LENGTH_REQUIRED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUEST_URI_TOO_LONG,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.EXPECTATION_FAILED,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        HTTPStatus.NOT_IMPLEMENTED,
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    }
)
#: What a client is told if the fault is ours.
BUG = "The request failed because of a bug in raftkv-trio; see the node's log"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_TLS = Refusal(
    HTTPStatus.BAD_REQUEST, "This port speaks TLS, and the request came without; ask for https://"
)
_SLOW_HEAD = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time (--header-timeout)"
)


class OtherProtocol(Protocol):
    """A connection that goes on with another protocol; the methods are those of `Connection`."""

    @property
    def was_of_use(self) -> bool:
        """Whether anything was answered on it that is no refusal."""
        ...

    async def run(self) -> None:
        """Serve the client until one side ends. Cancellation gives up what is in progress."""
        ...

    def stop(self) -> None:
        """Take no more requests; drop the connection at once if it is idle."""
        ...

    def idle_for_long(self) -> None:
        """Drop the connection, which has been idle for too long."""
        ...


#: Makes a connection of HTTP/2 from the stream, the bytes that were read from it, what is to be told each
#: time that it becomes idle (True) or busy (False), and the pace at which its host is refused something.
Http2 = Callable[[TcpStream, bytes, Callable[[bool], None], Callable[[], Pace]], OtherProtocol]
#: The preface of HTTP/2 begins so (RFC 9113, section 3.4), and no request of HTTP/1.1 does.
HTTP_2_BEGINS = b"PRI "


class Connection:
    """A client's connection; `run` serves it to its end.

    Args:
        service: answers the requests, or leaves them to `app`.
        count_refused: called with the status of each refusal of bytes that are no request.
        is_idle_now: told, with the connection, each time that it becomes idle (True) or busy (False); it is
            idle from its beginning or, with TLS, from the end of the handshake on.
        refusals: the pace at which the client's host is refused something.
        tls_failed: told why the TLS handshake has failed.
        http_2: makes the connection that goes on if the client begins with the preface of HTTP/2; None: the
            port speaks HTTP/1.1 only.
    """

    def __init__(
        self,
        service: Service,
        app: AppServer,
        config: RestConfig,
        count_refused: Callable[[HTTPStatus], None],
        is_idle_now: Callable[["Connection", bool], None],
        refusals: Callable[[], Pace],
        stream: TcpStream,
        tls_failed: Callable[[str], object] = lambda reason: None,
        http_2: Http2 | None = None,
    ) -> None:
        self._http_2 = http_2
        self._successor: OtherProtocol | None = None
        self._service = service
        self._app = app
        self._config = config
        self._count_refused = count_refused
        self._tls_failed = tls_failed
        self._is_idle_now = is_idle_now
        self._refusals = refusals
        self._stream = stream
        self._peer: Peer | None = None
        self._parser = RequestParser(config.max_header_bytes, self)
        # Cancelled to drop the connection. Its deadline is that of what the connection waits for, one at a
        # time: the rest of a head, or that the client reads. For the next request see `idle_for_long`.
        self._lifetime = trio.CancelScope()
        self._is_idle = True  # no request is in progress; it may be dropped
        self._stops = False  # the response in progress is the last one
        self._receives_head = False
        self._received_bytes = 0  # since the response before
        self._was_of_use = False  # something was answered that is no refusal
        self._price = 0.0  # in turns, if it ends without having been of use
        self._has_ended = False  # the client sends no more
        self._held: list[bytes] = []  # answers that may leave together with the next one
        self._held_bytes = 0
        self._sending = trio.Lock()  # the app may answer while it is given content

    @property
    def socket(self) -> trio.socket.SocketType:
        """What it stands on, to be asked for addresses."""
        return self._stream.socket

    @property
    def peer(self) -> Peer:
        """The client."""
        if self._peer is None:
            self._peer = self._stream.peer()
        return self._peer

    async def run(self) -> None:
        """Serve requests until the client or the server closes, or a deadline passes.

        Raises, in a group if the app is at fault, only what neither a client nor the network can cause.
        Cancellation closes the connection and gives up the request in progress.
        """
        try:
            with self._lifetime:
                if not await self._is_let_in():
                    return
                if not isinstance(self._stream, TlsStream) or await self._is_secured(self._stream):
                    if self._http_2 is not None:
                        self._successor = await self._choose_protocol(self._http_2)
                    if self._successor is None:
                        await self._serve()
                        await self._linger()
            # It may have been dropped when its first bytes had woken this task already.
            if self._successor is not None and not self._lifetime.cancel_called:
                await self._successor.run()
            if self._lifetime.cancelled_caught and self._receives_head and not self._stops:
                self._lifetime = trio.CancelScope()
                with self._lifetime:
                    await self._refuse(_SLOW_HEAD)
                    await self._linger()
        finally:
            self._stream.close()
            if not (self._was_of_use if self._successor is None else self._successor.was_of_use):
                self._refusals().charge(self._price)

    def stop(self) -> None:
        """Take no more requests; drop the connection at once if it is idle.

        A request that comes at this moment is never begun, so that a client that sees the connection end
        without an answer may send it again.
        """
        self._stops = True
        if self._successor is not None:
            self._successor.stop()
        elif self._is_idle:
            self._lifetime.cancel()

    def idle_for_long(self) -> None:
        """Drop the connection, which has been idle for too long, unless the head of a request is arriving."""
        if self._successor is not None:
            self._successor.idle_for_long()
        elif not self._receives_head:
            self._lifetime.cancel()

    async def _is_let_in(self) -> bool:
        """Wait for a turn if the host has had all of them for now; False if the client has gone meanwhile.

        One that has only ended what it sends counts as gone too. Nothing of its request was done then.
        """
        pace = self._refusals()
        if pace.is_spent:
            if not await pace.wait_turn_unless(self._stream.has_ended):
                return False
        else:
            self._price = USELESS_TURNS
        return True

    async def _is_secured(self, stream: TlsStream) -> bool:
        """Make the TLS handshake; False if it fails, or the connection is dropped meanwhile."""
        self._lifetime.deadline = trio.current_time() + self._config.header_timeout_s
        try:
            await stream.handshake()
        except TlsFailed as error:
            self._tls_failed(str(error))
            if error.sent_http:
                # Without TLS, as the request was.
                stream.send_without_tls(b"".join(encode_refusal(_WITHOUT_TLS)))
            return False
        except GONE:
            return False
        self._lifetime.deadline = inf
        self._set_idle(True)
        return True

    async def _choose_protocol(self, http_2: Http2) -> "OtherProtocol | None":
        """Who goes on with this connection: by its first bytes HTTP/2, or None for HTTP/1.1."""
        first = b""
        while len(first) < len(HTTP_2_BEGINS):
            try:
                data = await self._stream.receive_some(READ_HEAD_BYTES)
            except GONE:
                data = b""
            if not data:
                self._has_ended = True
                break
            first += data
            self._lifetime.deadline = trio.current_time() + self._config.header_timeout_s
        self._lifetime.deadline = inf
        if first.startswith(HTTP_2_BEGINS):
            return http_2(self._stream, first, self._set_idle, self._refusals)
        self._parser.feed(first)
        if self._has_ended:
            self._parser.end()
        return None

    async def _serve(self) -> None:
        """Answer requests in their order until there will be no more."""
        parser = self._parser
        answered = 0  # of those that have arrived together
        while not self._stops:
            if parser.requests:
                if self._is_idle:
                    await self._begin_work()
                if not await self._answer(parser.requests.popleft()):
                    break
                answered += 1
                if answered % ANSWERS_A_TURN == 0:
                    await self.send_held()
                    await trio.lowlevel.checkpoint()
            elif parser.failure is not None:
                await self._refuse(parser.failure)
                break
            else:
                await self.send_held()
                answered = 0
                if not self._stops and not await self._receive_head():
                    break
        await self.send_held()

    async def _begin_work(self) -> None:
        # `stop` may have come when this task had been woken already, by this request: then it ends here.
        if self._lifetime.cancel_called:
            await trio.lowlevel.checkpoint()
        self._set_idle(False)

    def _set_idle(self, is_idle: bool) -> None:
        self._is_idle = is_idle
        self._is_idle_now(self, is_idle)

    async def _receive_head(self) -> bool:
        """Receive until the next request, or the failure to be one, is known; False if there is none."""
        parser = self._parser
        if not self._is_idle:
            self._set_idle(True)
        while not parser.requests and parser.failure is None:
            if parser.is_in_head and not self._receives_head:
                self._receives_head = True
                self._lifetime.deadline = trio.current_time() + self._config.header_timeout_s
            if not await self._receive(READ_HEAD_BYTES) and parser.failure is None:
                return False
        if self._receives_head:
            self._receives_head = False
            self._lifetime.deadline = inf
        return True

    async def _receive(self, max_bytes: int) -> int:
        """Feed the parser with what comes next; returns how many bytes, 0 if nothing comes any more."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except GONE:
            data = b""
        if data:
            self._received_bytes += len(data)
            self._parser.feed(data)
        else:
            self._has_ended = True
            self._parser.end()
        return len(data)

    # ------------------------------------------------------------ answers

    async def _answer(self, request: Request) -> bool:
        """Answer one request; False if the connection is to be closed after it."""
        try:
            response = await self._service.answer(request)
        except Exception:
            # A bug: neither the other requests nor the node are to suffer from it.
            logger.exception("unexpected error in %s", printable(request.method))
            response = plain(HTTPStatus.INTERNAL_SERVER_ERROR, BUG)
        if response is None:
            await self.send_held()
            return await self._app.answer(request, self)
        if isinstance(response, StreamedResponse):
            streamed = StreamedContent(request, response, self)
            response = await self._write(response, streamed)
            if response is None:
                return not streamed.closes
        await self.wait_turn(response.status)
        closes = self.closes_after(request)
        self._hold(encode_head(response.status, response.fields.items(), closes=closes))
        if request.method != "HEAD":
            await self._send_content(response.content)
        return not closes

    async def _write(self, response: StreamedResponse, content: StreamedContent) -> Response | None:
        """Have a response written; returns one that is to be sent instead."""
        try:
            instead = await response.write(content.send)
        except Exception:
            logger.exception("unexpected error in a response that is sent in parts")
            if content.has_begun:
                content.closes = True
                return None
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, BUG)
        if content.has_begun or instead is None:
            await content.end()
            return None
        return instead

    def closes_after(self, request: Request) -> bool:
        """Whether a response that begins now is the last one on the connection."""
        return self._stops or not request.keeps_alive or not request.is_complete

    async def _send_content(self, content: bytes) -> None:
        if len(content) > SEND_CHUNK_BYTES:  # not copied: a client that reads slowly holds no more than this
            await self.send_held()
            await self.send(content)
            return
        self._hold(content)
        if self._held_bytes > SEND_CHUNK_BYTES:
            await self.send_held()

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer bytes that are no request; the connection cannot be used any more."""
        self._count_refused(refusal.status)
        await self.wait_turn(refusal.status)
        head, content = encode_refusal(refusal)
        self._hold(head)
        if not self._parser.is_failure_of_head:
            self._hold(content)
        await self.send_held()

    # ------------------------------------------------------------ for a request in progress

    async def receive_content(self, request: Request) -> None:
        """Receive more of the content of the request that is being answered, and put it there."""
        if request.awaits_100:
            request.awaits_100 = False
            self._hold(_CONTINUE)
        await self.send_held()
        await self._receive(READ_BYTES)

    async def wait_ended(self) -> None:
        """Return when the client sends no more. Requests that it sends ahead are read until 4 KiB wait."""
        ahead = 0
        while not self._has_ended and self._parser.failure is None and ahead < READ_HEAD_BYTES:
            ahead += await self._receive(READ_HEAD_BYTES - ahead)
        if not self._has_ended:
            await trio.sleep_forever()

    async def wait_turn(self, status: int) -> None:
        """Return when a response of this status may begin. Cancellation takes no turn.

        While it waits, the connection counts as idle, since nothing of its request has been done or will be:
        else one host could keep its places taken with refusals. So it may give way to others, and a stop
        drops it at once.
        """
        received, self._received_bytes = self._received_bytes, 0
        if status not in REFUSALS:
            self._was_of_use = True
            return
        if not self._refusals().take_turn():
            await self.send_held()
            was_idle = self._is_idle
            if not was_idle:
                self._set_idle(True)
            await self._refusals().wait_turn()
            if not was_idle:
                await self._begin_work()
        self._refusals().charge(min(received, PRICED_BYTES) // PRICED_PIECE_BYTES)

    async def send_held(self) -> None:
        """Send the answers that were held back; called before a wait."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            await self.send(data)

    async def send(self, data: bytes) -> None:
        """Send bytes, each 64 KiB under a deadline; if the client is gone, so is the connection.

        Cancellation, which may leave a part of a response sent, drops the connection.
        """
        if self._lifetime.cancel_called:
            await trio.lowlevel.checkpoint()
        try:
            sent = 0
            if len(data) <= SEND_CHUNK_BYTES and not self._sending.locked():
                sent = self._stream.send_now(data)
            if sent < len(data):
                async with self._sending:
                    await self._send_slowly(memoryview(data)[sent:])
        except trio.Cancelled:
            self._lifetime.cancel()
            raise
        except GONE:
            self._lifetime.cancel()
            await trio.lowlevel.checkpoint()

    async def _send_slowly(self, data: memoryview) -> None:
        try:
            for start in range(0, len(data), SEND_CHUNK_BYTES):
                self._lifetime.deadline = trio.current_time() + self._config.send_timeout_s
                await self._stream.send_all(data[start : start + SEND_CHUNK_BYTES])
        finally:
            self._lifetime.deadline = inf

    async def _linger(self) -> None:
        """Let a client that still sends read our last response before its connection is reset."""
        parser, stream = self._parser, self._stream
        is_sending = parser.is_in_request or parser.failure or parser.requests
        try:
            if self._has_ended or not (is_sending or stream.receive_now(READ_BYTES)):
                return
        except GONE:
            return
        await linger(stream, self._refusals)
