"""A request and a response, as whoever answers requests sees them, and how a response's head is written."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import NamedTuple, Protocol

from hypercorn.typing import ASGIFramework

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.tcp_stream import Peer

RETRY_AFTER_S = 1
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_AUTHORITY = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]


class Source(Protocol):
    """The connection that requests come on."""

    @property
    def peer(self) -> Peer:
        """The client."""
        ...

    async def receive_content(self, request: "Request") -> None:
        """Receive more of the content of the request in progress; afterwards the request has it."""
        ...

    async def send_held(self) -> None:
        """Send the answers to earlier requests that were held back, to leave with the next one."""
        ...

    async def wait_ended(self) -> None:
        """Return when the client sends no more; what it sends until then is kept for later."""
        ...


class Request:
    """One request; its content arrives while it is answered.

    Attributes:
        arrived: the content that has arrived and was not taken yet.
        method: as it was sent.
        target: the request target, byte for byte as it was sent.
        fields: of the head, in the order of arrival; names in lower case, values without spaces around them.
        version: "1.0" or "1.1".
        keeps_alive: whether the client allows another request after this one.
        content_length: the size that the client announces; 0 without content, and if it comes in chunks.
        is_chunked: whether the content comes in chunks, so that its size is not known before its end.
        is_complete: whether all content has arrived.
        awaits_100: whether the client sends its content only when it is told to (100).
        has_flaw: whether the content ended early, or what came is none; no more of it will be read.
    """

    __slots__ = (
        "_source",
        "arrived",
        "awaits_100",
        "content_length",
        "fields",
        "has_flaw",
        "is_chunked",
        "is_complete",
        "keeps_alive",
        "method",
        "target",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        fields: Fields,
        version: str,
        source: Source,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.version = version
        self.keeps_alive = False
        self.content_length = 0
        self.is_chunked = False
        self.is_complete = False
        self.has_flaw = False
        self.awaits_100 = False
        self._source = source
        self.arrived: list[bytes] = []

    def lines(self, name: bytes) -> list[str]:
        """The values of all lines of a field; `name` is in lower case."""
        return [value.decode("latin-1") for field, value in self.fields if field == name]

    def origin_form(self) -> bytes | None:
        """The target in origin form (RFC 9112, section 3.2), its bytes otherwise unchanged.

        The absolute form, as sent to a proxy, is reduced to it. None: the target has neither form.
        """
        return origin_form(self.target)

    @property
    def peer(self) -> Peer:
        """The client."""
        return self._source.peer

    @property
    def has_content(self) -> bool:
        """Whether content of any size follows the head."""
        return self.content_length > 0 or self.is_chunked

    async def will_wait(self) -> None:
        """To be called by who answers, before a wait for anything but content: no answer waits with it."""
        await self._source.send_held()

    async def wait_gone(self) -> None:
        """Return when the client has closed its side, for who has nothing to send for long.

        Not before all content has arrived. Whether the client still reads is not known then, as with Go's
        server. If it sends more requests instead, this may never return. Cancellation loses nothing.
        """
        await self._source.wait_ended()

    async def part(self) -> bytes | None:
        """All bytes of the content that have arrived and were not taken yet; None after the last.

        Raises MalformedRequest if the content ends early. Cancellation loses nothing that has arrived.
        """
        while not self.arrived:
            if self.is_complete:
                return None
            if self.has_flaw:
                raise MalformedRequest("The content of the request is malformed, or ended early")
            await self._source.receive_content(self)
        part = b"".join(self.arrived)
        self.arrived.clear()
        return part


def origin_form(target: bytes) -> bytes | None:
    """See `Request.origin_form`."""
    if target.startswith(b"/"):
        return target
    authority = _AUTHORITY.match(target)
    if authority is None:
        return None
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


class Response(NamedTuple):
    """A response: its content, and its fields beyond those that every response has.

    The fields say how long the content is, if the status allows content.
    """

    status: HTTPStatus
    fields: Mapping[str, str]
    content: bytes = b""


#: Sends a part of a response's content, and returns when the system has taken it.
SendPart = Callable[[bytes], Awaitable[None]]


class StreamedResponse(NamedTuple):
    """A response whose content is made while it is sent, so that its length is not known before its end.

    `write` is called with what sends a part of the content. Each part leaves at once, the first one together
    with the head, so until then `write` may return another response, which is sent instead. If it raises
    later, the connection is closed without the end of the content, by which the client knows. It is cancelled
    if sending or receiving shows that the client is gone. Not for HEAD, whose response has no content.

    Attributes:
        fields: none that says how long the content is.
    """

    status: HTTPStatus
    fields: Mapping[str, str]
    write: Callable[[SendPart], Awaitable[Response | None]]


class Service(Protocol):
    """What a port serves.

    Attributes:
        app: answers what `answer` leaves to it.
    """

    app: ASGIFramework

    async def answer(self, request: Request) -> Response | StreamedResponse | None:
        """Answer a request, or leave it to `app`: None.

        Cancelled if the client turns out to be gone, which only sending or receiving shows.
        """
        ...


class Refusal(NamedTuple):
    """Why a request is refused: a status, and a sentence that says what to do."""

    status: HTTPStatus
    sentence: str


def plain(status: HTTPStatus, sentence: str, fields: Mapping[str, str] | None = None) -> Response:
    """A sentence for people, and Retry-After if the status calls for it."""
    content = f"{sentence}\n".encode()
    return with_content(
        status, content, "text/plain; charset=utf-8", {**retry_after(status), **(fields or {})}
    )


def retry_after(status: int) -> dict[str, str]:
    """The field `Retry-After`, in seconds, if a response of this status has it."""
    return {"Retry-After": str(RETRY_AFTER_S)} if status in _RETRIED else {}


def with_content(
    status: HTTPStatus, content: bytes, kind: str, fields: Mapping[str, str] | None = None
) -> Response:
    """Content of any type."""
    head = {"Content-Type": kind, "Content-Length": str(len(content)), **(fields or {})}
    return Response(status, head, content)


def encode_head(status: int, fields: Iterable[tuple[str, str]], *, closes: bool) -> bytes:
    """The head of a response, with the fields that every response has.

    Args:
        fields: the others; with values in Latin-1, of one line each.
        closes: whether the server closes the connection after it.
    """
    lines = [f"{name}: {value}\r\n" for name, value in fields]
    head = _start_line(status) + "".join(lines).encode("latin-1") + _common_fields(int(time()))
    return head + (b"connection: close\r\n\r\n" if closes else b"\r\n")


def encode_refusal(refusal: Refusal) -> tuple[bytes, bytes]:
    """The head and the content of a refusal, the last response on its connection."""
    response = plain(*refusal)
    return encode_head(response.status, response.fields.items(), closes=True), response.content


@lru_cache(maxsize=64)
def _start_line(status: int) -> bytes:
    return f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\n".encode()


@lru_cache(maxsize=1)
def _common_fields(now_s: int) -> bytes:
    # nosniff: a browser must not take a value for a script or a page because it looks like one.
    date = formatdate(now_s, usegmt=True)
    return f"cache-control: no-store\r\ndate: {date}\r\nx-content-type-options: nosniff\r\n".encode()
