"""One connection of the load: HTTP/1.1 over TCP or TLS, one request at a time, kept alive.

Nothing is kept of a response but its status, and what a refusal says: the client must cost less than the
server that it measures.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httptools
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.tcp_stream import GONE, TcpStream
from raftkv_trio.tls.clients import Trust
from raftkv_trio.tls.stream import TlsStream, Turns

_PIECE_BYTES = 64 * 1024
_MAX_SAID_BYTES = 1000


class BrokenExchangeError(Exception):
    """No whole response came; the text says why, in a few words that name no server."""


class Connections:
    """Opens the connections of a load.

    Args:
        trust: which servers are trusted, if they speak TLS.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._turns = Turns()

    @asynccontextmanager
    async def open(self, server: PeerAddress) -> AsyncIterator["LoadConnection"]:
        """A connection to a server, until the end of the block.

        Raises OSError if the server cannot be reached or TLS fails, ConfigError if files of `trust` cannot be
        used.
        """
        async with await trio.open_tcp_stream(server.host, server.port) as tcp:
            yield LoadConnection(await self._secured(tcp, server) if server.is_tls else TcpStream(tcp))

    async def _secured(self, tcp: trio.SocketStream, server: PeerAddress) -> TcpStream:
        if self._context is None:
            self._context = self._trust.context()
        stream = TlsStream(tcp, self._context, self._turns, server_side=False, dialled_host=server.host)
        try:
            await stream.handshake()
        except GONE as error:
            raise OSError(str(error)) from error
        return stream


class LoadConnection:
    """Requests over a stream, which `Connections` closes.

    Attributes:
        keeps_alive: whether another request may follow the last response.
        refusal: the beginning of the content of the last response, if its status was not of success.
    """

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream
        self._parser = httptools.HttpResponseParser(self)
        self._status: int | None = None
        self.keeps_alive = True
        self.refusal = b""

    async def exchange(self, *request: bytes) -> int:
        """Send a request, in these pieces, receive all of its response, and return the status.

        Raises BrokenExchangeError. After an error or a cancellation the connection is of no use any more.
        """
        self._status = None
        self.refusal = b""
        try:
            for piece in request:
                await self._stream.send_all(piece)
            while self._status is None:
                data = await self._stream.receive_some(_PIECE_BYTES)
                if not data:
                    raise BrokenExchangeError("connection closed")
                self._parser.feed_data(data)
        except GONE as error:
            raise BrokenExchangeError("connection broken") from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BrokenExchangeError("no HTTP response") from error
        return self._status

    def on_body(self, data: bytes) -> None:
        """A part of the content; called by httptools, which chose the name."""
        if self._parser.get_status_code() >= 300:
            self.refusal = (self.refusal + data)[:_MAX_SAID_BYTES]

    def on_message_complete(self) -> None:
        """A response is complete; called by httptools, which chose the name."""
        status = self._parser.get_status_code()
        if status >= 200:  # before the final response a server may say that it goes on
            self._status = status
            self.keeps_alive = self._parser.should_keep_alive()
