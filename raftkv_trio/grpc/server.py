"""A client's connection to a gRPC server, on Trio: the frames of `server_end.py` over a stream.

- One task reads, and never waits for a call. One task writes, all that waits in one send. A unary call is
  served by a task that waits for work since the one before, or by a new one; a streaming call has its own.
- A call's handler is cancelled when the client resets the call or goes away, or its deadline passes.
- What waits for the client to read is bounded: calls are not begun while too much of it waits, streaming
  handlers wait, and beyond `max_queue_bytes` the connection ends. A single response so large is refused.
- A host is refused so many calls a second; then its connections are read more slowly. What a connection still
  owes when it ends, for refused calls and for frames that do nothing, its host pays with the next one.
- Every wait for the client has a deadline: for the rest of a frame, of a request, and for a client that does
  not read. For the next request see `idle_for_long`.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, NoReturn, Self

import trio

from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.rpc import Code, Method, RpcError, too_large_to_send
from raftkv_trio.grpc.server_end import Call, Load, ServerEnd
from raftkv_trio.lingering import linger
from raftkv_trio.pace import Pace
from raftkv_trio.sync import Wakeup
from raftkv_trio.tcp_stream import GONE, TcpStream

logger = logging.getLogger(__name__)

READ_BYTES = 32 * 1024
SEND_CHUNK_BYTES = 64 * 1024  # the most that is sent under one deadline
#: How much of a streaming call may wait for the client before its handler waits too.
SEND_AHEAD_BYTES = 64 * 1024
#: So often in `send_timeout_s` it is looked for responses that do not go on.
SWEEPS = 4
#: About so many frames that do nothing cost as much as a refused call.
FRAMES_A_TURN = 16
MAX_PARKED_TASKS = 512  # of all connections of a server
#: With these a client is told that it asks for what it cannot have, whatever is stored.
REFUSALS = frozenset((Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED))
#: What a client is told if the fault is ours.
BUG = "the call failed because of a bug in raftkv-trio; see the node's log"
STOPPED = "the server is stopping"


class GrpcConnection:
    """A client's connection; `run` serves it to its end.

    Args:
        stream: which is closed at the end. With TLS, its handshake may have been made.
        first_bytes: what was received from it already.
        methods: by path.
        limits: of this connection.
        is_idle_now: told, with the connection, each time that it becomes idle (True) or busy (False); it is
            idle from its beginning on.
        load: shared by all connections of a server.
        refusals: the pace at which the client's host is refused something; None: at any.
        stopped_text: what calls are told that a stop ends.

    Attributes:
        was_of_use: whether a call has ended on it with something that is no refusal.
    """

    def __init__(
        self,
        stream: TcpStream,
        first_bytes: bytes,
        methods: Mapping[str, Method],
        limits: Limits,
        is_idle_now: Callable[["GrpcConnection", bool], None] = lambda connection, is_idle: None,
        *,
        load: Load | None = None,
        refusals: Callable[[], Pace] | None = None,
        stopped_text: str = STOPPED,
    ) -> None:
        self._stream = stream
        self._first_bytes = first_bytes
        self._limits = limits
        self._is_idle_now = is_idle_now
        self._load = Load() if load is None else load
        self._refusals = refusals
        self._stopped_text = stopped_text
        self._end = ServerEnd(methods, limits, trio.current_time, self._load)
        self.was_of_use = False
        # Cancelled when no more is to be read. Its deadline is that of what the client is waited for.
        self._reading = trio.CancelScope()
        self._is_over = False
        self._is_gone = False
        self._is_idle = True
        self._is_writing = False
        self._inside_since: float | None = None  # the beginning of something has arrived, but not its end
        # Responses that wait for a window: since when, and how much was to be sent then.
        self._stalled: dict[Call, tuple[float, int]] = {}
        self._sweep_at: float | None = None  # when these are looked at again; None: none waits
        self._counted_bytes = 0  # of this connection, in the load's count of what is queued
        self._to_write = Wakeup()
        # Streaming handlers that wait until the socket has taken more. For its own window each waits alone:
        # one that grows by a byte must not cost a look at each stream.
        self._room = trio.lowlevel.ParkingLot()
        self._parked: list[_Worker] = []
        self._waiting: deque[Call] = deque()  # calls that are not begun yet
        self._nursery: trio.Nursery | None = None

    @property
    def socket(self) -> trio.socket.SocketType:
        """What it stands on, to be asked for addresses."""
        return self._stream.socket

    @property
    def tasks(self) -> int:
        """How many tasks it has: the two of its own, and those of calls, or that wait for one."""
        return 0 if self._nursery is None else len(self._nursery.child_tasks) + 1

    async def run(self) -> None:
        """Serve calls until the client or the server closes, or a deadline passes.

        Raises, in a group, only what neither a client nor the network can cause. Cancellation ends the calls
        in progress with UNAVAILABLE, as far as that can be sent at once, and closes the connection.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
            self._end.drop_all()
            if not self._is_gone:
                await self._say_last()
        finally:
            self._cut_off()
            self._end.drop_all()
            self._count_queue(0)
            self._stream.close()
            if self._refusals is not None:
                self._refusals().charge(self._end.refused + self._end.unpaid_frames() / FRAMES_A_TURN)

    def stop(self) -> None:
        """Take no more calls; streaming ones end at once, and the connection with the last one.

        A call that comes at this moment is never begun, and the client knows it (GOAWAY).
        """
        end = self._end
        end.stop()
        for call in list(end.streams.values()):
            if not (call.method.is_unary and call.has_begun):
                self._end_call(call, Code.UNAVAILABLE, self._stopped_text)
        if end.streams or self._is_writing:
            self._to_write.set()
        else:
            self._finish()

    def idle_for_long(self) -> None:
        """End the connection, which has been idle for too long, unless something is arriving."""
        if not self._end.is_inside_head:
            self.stop()

    # ------------------------------------------------------------ reading

    def _finish(self) -> None:
        self._is_over = True
        self._reading.cancel()

    async def _read(self) -> None:
        """Take what arrives until nothing more will, or the connection is to end."""
        data = self._first_bytes
        self._first_bytes = b""
        self._take(data)
        while not self._is_over:
            with self._reading:
                await self._read_on()
                return
            if not self._is_over:  # a deadline has passed
                self._reading = trio.CancelScope()
                self._end_slow()
                self._set_deadline()

    async def _read_on(self) -> None:
        while self._end.fault is None:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except GONE:
                data = b""
            if not data:
                self._is_gone = True
                return
            self._take(data)
            if self._end.refused:
                await self._wait_turn()

    async def _wait_turn(self) -> None:
        """Read on when the client's host may be refused something again."""
        end = self._end
        while end.refused > 0:
            if self._refusals is not None and not self._refusals().take_turn():
                await self._refusals().wait_turn()
            end.refused -= 1

    def _take(self, data: bytes) -> None:
        end = self._end
        end.feed(data)
        if end.ready:
            self._begin_calls()
        if end.output:
            self._flush()
        if self._is_idle is bool(end.streams):
            self._note_idle()
        if (
            end.is_inside_head
            or self._inside_since is not None
            or end.arriving
            or end.blocked
            or self._sweep_at is not None
        ):
            self._set_deadline()

    def _note_idle(self) -> None:
        self._is_idle = not self._end.streams
        self._is_idle_now(self, self._is_idle)

    def _set_deadline(self) -> None:
        """Set the deadline of the reader to the first of those that the client has."""
        end, limits, now, deadline = self._end, self._limits, trio.current_time(), inf
        if not end.is_inside_head:
            self._inside_since = None
        else:
            if self._inside_since is None:
                self._inside_since = now
            deadline = self._inside_since + limits.header_timeout_s
        if end.arriving:
            for call in reversed(end.arriving.values()):
                if call.since:
                    break
                call.since = now
            deadline = min(deadline, next(iter(end.arriving.values())).since + limits.body_timeout_s)
        if end.blocked:
            if self._sweep_at is None:
                self._sweep_at = now + limits.send_timeout_s / SWEEPS
            deadline = min(deadline, self._sweep_at)
        else:
            self._sweep_at = None
            self._stalled.clear()
        self._reading.deadline = deadline

    def _end_slow(self) -> None:
        """A deadline has passed: end what the client has not done in time."""
        end, limits, now = self._end, self._limits, trio.current_time()
        if self._inside_since is not None and now >= self._inside_since + limits.header_timeout_s:
            end.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame did not arrive in time"))
        for call in list(end.arriving.values()):
            if now < call.since + limits.body_timeout_s:
                break
            end.finish(call, Code.CANCELLED, "the request did not arrive in time")
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep_at = None
            self._sweep(now)
        self._after_call()

    def _sweep(self, now: float) -> None:
        """Look at the responses that wait for a window; reset those that have not gone on for too long."""
        end, noted, self._stalled = self._end, self._stalled, {}
        for call in list(end.blocked.values()):
            if not call.method.is_unary:
                continue  # a stream waits until the client reads, for as long as the client likes
            since, unsent = noted.get(call, (now, call.unsent_bytes))
            if now >= since + self._limits.send_timeout_s:
                if unsent - call.unsent_bytes < SEND_CHUNK_BYTES:
                    end.reset(call, ErrorCode.CANCEL)
                    continue
                since, unsent = now, call.unsent_bytes
            self._stalled[call] = since, unsent

    # ------------------------------------------------------------ writing

    def _flush(self) -> None:
        """Have the output sent: at once if nothing else is under way, else with what comes meanwhile."""
        end = self._end
        if self._is_writing or end.streams:
            self._to_write.set()
            return
        data = end.take_output()
        try:
            sent = self._stream.send_now(data) if len(data) <= SEND_CHUNK_BYTES else 0
        except GONE:
            self._is_gone = True
            self._finish()
            return
        if sent == len(data):
            end.note_sent(sent)
        else:
            end.note_sent(sent, data[sent:])
            self._to_write.set()

    async def _write(self) -> NoReturn:
        end = self._end
        while True:
            await self._to_write.wait()
            self._is_writing = True
            try:
                while end.output:
                    await self._send(end.take_output())
            except GONE:
                self._is_gone = True
                self._finish()
            finally:
                self._is_writing = False
            if self._counted_bytes:
                self._count_queue(end.output_bytes + end.unsent_bytes)
            if end.output_bytes <= self._limits.soft_queue_bytes:
                self._room.unpark_all()
            if self._waiting:
                self._begin_waiting()
            if end.is_stopping and not end.streams:
                self._finish()

    async def _send(self, data: bytes) -> None:
        """Send it all, each 64 KiB under a deadline.

        Raises BrokenResourceError if the client does not read. Cancellation puts back what has not left.
        """
        end = self._end
        sent = self._stream.send_now(data) if len(data) <= SEND_CHUNK_BYTES else 0
        if sent == len(data):
            end.note_sent(sent)
            return
        view = memoryview(data)
        try:
            while sent < len(data):
                goal = min(sent + SEND_CHUNK_BYTES, len(data))
                with trio.move_on_after(self._limits.send_timeout_s) as scope:
                    await trio.lowlevel.checkpoint()
                    while (sent := sent + self._stream.send_now(view[sent:goal])) < goal:
                        await self._stream.wait_send_all_might_not_block()
                if scope.cancelled_caught:
                    raise trio.BrokenResourceError("the client does not read")
        finally:
            end.note_sent(sent, data[sent:])

    async def _say_last(self) -> None:
        """Send what is left, and let the client read it before the connection is reset."""
        end = self._end
        try:
            with trio.move_on_after(self._limits.send_timeout_s) as scope:
                while end.output:
                    await self._stream.send_all(end.take_output())
            if scope.cancelled_caught:
                return
        except GONE:
            return  # whom there is nothing more to tell
        await linger(self._stream, self._refusals)

    def _cut_off(self) -> None:
        """Tell the calls that are still in progress that the server stops; wait for nothing."""
        end = self._end
        if not end.streams or self._is_gone:
            return
        end.stop()
        for call in list(end.streams.values()):
            end.finish(call, Code.UNAVAILABLE, self._stopped_text)
        try:
            self._stream.send_now(end.take_output())
        except GONE:
            pass

    # ------------------------------------------------------------ calls

    def _begin_calls(self) -> None:
        """Begin the calls that are ready, or queue them while too much waits for the client."""
        ready, self._end.ready = self._end.ready, []
        if self._waiting or self._end.output_bytes > self._limits.soft_queue_bytes:
            self._waiting.extend(ready)
            self._to_write.set()
            return
        for call in ready:
            self._begin(call)

    def _begin_waiting(self) -> None:
        while self._waiting and self._end.output_bytes <= self._limits.soft_queue_bytes:
            self._begin(self._waiting.popleft())

    def _begin(self, call: Call) -> None:
        assert self._nursery is not None
        if not call.is_local_open:
            return  # it was reset meanwhile
        if not call.method.is_unary:
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
                self._end_call(call, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
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
            response = await method.handler(request, call.metadata)
            content = response if type(response) is bytes else response.SerializeToString()
            self._check_response(len(content))
            end.respond(call, content)
            self.was_of_use = True
        except RpcError as error:
            end.finish(call, error.code, error.text)
            self._note_error(error.code, content_bytes)
        except Exception:
            self._note_bug(call)
        finally:
            call.cancel = None
        if call.deadline != inf:
            scope.deadline = inf

    def _note_error(self, code: Code, content_bytes: int = 0) -> None:
        if code in REFUSALS:
            self._end.count_refused(content_bytes)
        else:
            self.was_of_use = True

    def _check_response(self, size: int) -> None:
        """Raise RpcError for a response that is too large to be queued, as grpc-go does.

        It would end the connection, and with it all other calls, each time that the client asks again.
        """
        if size > self._limits.max_response_bytes:
            raise too_large_to_send(size, self._limits.max_response_bytes)

    async def _serve_streaming(self, call: Call) -> None:
        end, code, text = self._end, Code.OK, ""
        if not call.is_local_open:
            return  # it was reset meanwhile
        requests, room = _Requests(call, end, self._flush), trio.lowlevel.ParkingLot()
        call.on_room = room.unpark_all
        with trio.CancelScope(deadline=call.deadline) as scope:
            call.cancel = scope.cancel
            try:
                await call.method.handler(requests, call.metadata, partial(self._send_message, call, room))
                self.was_of_use = True
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

    async def _send_message(self, call: Call, room: trio.lowlevel.ParkingLot, message: Any) -> None:
        """Send one message of a streaming call, once the client has read enough of those before.

        Cancellation sends nothing.
        """
        end = self._end
        await trio.lowlevel.checkpoint_if_cancelled()
        while call.unsent_bytes >= SEND_AHEAD_BYTES or end.output_bytes > self._limits.soft_queue_bytes:
            if end.output:
                self._flush()
            if call.unsent_bytes >= SEND_AHEAD_BYTES:
                await room.park()
            else:
                await self._room.park()
        end.send_message(call, message if type(message) is bytes else message.SerializeToString())
        self._check_queue()
        self._flush()

    def _end_call(self, call: Call, code: Code, text: str) -> None:
        """End a call from outside of its handler, which is cancelled."""
        self._end.finish(call, code, text)
        if call.cancel is not None:
            call.cancel()

    def _note_bug(self, call: Call) -> None:
        # Neither the other calls nor the node are to suffer from it.
        logger.exception("unexpected error in %s", printable(call.method.path))
        self._end.finish(call, Code.UNKNOWN, BUG)

    def _after_call(self) -> None:
        """What has to follow when a call may have ended."""
        end = self._end
        self._check_queue()
        if end.output:
            self._flush()
        if not end.streams and not self._is_idle:
            self._note_idle()
            if end.is_stopping:
                self._to_write.set()
        if end.blocked and self._sweep_at is None:
            self._set_deadline()

    def _check_queue(self) -> None:
        """End the connection if too much waits to be read."""
        end, load, limits = self._end, self._load, self._limits
        queued = end.output_bytes + end.unsent_bytes
        if queued <= SEND_CHUNK_BYTES and not self._counted_bytes:
            return
        self._count_queue(queued)
        if queued > limits.max_queue_bytes or (
            queued > limits.soft_queue_bytes and load.queued_bytes > limits.max_all_queue_bytes
        ):
            end.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much waits to be read"))
            end.drop_all()
            self._finish()

    def _count_queue(self, queued: int) -> None:
        self._load.queued_bytes += queued - self._counted_bytes
        self._counted_bytes = queued


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
