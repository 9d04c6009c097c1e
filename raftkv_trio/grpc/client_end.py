"""The client's end of a connection: calls into frames, responses out of frames; no I/O.

What is known of a call that ends without a status of the server:
- `CallNotExecuted`: its request has not left wholly, or the server said that it has not looked at it (a
  stream above the last one of GOAWAY, REFUSED_STREAM).
- `CallLost`: anything else.
"""

from collections.abc import Callable

from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc import frames
from raftkv_trio.grpc.endpoint import PINGS_A_HEAD, Endpoint
from raftkv_trio.grpc.frames import ErrorCode, StreamFault
from raftkv_trio.grpc.header_table import TABLE_OF_NONE, HeadDecoder
from raftkv_trio.grpc.heads import ResponseHead, read_response_head
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.messages import PREFIX_BYTES, MessageReader, with_prefix
from raftkv_trio.grpc.rpc import CallLost, CallNotExecuted, Code, RpcError
from raftkv_trio.grpc.streams import Stream

#: So many calls at once are made before the server has said how many it takes.
FIRST_STREAMS = 100
#: What a response means that is not one of gRPC, by the status of HTTP.
_HTTP_CODES = {
    b"400": Code.INTERNAL,
    b"401": Code.UNAUTHENTICATED,
    b"403": Code.PERMISSION_DENIED,
    b"404": Code.UNIMPLEMENTED,
    b"429": Code.UNAVAILABLE,
    b"502": Code.UNAVAILABLE,
    b"503": Code.UNAVAILABLE,
    b"504": Code.UNAVAILABLE,
}


class ClientCall(Stream):
    """A call of ours.

    Attributes:
        is_unary: whether one message is expected, as the only one.
        has_head: whether the head of the response has arrived.
        has_ended: whether nothing more will come.
        error: with which it has ended; None: well, or not yet.
        on_change: called when a message of a stream, or the end of the call, has arrived.
        position: of its first byte in all that this end sends.
    """

    __slots__ = ("error", "has_ended", "has_head", "is_unary", "on_change", "position")

    def __init__(
        self,
        stream_id: int,
        send_window: int,
        limits: Limits,
        is_unary: bool,
        on_change: Callable[[], object],
    ) -> None:
        super().__init__(
            stream_id, send_window, limits.stream_window_bytes, MessageReader(limits.max_message_bytes)
        )
        self.is_unary = is_unary
        self.has_head = False
        self.has_ended = False
        self.error: RpcError | CallLost | CallNotExecuted | None = None
        self.on_change = on_change
        self.position = 0


