"""A client's connection to a gRPC server, on Trio: the frames of `server_end.py` over a stream.

- One task reads, and never waits for a call. One task writes, all that waits in one send; but while at most
  one call is in progress, and that is a stream, whoever has something to send does it. The tasks of calls are
  those of `server_calls.py`.
- What waits for the client to read is bounded (`room.py`). While much of it waits, no more calls are begun.
- A host is refused so many calls a second; then its connections are read more slowly. What a connection still
  owes when it ends, for refused calls and for frames that do nothing, its host pays with the next one.
- Every wait for the client has a deadline (`patience.py`). For the next request see `idle_for_long`.
"""

from collections.abc import Callable, Mapping
from typing import NoReturn

import trio

from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.patience import Patience
from raftkv_trio.grpc.room import Room
from raftkv_trio.grpc.rpc import Code, Method
from raftkv_trio.grpc.server_calls import Calls
from raftkv_trio.grpc.server_end import Load, ServerEnd
from raftkv_trio.lingering import linger
from raftkv_trio.pace import Pace
from raftkv_trio.sync import Wakeup
from raftkv_trio.tcp_stream import GONE, TcpStream

READ_BYTES = 32 * 1024
SEND_CHUNK_BYTES = 64 * 1024  # the most that is sent under one deadline
#: About so many frames that do nothing cost as much as a refused call.
FRAMES_A_TURN = 16
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
        self._room = Room(self._end, limits, self._load)
        self._patience = Patience(self._end, limits, trio.current_time)
        self._calls: Calls | None = None  # since it runs
        # Cancelled when no more is to be read. Its deadline is that of what the client is waited for.
        self._reading = trio.CancelScope()
        self._is_over = False
        self._is_gone = False
        self._is_idle = True
        self._is_writing = False
        self._to_write = Wakeup()
        self._nursery: trio.Nursery | None = None

    @property
    def socket(self) -> trio.socket.SocketType:
        """What it stands on, to be asked for addresses."""
        return self._stream.socket

    @property
    def tasks(self) -> int:
        """How many tasks it has: the two of its own, and those of calls, or that wait for one."""
        return 0 if self._nursery is None else len(self._nursery.child_tasks) + 1

    @property
    def was_of_use(self) -> bool:
        """Whether a call has ended on it with something that is no refusal."""
        return self._calls is not None and self._calls.were_of_use

    async def run(self) -> None:
        """Serve calls until the client or the server closes, or a deadline passes.

        Raises, in a group, only what neither a client nor the network can cause. Cancellation ends the calls
        in progress with UNAVAILABLE, as far as that can be sent at once, and closes the connection.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._calls = Calls(
                    self._end,
                    self._room,
                    self._load,
                    nursery,
                    self._flush,
                    self._after_call,
                    self._stream.peer(),
                )
                nursery.start_soon(self._write, self._calls)
                await self._read(self._calls)
                nursery.cancel_scope.cancel()
            self._end.drop_all()
            if not self._is_gone:
                await self._say_last()
        finally:
            self._cut_off()
            self._end.drop_all()
            self._room.give_back()
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
            if self._calls is not None and not (call.is_unary and call.has_begun):
                self._calls.end(call, Code.UNAVAILABLE, self._stopped_text)
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

    async def _read(self, calls: Calls) -> None:
        """Take what arrives until nothing more will, or the connection is to end."""
        data = self._first_bytes
        self._first_bytes = b""
        self._take(data, calls)
        while not self._is_over:
            with self._reading:
                await self._read_on(calls)
                return
            if not self._is_over:  # a deadline has passed
                self._reading = trio.CancelScope()
                self._patience.end_slow()
                self._after_call()
                self._reading.deadline = self._patience.deadline()

    async def _read_on(self, calls: Calls) -> None:
        while self._end.fault is None:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except GONE:
                data = b""
            if not data:
                self._is_gone = True
                return
            self._take(data, calls)
            if self._end.refused:
                await self._wait_turn()

    async def _wait_turn(self) -> None:
        """Read on when the client's host may be refused something again."""
        end = self._end
        while end.refused > 0:
            if self._refusals is not None and not self._refusals().take_turn():
                await self._refusals().wait_turn()
            end.refused -= 1

    def _take(self, data: bytes, calls: Calls) -> None:
        end = self._end
        end.feed(data)
        if end.ready:
            calls.begin_ready()
        if end.output:
            self._flush()
        self._room.note_reset()
        if self._is_idle is bool(end.streams):
            self._note_idle()
        if self._patience.is_needed:
            self._reading.deadline = self._patience.deadline()

    def _note_idle(self) -> None:
        self._is_idle = not self._end.streams
        self._is_idle_now(self, self._is_idle)

    # ------------------------------------------------------------ writing

    def _flush(self) -> None:
        """Have the output sent: at once if nothing else is under way, else with what comes meanwhile."""
        end = self._end
        if self._is_writing or self._to_write.is_set or not end.is_quiet:
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
            self._room.note_sent_at_once()
        else:
            end.note_sent(sent, data[sent:])
            self._to_write.set()

    async def _write(self, calls: Calls) -> NoReturn:
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
            self._room.note_sent()
            calls.begin_waiting()
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

    # ------------------------------------------------------------ when a call has said something

    def _after_call(self) -> None:
        """What has to follow when a call may have been answered, or may have ended."""
        end = self._end
        if not self._room.count():
            end.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much waits to be read"))
            end.drop_all()
            self._finish()
        if end.output:
            self._flush()
        if not end.streams and not self._is_idle:
            self._note_idle()
            if end.is_stopping:
                self._to_write.set()
        if end.blocked and not self._patience.sweeps:
            self._reading.deadline = self._patience.deadline()
