"""A request on a key and its response, on plain ASGI: keys need nothing of what Quart makes for a request.

A value is sent in slices: a client that reads slowly then holds one slice in memory, not a copy of the value.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
)

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.rest.status_codes import retry_after

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
ALLOW = {"Allow": ", ".join(METHODS)}
SLICE_BYTES = 64 * 1024


class KeyRequest:
    """One request.

    Attributes:
        method: as it was sent.
        key: the request target in origin form; None if the target is neither a path nor a URL.
    """

    __slots__ = ("_headers", "_is_complete", "_receive", "key", "method")

    def __init__(self, scope: HTTPScope, receive: ASGIReceiveCallable, key: bytes | None) -> None:
        self.method = scope["method"]
        self.key = key
        self._headers = scope["headers"]
        self._receive = receive
        self._is_complete = False

    def lines(self, name: str) -> list[str]:
        """All lines of a field."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for field, value in self._headers if field == wanted]

    @property
    def content_length(self) -> int:
        """The size that the client announces; 0 without content, and if the content comes in chunks."""
        lines = self.lines("Content-Length")
        return int(lines[0]) if lines else 0

    @property
    def has_content(self) -> bool:
        """Whether content of any size follows the head."""
        return bool(self.content_length or self.lines("Transfer-Encoding"))

    async def part(self) -> bytes | None:
        """The next bytes of the content; None after the last. Raises MalformedRequest if it ends early."""
        if self._is_complete:
            return None
        event = await self._receive()
        if event["type"] != "http.request":
            raise MalformedRequest("The content ended early")
        self._is_complete = not event["more_body"]
        return event["body"]


class KeyResponse(NamedTuple):
    """A response: its content, and its fields beyond those that the server adds to every response."""

    status: HTTPStatus
    fields: Mapping[str, str]
    content: bytes = b""

    async def send(self, send: ASGISendCallable) -> None:
        """Send the response; returns when the client has read all of it, except what buffers hold."""
        fields = [(name.encode(), value.encode("latin-1")) for name, value in self.fields.items()]
        await send(_start(self.status, fields))
        last = max(len(self.content) - 1, 0) // SLICE_BYTES * SLICE_BYTES
        for start in range(0, last + 1, SLICE_BYTES):
            await send(_body(self.content[start : start + SLICE_BYTES], more=start < last))


def empty(status: HTTPStatus, fields: Mapping[str, str]) -> KeyResponse:
    """No content and no Content-Length: a 204 must not have one, and a 304 need not."""
    return KeyResponse(status, fields)


def octets(content: bytes, fields: Mapping[str, str]) -> KeyResponse:
    """A 200 with bytes of any kind."""
    return with_content(HTTPStatus.OK, content, "application/octet-stream", fields)


def plain(status: HTTPStatus, sentence: str, fields: Mapping[str, str] | None = None) -> KeyResponse:
    """A sentence for people, and Retry-After if the status calls for it."""
    content = f"{sentence}\n".encode()
    return with_content(
        status, content, "text/plain; charset=utf-8", {**retry_after(status), **(fields or {})}
    )


def with_content(
    status: HTTPStatus, content: bytes, kind: str, fields: Mapping[str, str] | None = None
) -> KeyResponse:
    """Content of any type."""
    head = {"Content-Type": kind, "Content-Length": str(len(content)), **(fields or {})}
    return KeyResponse(status, head, content)


def _start(status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}


def _body(content: bytes, *, more: bool) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": content, "more_body": more}