class ClientEnd(Endpoint[ClientCall]):
    """The client's end.

    Args:
        limits: of this connection.
        now: a monotonic clock, in seconds.

    Attributes:
        max_open: how many calls may be open at once.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        super().__init__(limits, now)
        self.max_open = FIRST_STREAMS
        self._next_id = 1
        self._heads = HeadDecoder(limits.max_head_bytes, read_response_head)
        self._send(frames.PREFACE)
        self._introduce({frames.ENABLE_PUSH: 0})

    @property
    def takes_calls(self) -> bool:
        """Whether calls may be made on this connection now, or when others have ended."""
        return self.fault is None and self.told_to_go is None and self._next_id < frames.MAX_STREAM_ID

    # ------------------------------------------------------------ calls

    def open(self, block: bytes, *, is_unary: bool, on_change: Callable[[], object]) -> ClientCall:
        """Begin a call, for which there must be room.

        Args:
            block: its head, encoded.
            is_unary: whether the response is one message.
            on_change: see `ClientCall`.
        """
        call = self._new_call(is_unary, on_change)
        self._send(frames.head_frames(0, call.id, self._own(block)))
        return call

    def open_unary(self, block: bytes, message: bytes, on_change: Callable[[], object]) -> ClientCall:
        """Begin a call that has one message and expects one."""
        size = len(message) + PREFIX_BYTES
        if size > self._max_frame or size > self._send_window or size > self._initial_window:
            call = self.open(block, is_unary=True, on_change=on_change)
            self.send_message(call, message)
            self.end(call)
            return call
        call = self._new_call(True, on_change)
        self._send_window -= size
        self._send(
            b"%b%b%b"
            % (
                frames.head_frames(0, call.id, self._own(block)),
                frames.head(frames.DATA, frames.END_STREAM, call.id, size),
                with_prefix(message),
            )
        )
        call.is_local_open = False
        return call

    def _new_call(self, is_unary: bool, on_change: Callable[[], object]) -> ClientCall:
        call = ClientCall(self._next_id, self._initial_window, self.limits, is_unary, on_change)
        call.position = self.sent_bytes + self.output_bytes
        self._next_id += 2
        self._pings.give(PINGS_A_HEAD)
        self.streams[call.id] = call
        return call

    def _own(self, block: bytes) -> bytes:
        if self._table_size_changed:
            self._table_size_changed = False
            block = TABLE_OF_NONE + block
        return block

    def ping(self) -> None:
        """Have the server say something. The answer is not told: that anything arrives is what matters."""
        self._send(frames.ping(bytes(8)))

    def send_message(self, call: ClientCall, message: bytes) -> None:
        """Send one message of a request. Does nothing if the call has ended."""
        if call.is_local_open and call.last is None:
            self._send_message(call, message)

    def end(self, call: ClientCall) -> None:
        """Send no more messages. Does nothing if the call has ended."""
        if call.is_local_open and call.last is None:
            self._send_last(call, frames.frame(frames.DATA, frames.END_STREAM, call.id))

    # ------------------------------------------------------------ what arrives

    def _is_idle_id(self, stream_id: int) -> bool:
        return stream_id >= self._next_id or not stream_id % 2

    def _on_max_streams(self, count: int) -> None:
        self.max_open = count

    def _on_head(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        head = self._heads.decode(block)
        call = self.streams.get(stream_id)
        if call is None:
            self._on_frame_without_stream(stream_id)
            return
        if not call.is_remote_open:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        if head.is_malformed:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a malformed head")
        if not call.has_head:
            if head.status is None and head.error is None:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a head without a status")
            if head.status is not None and head.status.startswith(b"1") and not ends:
                return  # informational
            call.has_head = True
            if head.status != b"200" or not head.is_grpc:
                self._settle(call, head.error or _no_grpc(head))
                return
        elif not ends:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a head inside a response")
        if ends:
            self._on_end(call, head.error)

    def _on_end(self, call: ClientCall, error: RpcError | None) -> None:
        call.is_remote_open = False
        if error is None:
            error = RpcError(Code.INTERNAL, "the server ended the call without a status")
        if error.code != Code.OK:
            self._settle(call, error)
        elif call.reader.is_inside or (call.is_unary and len(call.messages) != 1):
            self._settle(call, RpcError(Code.INTERNAL, "the response is not as many messages as it must be"))
        else:
            self._settle(call, None)

    def _on_messages(self, stream: ClientCall, data: bytes, *, ends: bool) -> None:
        if data:
            if not stream.has_head:
                raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "DATA before the head of a response")
            try:
                messages = stream.reader.feed(data)
            except RpcError as error:
                self._settle(stream, error)
                return
            if messages:
                stream.messages.extend(messages)
                if not stream.is_unary:
                    stream.on_change()
            if stream.is_unary:
                if len(stream.messages) > 1:
                    self._settle(stream, RpcError(Code.INTERNAL, "the response has more than one message"))
                    return
                self.use(stream, len(data))
            else:
                stream.held_bytes += len(data)
                self._refill(stream)
        if ends:
            self._on_end(stream, None)

    def _settle(
        self, call: ClientCall, error: RpcError | CallLost | CallNotExecuted | None, *, drops: bool = True
    ) -> None:
        """A call has ended; the server is told if it does not know that yet."""
        if drops and self.streams.get(call.id) is call:
            if call.is_local_open or call.is_remote_open:
                self._send(frames.reset(call.id, ErrorCode.CANCEL))
            self._drop(call)
        call.error = error
        call.has_ended = True
        call.on_change()

    def cancel(self, call: ClientCall) -> None:
        """Give a call up, unless it has ended. Nothing more is heard of it."""
        self.reset(call, ErrorCode.CANCEL)

    def _on_local_end(self, stream: ClientCall) -> None:
        """The request has been sent; the response may still come."""

    def _on_stream_reset(self, stream: ClientCall, code: int) -> None:
        if code == ErrorCode.REFUSED_STREAM:
            error: CallLost | CallNotExecuted = CallNotExecuted("the server has refused the call; retry it")
        else:
            error = CallLost(f"the call was reset: {frames.error_name(code)}")
        self._settle(stream, error, drops=False)

    def _on_told_to_go(self, last_stream_id: int) -> None:
        for call in list(self.streams.values()):
            if call.id > last_stream_id:
                self._drop(call)
                error = CallNotExecuted("the server takes no more calls on this connection; make another one")
                self._settle(call, error, drops=False)

    def note_not_taken(self, size: int) -> None:
        """So many of the bytes that were taken last have not left: the connection is broken."""
        self.taken_bytes -= size

    def lose_all(self, reason: str) -> None:
        """The connection is over: end all calls."""
        for call in list(self.streams.values()):
            was_sent = call.position < self.taken_bytes and not (call.is_unary and call.is_local_open)
            self._drop(call)
            error: CallLost | CallNotExecuted
            if was_sent:
                error = CallLost(f"the connection ended before the call did: {reason}")
            else:
                error = CallNotExecuted(f"the connection ended before the call was sent: {reason}")
            self._settle(call, error, drops=False)


def _no_grpc(head: ResponseHead) -> RpcError:
    status = head.status or b""
    text = printable(status.decode("ascii", "backslashreplace"))
    return RpcError(
        _HTTP_CODES.get(status, Code.UNKNOWN), f"what answers is no server of gRPC: HTTP status {text}"
    )
