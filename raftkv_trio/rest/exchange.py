"""A request on a key and its answer, straight on ASGI: keys need nothing of what Quart makes for a request.

A value is sent in slices, so that a client that reads slowly holds one of them and not a copy of the whole.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import NamedTuple

import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
)

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import MalformedRequest, Overloaded, SlowRequest, TooLarge
from raftkv_trio.rest.status_codes import retry_after

SLICE_BYTES = 64 * 1024


class KeyRequest:
    """One request, its `method` as it was sent; `key` is None where the target is no key."""

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
        """What the client says; 0 where it does not: there is no content, or it comes in chunks."""
        lines = self.lines("Content-Length")
        return int(lines[0]) if lines else 0

    @property
    def has_content(self) -> bool:
        return bool(self.content_length or self.lines("Transfer-Encoding"))

    async def part(self) -> bytes | None:
        """The next bytes of the content, None once all have come; raises MalformedRequest at an early end."""
        if self._is_complete:
            return None
        event = await self._receive()
        if event["type"] != "http.request":
            raise MalformedRequest("The content ended early")
        self._is_complete = not event["more_body"]
        return event["body"]


class Contents:
    """Receives the contents of requests, bounded in each one, in all that are held at once, and in time."""

    def __init__(self, config: RestConfig) -> None:
        self._config = config
        self._held_bytes = 0

    @asynccontextmanager
    async def receive(self, request: KeyRequest) -> AsyncIterator[bytes]:
        """The whole content, held until the end of the context.

        Raises TooLarge, Overloaded and SlowRequest, the first two before anything is read where the client
        says how much comes.
        """
        self._check(request.content_length, request.content_length)
        content = bytearray()
        held = 0
        try:
            with self._deadline():
                while (part := await request.part()) is not None:
                    self._check(held + len(part), len(part))
                    content += part
                    held += len(part)
                    self._held_bytes += len(part)
            value = bytes(content)
            content.clear()
            yield value
        finally:
            self._held_bytes -= held

    async def skip(self, request: KeyRequest) -> None:
        """Read content that means nothing, so that the connection can go on. Raises as `receive` does."""
        if not request.has_content:
            return
        skipped = 0
        with self._deadline():
            while (part := await request.part()) is not None:
                skipped += len(part)
                self._check(skipped, 0)

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        with trio.move_on_after(self._config.body_timeout_s) as deadline:
            yield
        if deadline.cancelled_caught:
            raise SlowRequest(f"The content did not arrive within {self._config.body_timeout_s:g} s")

    def _check(self, length: int, more: int) -> None:
        if length > self._config.max_value_bytes:
            raise TooLarge(f"A value has at most {self._config.max_value_bytes} bytes")
        if self._held_bytes + more > self._config.max_receiving_bytes:
            raise Overloaded("Too many values are being received already; try again later")


class KeyResponse(NamedTuple):
    """A response: its fields beyond those that every response has, and its content."""

    status: HTTPStatus
    fields: Mapping[str, str]
    content: bytes = b""

    async def send(self, send: ASGISendCallable) -> None:
        """Send it; returns when the client has read all but what the buffers hold."""
        fields = [(name.encode(), value.encode("latin-1")) for name, value in self.fields.items()]
        await send(_start(self.status, fields))
        last = max(len(self.content) - 1, 0) // SLICE_BYTES * SLICE_BYTES
        for start in range(0, last + 1, SLICE_BYTES):
            await send(_body(self.content[start : start + SLICE_BYTES], more=start < last))


def empty(status: HTTPStatus, fields: Mapping[str, str]) -> KeyResponse:
    """No content, and so no Content-Length, which a 204 must not and a 304 need not have."""
    return KeyResponse(status, fields)


def octets(content: bytes, fields: Mapping[str, str]) -> KeyResponse:
    """A 200 with bytes of whatever kind."""
    return _with_content(HTTPStatus.OK, content, "application/octet-stream", fields)


def plain(status: HTTPStatus, sentence: str, fields: Mapping[str, str] | None = None) -> KeyResponse:
    """A sentence for people."""
    content = f"{sentence}\n".encode()
    return _with_content(
        status, content, "text/plain; charset=utf-8", {**retry_after(status), **(fields or {})}
    )


def _with_content(status: HTTPStatus, content: bytes, kind: str, fields: Mapping[str, str]) -> KeyResponse:
    return KeyResponse(status, {"Content-Type": kind, "Content-Length": str(len(content)), **fields}, content)


def _start(status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}


def _body(content: bytes, *, more: bool) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": content, "more_body": more}


METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
