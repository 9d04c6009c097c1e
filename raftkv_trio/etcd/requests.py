"""The requests of a method that receives a stream: JSON values in a row, the content of one HTTP request.

They are read while the handler asks for them, so that a client may send more as long as it likes.
"""

from collections.abc import Callable
from typing import Self

import trio
from google.protobuf.message import Message

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.etcd.json.splitter import Splitter
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.http import Request


class OneRequest:
    """The only request of a method that receives none after it."""

    def __init__(self, message: Message) -> None:
        self._message: Message | None = message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message, self._message = self._message, None
        if message is None:
            raise StopAsyncIteration
        return message


class Requests:
    """The messages of a stream. As in etcd it ends at the first that is malformed, without an error.

    Args:
        decode: makes a message of a value; raises MalformedRequest or TooLarge.
        max_bytes: the longest value.
    """

    def __init__(self, request: Request, decode: Callable[[bytes], Message], max_bytes: int) -> None:
        self._request = request
        self._decode = decode
        self._max_bytes = max_bytes
        self._splitter = Splitter()
        self._has_ended = False  # the content
        self._first: Message | None = None
        self._is_over = False
        self._over = trio.Event()

    async def receive_first(self) -> None:
        """Receive the first message, if there is any.

        Raises RpcError with the code UNKNOWN if it is malformed, as etcd answers then.
        """
        try:
            self._first = await self._receive()
        except MalformedRequest as error:
            raise RpcError(Code.UNKNOWN, str(error)) from error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message. Raises RpcError if the client is gone. Cancellation loses nothing."""
        message, self._first = self._first, None
        if message is None and not self._is_over:
            try:
                message = await self._receive()
            except MalformedRequest:
                self._is_over = True
        if message is None:
            self._over.set()
            raise StopAsyncIteration
        return message

    async def wait_gone(self) -> None:
        """Return when the client has closed its side, after the last message was taken."""
        await self._over.wait()
        await self._request.wait_gone()

    async def _receive(self) -> Message | None:
        while (value := self._splitter.next_value()) is None:
            if self._has_ended:
                return None
            if self._splitter.held_bytes > self._max_bytes:
                raise RpcError(
                    Code.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({self._max_bytes} bytes of JSON)",
                )
            await self._receive_part()
        return self._decode(value)

    async def _receive_part(self) -> None:
        try:
            part = await self._request.part()
        except MalformedRequest as error:
            raise RpcError(Code.CANCELLED, str(error)) from error
        if part is None:
            self._has_ended = True
            self._splitter.end()
        else:
            self._splitter.feed(part)
