"""Receives the content of requests under three bounds: each one's size, the sum of all, and time."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import Overloaded, SlowRequest, TooLarge
from raftkv_trio.http.messages import Request


class ContentReceiver:
    """Receives the content of all requests of one app, so that it can bound what they hold together.

    Args:
        max_bytes: the largest content; None: the largest value of a key.
        too_large: what TooLarge says; None: a sentence about values.
    """

    def __init__(
        self, config: RestConfig, max_bytes: int | None = None, too_large: str | None = None
    ) -> None:
        self._config = config
        self._max_bytes = config.max_value_bytes if max_bytes is None else max_bytes
        self._too_large = too_large or f"A value has at most {self._max_bytes} bytes (--max-value-size)"
        self._held_bytes = 0  # of contents that are not whole yet

    async def receive(self, request: Request) -> bytes:
        """Receive the whole content.

        Raises TooLarge, Overloaded, SlowRequest and MalformedRequest; the first two before anything is read
        if the client announces the size. Cancellation releases what was received.
        """
        self._check(request.content_length, request.content_length)
        if request.is_complete:  # a small one has come with its head
            whole = await request.part() or b""
            self._check(len(whole), len(whole))
            return whole
        content = bytearray()
        held = 0
        try:
            with self._deadline():
                while (part := await request.part()) is not None:
                    self._check(held + len(part), len(part))
                    content += part
                    held += len(part)
                    self._held_bytes += len(part)
            return bytes(content)
        finally:
            self._held_bytes -= held

    async def skip(self, request: Request) -> None:
        """Read content that has no meaning, so that the connection can go on. Raises as `receive` does."""
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
            limit_s = self._config.body_timeout_s
            raise SlowRequest(f"The content did not arrive within {limit_s:g} s (--body-timeout)")

    def _check(self, length: int, more: int) -> None:
        if length > self._max_bytes:
            raise TooLarge(self._too_large)
        if self._held_bytes + more > self._config.max_receiving_bytes:
            raise Overloaded("Too many values are being received at once; try again later")
