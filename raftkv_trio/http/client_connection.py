"""One client's connection: its bytes go through the HTTP protocol, and every wait has a deadline.

This replaces Hypercorn's `TCPServer`, which shields its sends, lets a client read as slowly as it likes, and
resets the connection if it answers before it has read the whole request. Here:
- a client has `idle_timeout_s` to begin a request, `header_timeout_s` for the head of a request, and
  `send_timeout_s` to take each 64 KiB of a response; how long content may take to arrive is the app's affair;
- a connection that is closed while the client sends is first closed in one direction and read from for a
  while, so that the last response arrives (RFC 9112, section 9.6).
"""

from collections.abc import Callable
from http import HTTPStatus
from math import inf

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper

from raftkv_trio.config import RestConfig
from raftkv_trio.http.protocol import SEND_CHUNK_BYTES, HttpProtocol

READ_BYTES = 16 * 1024  # a connection may hold this several times over
LINGER_S = 1.0
LINGER_BYTES = 4 * 1024 * 1024


class Connection:
    """A client's connection; `run` serves it to its end.

    Args:
        context: Hypercorn's; when it is terminated, the response in progress is the last one.
        count_refused: called with the status of each refusal that the app does not see.
        is_idle_now: told, with the connection, each time that it becomes idle (True) or busy (False).
    """

    def __init__(
        self,
        app: AppWrapper,
        config: RestConfig,
        hypercorn: Config,
        context: WorkerContext,
        count_refused: Callable[[HTTPStatus], None],
        is_idle_now: Callable[["Connection", bool], None],
        stream: trio.SocketStream,
    ) -> None:
        self._app = app
        self._config = config
        self._hypercorn = hypercorn
        self._context = context
        self._count_refused = count_refused
        self._is_idle_now = is_idle_now
        self._stream = stream
        self._lifetime = trio.CancelScope()  # cancelled to drop the connection; has the deadline of a send
        self._requests = trio.CancelScope()  # cancelled to take no more requests
        self._reading = trio.CancelScope(deadline=trio.current_time() + config.idle_timeout_s)
        self._sending = trio.Lock()
        self._is_idle = True  # no request is in progress
        self._head_has_begun = False

    async def run(self) -> None:
        """Serve requests until the client or the server closes, or a deadline passes.

        Raises, in a group, only what neither a client nor the network can cause. Cancellation closes the
        connection and cancels the request in progress.
        """
        try:
            with self._lifetime:
                with trio.CancelScope() as work:
                    async with TaskGroup() as tasks:
                        self._protocol = HttpProtocol(
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
                            # A client that has closed only its own direction still reads the response.
                            if self._protocol.owes_response:
                                await trio.sleep_forever()
                        work.cancel()  # nobody reads the response to what is still in progress
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Drop the connection if it is idle; if it is not, terminating Hypercorn's context ends it.

        A request that comes at this moment is never begun, so that a client that sees the connection end
        without an answer may send it again.
        """
        if self._is_idle:
            self._lifetime.cancel()

    async def _receive(self) -> None:
        """Feed the protocol until the client closes, or until a deadline of reading passes."""
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
        """Do what the protocol asks for."""
        match event:
            case RawData():
                await self._send(event.data)
            case Updated():
                if self._is_idle and not event.idle and self._lifetime.cancel_called:
                    # `stop` came when the task that reads had been woken already, by this request. A task of
                    # the app would still run up to its first wait, which may be behind a proposal.
                    await trio.lowlevel.checkpoint()
                self._is_idle = event.idle
                self._is_idle_now(self, event.idle)
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
            for start in range(0, len(data), SEND_CHUNK_BYTES):
                self._lifetime.deadline = trio.current_time() + self._config.send_timeout_s
                await self._stream.send_all(memoryview(data)[start : start + SEND_CHUNK_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lifetime.cancel()  # the client is gone
        finally:
            self._lifetime.deadline = inf
            self._sending.release()

    async def _linger(self) -> None:
        """Let a client that still sends read our last response before its connection is reset."""
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
