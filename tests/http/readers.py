"""What two parsers of HTTP/1.1 read in the same bytes: ours, and h11, by which this server read before."""

from collections.abc import Sequence
from typing import NamedTuple

import h11

from raftkv_trio.http.messages import Request
from raftkv_trio.http.parser import RequestParser
from raftkv_trio.tcp_stream import Peer

MAX_HEAD_BYTES = 16 * 1024


class Reading(NamedTuple):
    """One request as it was read, with all of its content."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    content: bytes


class Readings(NamedTuple):
    """What was read until the end, or until the bytes were refused.

    Attributes:
        requests: those that are complete.
        is_refused: whether what follows them was refused; if not, it is nothing, or not a whole request.
    """

    requests: list[Reading]
    is_refused: bool


class NoSource:
    """All bytes are fed before a request is looked at."""

    peer = Peer()

    async def receive_content(self, request: Request) -> None:
        raise AssertionError("nothing asks for more")

    async def send_held(self) -> None:
        raise AssertionError("nothing is sent")

    async def wait_ended(self) -> None:
        raise AssertionError("nobody waits for the end of the client")


def read_by_us(pieces: Sequence[bytes]) -> Readings:
    """Read until the first request that closes the connection, as a connection does."""
    parser = RequestParser(MAX_HEAD_BYTES, NoSource())
    for piece in pieces:
        parser.feed(piece)
    readings: list[Reading] = []
    for request in parser.requests:
        if not request.is_complete:
            return Readings(readings, request.has_flaw)
        readings.append(
            Reading(request.method.encode(), request.target, tuple(request.fields), b"".join(request.arrived))
        )
        if not request.keeps_alive:
            return Readings(readings, False)
    return Readings(readings, parser.failure is not None)


def read_by_h11(pieces: Sequence[bytes]) -> Readings:
    """Read by h11, with the refusals that were added to it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    readings: list[Reading] = []
    reading = _H11Reading(connection)
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while (complete := reading.next()) is not None:
                readings.append(complete)
                if connection.their_state is not h11.DONE:
                    return Readings(readings, False)
                connection.start_next_cycle()
    except (h11.RemoteProtocolError, _RefusedError):
        return Readings(readings, True)
    return Readings(readings, False)


class _RefusedError(Exception):
    pass


class _H11Reading:
    def __init__(self, connection: h11.Connection) -> None:
        self._connection = connection
        self._head: h11.Request | None = None
        self._content = b""

    def next(self) -> Reading | None:
        """The next complete request, answered; None if more bytes are needed."""
        while True:
            event = self._connection.next_event()
            match event:
                case h11.Request():
                    _check(event)
                    self._head, self._content = event, b""
                case h11.Data():
                    self._content += event.data
                case h11.EndOfMessage():
                    return self._answer()
                case _:
                    return None

    def _answer(self) -> Reading:
        head = self._head
        assert head is not None
        for event in (h11.Response(status_code=404, headers=[("content-length", "0")]), h11.EndOfMessage()):
            self._connection.send(event)
        return Reading(head.method, head.target, tuple(head.headers), self._content)


def _check(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    is_framed_twice = b"transfer-encoding" in names and b"content-length" in names
    if request.http_version not in (b"1.0", b"1.1") or is_framed_twice or size > MAX_HEAD_BYTES:
        raise _RefusedError
