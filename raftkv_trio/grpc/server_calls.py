"""The calls of one connection of a server: when they begin, and the tasks that serve them.

- A unary call is served by a task that waits for work since the one before, or by a new one; a streaming call
  has its own.
- A call's handler is cancelled when the client resets the call or goes away, or its deadline passes.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Self

import trio

from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc.room import SEND_AHEAD_BYTES, Room
from raftkv_trio.grpc.rpc import Code, Metadata, RpcError, with_peer
from raftkv_trio.grpc.server_end import Call, Load, ServerEnd
from raftkv_trio.sync import Wakeup
from raftkv_trio.tcp_stream import Peer

logger = logging.getLogger(__name__)

MAX_PARKED_TASKS = 512  # of all connections of a server
#: A send keeps the other tasks waiting as long as so many more bytes of a message would.
SEND_COSTS_BYTES = 1024
#: With these a client is told that it asks for what it cannot have, whatever is stored.
REFUSALS = frozenset((Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED))
#: What a client is told if the fault is ours.
BUG = "the call failed because of a bug in raftkv-trio; see the node's log"


class Calls:
    """The calls of one connection.

    Args:
        end: which they have arrived at.
        room: for what the client is to read.
        load: of all connections of the server.
        nursery: of the tasks, and of nothing that goes on without them.
        flush: has the output of the end sent.
        after_call: called when a call may have ended, and its response is in the output.
        peer: the client.

    Attributes:
        were_of_use: whether one has ended with something that is no refusal.
    """

    def __init__(
        self,
        end: ServerEnd,
        room: Room,
        load: Load,
        nursery: trio.Nursery,
        flush: Callable[[], None],
        after_call: Callable[[], None],
        peer: Peer,
    ) -> None:
        self._peer = peer
        self._end = end
        self._room = room
        self._load = load
        self._nursery = nursery
        self._flush = flush
        self._after_call = after_call
        self._parked: list[_Worker] = []
        self._waiting: deque[Call] = deque()  # that are not begun yet
        self.were_of_use = False

    def begin_ready(self) -> None:
        """Begin the calls that are ready, or queue them while too much waits for the client."""
        ready, self._end.ready = self._end.ready, []
        if self._waiting or not self._room.is_left:
            self._waiting.extend(ready)
            self._flush()
            return
        for call in ready:
            self._begin(call)

    def begin_waiting(self) -> None:
        """Begin those that had to wait, as far as there is room now."""
        while self._waiting and self._room.is_left:
            self._begin(self._waiting.popleft())

    def _begin(self, call: Call) -> None:
        if not call.is_local_open:
            return  # it was reset meanwhile
        if not call.is_unary:
            self._nursery.start_soon(self._serve_streaming, call)
        elif self._parked:
            self._load.parked_tasks -= 1
            worker = self._parked.pop()
            worker.call = call
            worker.wakeup.set()
        else:
            self._nursery.start_soon(self._work, _Worker(call))

    async def _work(self, worker: "_Worker") -> None:
        """Serve unary calls one after the other; they share a cancel scope until it has been cancelled."""
        while True:
            with trio.CancelScope() as scope:
                while worker.call is not None:
                    call = worker.call
                    await self._serve_unary(call, scope)
                    if scope.cancel_called:  # too early, or too late, to be noticed by the handler
                        break
                    worker.call = None
                    self._after_call()
                    if not await self._next_call(worker):
                        return
            if worker.call is not None:
                call, worker.call = worker.call, None
                call.cancel = None
                self.end(call, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
                self._after_call()
            if not await self._next_call(worker):
                return

    async def _next_call(self, worker: "_Worker") -> bool:
        """Wait for the next call; False if enough other tasks do."""
        if self._load.parked_tasks >= MAX_PARKED_TASKS:
            return False
        self._load.parked_tasks += 1
        self._parked.append(worker)
        try:
            await worker.wakeup.wait()
        except trio.Cancelled:  # the connection is over, and nobody has taken it off the list
            self._load.parked_tasks -= 1
            raise
        return True

    async def _serve_unary(self, call: Call, scope: trio.CancelScope) -> None:
        end, method = self._end, call.method
        if not call.is_local_open:
            return  # it was reset meanwhile
        call.cancel = scope.cancel
        if call.deadline != inf:
            scope.deadline = call.deadline
            if scope.cancel_called:  # it has passed already: nothing is begun, and the scope is used up
                return
        content_bytes = call.held_bytes
        try:
            try:
                request = method.request.FromString(call.messages.popleft())
            except Exception as error:
                end.count_refused(content_bytes)
                raise RpcError(Code.INTERNAL, f"grpc: error unmarshalling request: {error}") from error
            response = await method.handler(request, self._metadata_of(call))
            content = response if type(response) is bytes else response.SerializeToString()
            await self._room.for_response(len(content))
            end.respond(call, content)
            self.were_of_use = True
        except RpcError as error:
            end.finish(call, error.code, error.text)
            self._note_error(error.code, content_bytes)
        except Exception:
            self._note_bug(call)
        finally:
            call.cancel = None
        if call.deadline != inf:
            scope.deadline = inf

    def _metadata_of(self, call: Call) -> Metadata:
        return with_peer(call.metadata, *self._peer)

    def _note_error(self, code: Code, content_bytes: int = 0) -> None:
        if code in REFUSALS:
            self._end.count_refused(content_bytes)
        else:
            self.were_of_use = True

    async def _serve_streaming(self, call: Call) -> None:
        end, code, text = self._end, Code.OK, ""
        if not call.is_local_open:
            return  # it was reset meanwhile
        requests, room = _Requests(call, end, self._flush), trio.lowlevel.ParkingLot()
        call.on_room = room.unpark_all
        with trio.CancelScope(deadline=call.deadline) as scope:
            call.cancel = scope.cancel
            try:
                send = partial(self._send_message, call, room)
                await call.method.handler(requests, self._metadata_of(call), send)
                self.were_of_use = True
            except RpcError as error:
                code, text = error.code, error.text
                self._note_error(code)
            except Exception:
                self._note_bug(call)
        call.cancel = call.on_message = call.on_room = None
        if scope.cancelled_caught:
            code, text = Code.DEADLINE_EXCEEDED, "context deadline exceeded"
        if code == Code.OK:
            end.send_head(call)
        end.finish(call, code, text)
        self._after_call()

    async def _send_message(
        self, call: Call, room: trio.lowlevel.ParkingLot, message: Any, *, more: bool = False
    ) -> None:
        """Send one message of a streaming call, once the client has read enough of those before.

        Args:
            room: unparked when less of the call waits.
            more: another message follows at once, with which this one may leave.

        Cancellation sends nothing.
        """
        content = message if type(message) is bytes else message.SerializeToString()
        call.unpaused_bytes += len(content) + (0 if more else SEND_COSTS_BYTES)
        if call.unpaused_bytes < SEND_AHEAD_BYTES:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            # While the client keeps up there is always room: the other tasks need their turns all the same.
            call.unpaused_bytes = 0
            await trio.lowlevel.checkpoint()
        if not self._room.is_left_for(call):
            self._after_call()  # for those that were sent with `more`
            await self._room.for_message(call, room, self._flush)
        self._end.send_message(call, content)
        if not more or call.unsent_bytes:
            self._after_call()

    def end(self, call: Call, code: Code, text: str) -> None:
        """End a call from outside of its handler, which is cancelled."""
        self._end.finish(call, code, text)
        if call.cancel is not None:
            call.cancel()

    def _note_bug(self, call: Call) -> None:
        # Neither the other calls nor the node are to suffer from it.
        logger.exception("unexpected error in %s", printable(call.method.path))
        self._end.finish(call, Code.UNKNOWN, BUG)


class _Worker:
    """A task that serves unary calls.

    Attributes:
        call: the one that it serves, or is to serve next.
        wakeup: set when there is a next one.
    """

    __slots__ = ("call", "wakeup")

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call
        self.wakeup = Wakeup()


class _Requests:
    """The messages of the client of a streaming call, as they come."""

    def __init__(self, call: Call, end: ServerEnd, flush: Callable[[], None]) -> None:
        self._call = call
        self._end = end
        self._flush = flush
        self._arrived = Wakeup()
        call.on_message = self._arrived.set

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next message. Cancellation loses none."""
        call = self._call
        await trio.lowlevel.checkpoint_if_cancelled()
        while (data := self._end.take_message(call)) is None:
            if not call.is_remote_open:
                # The call may have been dropped after a message had woken this task: that is no good end.
                await trio.lowlevel.checkpoint_if_cancelled()
                raise StopAsyncIteration
            await self._arrived.wait()
        if self._end.output:  # more window for the client
            self._flush()
        try:
            return call.method.request.FromString(data)
        except Exception as error:
            text = f"grpc: failed to unmarshal the received message {error}"
            raise RpcError(Code.INTERNAL, text) from error
