"""The server's end of a connection: requests of gRPC out of frames, responses into frames; no I/O.

- A call is in `ready` as soon as its handler can begin: a unary one when its message is complete, any other
  one when its head is.
- A call that fails before any message is answered with one HEADERS frame (Trailers-Only).
- A stream that ends before the client's part has arrived is reset with NO_ERROR; what still comes for it is
  dropped.
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from struct import Struct

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.endpoint import PINGS_A_HEAD, Endpoint
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode, StreamFault
from raftkv_trio.grpc.header_table import TABLE_OF_NONE, HeadDecoder
from raftkv_trio.grpc.heads import (
    RESPONSE_HEAD,
    TRAILERS_OK,
    HeadRefusal,
    RequestHead,
    read_request_head,
    trailers,
    trailers_only,
)
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.messages import IDENTITY, PREFIX_BYTES, MessageReader, no_decompressor
from raftkv_trio.grpc.rpc import Code, Metadata, Method, RpcError
from raftkv_trio.grpc.streams import Stream

#: A refused call costs a turn, and another one for each 4 KiB of its message, up to 16 KiB.
PRICED_BYTES, PRICED_PIECE_BYTES = 16 * 1024, 4 * 1024
_START = frames.head(frames.HEADERS, frames.END_HEADERS, 0, len(RESPONSE_HEAD))[:5]
_END = frames.head(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, len(TRAILERS_OK))[:5]
# A whole response but for its message: a head, the head of a DATA frame, and that of the message.
_RESPONSE = Struct(f">5sI{len(RESPONSE_HEAD)}sHBBBIBI")
_TRAILERS = Struct(f">5sI{len(TRAILERS_OK)}s")


class Load:
    """What all connections of a server hold.

    Attributes:
        request_bytes: of requests that are not answered yet.
        queued_bytes: of what waits to be read by clients that have much to read.
        parked_tasks: those that have served a call and wait for the next one.
    """

    __slots__ = ("parked_tasks", "queued_bytes", "request_bytes")

    def __init__(self) -> None:
        self.request_bytes = 0
        self.queued_bytes = 0
        self.parked_tasks = 0


class Call(Stream):
    """A call that a client has made.

    Attributes:
        method: which one.
        is_unary: the method's, which is looked at several times a call.
        metadata: of the request.
        deadline: when the client gives it up, by the connection's clock; inf: never.
        has_begun: whether it was in `ready`.
        has_head: whether the head of its response has been sent.
        cancel: called when the call has ended and its handler does not know it; None if nobody cares.
        on_message: called when a message, or their end, has arrived.
        unpaused_bytes: what its handler has sent since it let other tasks run for the last time.
        since: when the call was first seen to wait for the rest of its request; 0: it was not.
    """

    __slots__ = (
        "cancel",
        "deadline",
        "has_begun",
        "has_head",
        "is_unary",
        "metadata",
        "method",
        "on_message",
        "since",
        "unpaused_bytes",
    )

    def __init__(
        self, stream_id: int, send_window: int, limits: Limits, method: Method, head: RequestHead
    ) -> None:
        reader = MessageReader(limits.max_message_bytes, head.encoding)
        super().__init__(stream_id, send_window, limits.stream_window_bytes, reader)
        self.method = method
        self.is_unary = method.is_unary
        self.metadata: Metadata = head.metadata
        self.deadline = inf
        self.has_begun = False
        self.has_head = False
        self.cancel: Callable[[], object] | None = None
        self.on_message: Callable[[], object] | None = None
        self.since = 0.0
        self.unpaused_bytes = 0


class ServerEnd(Endpoint[Call]):
    """The server's end.

    Args:
        methods: by path.
        limits: of this connection.
        now: a monotonic clock, in seconds.
        load: shared by the connections of one server.

    Attributes:
        ready: calls whose handlers can begin; who takes them empties it.
        arriving: unary calls whose requests have not arrived wholly; the oldest first.
        is_stopping: whether the client was told to make no more calls here.
        refused: how many turns are to be taken for calls that were refused, or broke a rule; who takes a turn
            counts it down.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        limits: Limits,
        now: Callable[[], float],
        load: Load | None = None,
    ) -> None:
        super().__init__(limits, now)
        self.ready: list[Call] = []
        self.arriving: dict[int, Call] = {}
        self.is_stopping = False
        self.refused = 0
        self._methods = methods
        self._load = Load() if load is None else load
        self._preface = bytearray()
        self._has_preface = False
        self._abandoned = 0
        self._last_seen_id = 0  # also of streams that GOAWAY has excluded
        self._heads = HeadDecoder(limits.max_head_bytes, read_request_head)
        self._introduce({frames.MAX_CONCURRENT_STREAMS: limits.max_streams})

    def count_refused(self, content_bytes: int = 0) -> None:
        """Note that a call was refused, after so many bytes of its content were received."""
        self.refused += 1 + min(content_bytes, PRICED_BYTES) // PRICED_PIECE_BYTES

    def unpaid_frames(self) -> float:
        """The same with the heads of calls whose requests had not arrived when the connection was over."""
        return super().unpaid_frames() + self._abandoned

    # ------------------------------------------------------------ what arrives

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if not self._has_preface:
            self._preface += data
            begun = bytes(self._preface[: len(frames.PREFACE)])
            if not frames.PREFACE.startswith(begun):
                self.fail(
                    ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin as HTTP/2")
                )
            if len(begun) < len(frames.PREFACE):
                return
            self._has_preface = True
            data = bytes(self._preface[len(frames.PREFACE) :])
            self._preface.clear()
        super().feed(data)

    @property
    def is_quiet(self) -> bool:
        """Whether no call is in progress but one that streams: nothing else is about to be said."""
        streams = self.streams
        if len(streams) == 1:
            (call,) = streams.values()
            return not call.is_unary
        return not streams

    @property
    def is_inside_head(self) -> bool:
        """Whether the beginning of something has arrived, and its end has not."""
        return not self._has_settings or super().is_inside_head

    def _is_idle_id(self, stream_id: int) -> bool:
        return stream_id > self._last_seen_id or not stream_id % 2

    def _on_head(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        head = self._heads.decode(block)
        if not stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a request on a stream with an even number")
        if stream_id <= self._last_seen_id:
            self._on_late_head(stream_id, head, ends=ends)
            return
        self._last_seen_id = stream_id
        if self.is_stopping:
            # Above the last stream that GOAWAY has named: the client knows that it was not served.
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "the server is stopping")
        self.last_remote_id = stream_id
        self._pings.give(PINGS_A_HEAD)
        if head.is_malformed:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a malformed head")
        if not head.is_grpc:
            # Not 415, as gRPC would have it: this way curl and browsers send the request again by HTTP/1.1,
            # which the same port answers.
            raise StreamFault(stream_id, ErrorCode.HTTP_1_1_REQUIRED, "no call of gRPC")
        if len(self.streams) >= self.limits.max_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many calls at once")
        if head.refusal is not None:
            self._refuse(stream_id, head.refusal, ends=ends)
            return
        method = self._methods.get(head.path)
        if method is None:
            self._refuse(stream_id, _refusal_of(unknown_path(head.path, self._methods)), ends=ends)
            return
        if head.encoding not in IDENTITY:
            self._refuse(stream_id, _refusal_of(no_decompressor(head.encoding)), ends=ends)
            return
        call = Call(stream_id, self._initial_window, self.limits, method, head)
        if head.timeout_s != inf:
            call.deadline = self._now() + head.timeout_s
        self.streams[stream_id] = call
        if ends:
            self._on_messages(call, b"", ends=True)
        elif call.is_unary:
            self.arriving[stream_id] = call
        else:
            self._begin_call(call)

    def _on_late_head(self, stream_id: int, head: RequestHead, *, ends: bool) -> None:
        """Trailers of a request, which gRPC does not have, or a head of a stream that has ended."""
        call = self.streams.get(stream_id)
        if call is None:
            self._count_idle_frame()
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS of a stream that has ended")
        if not call.is_remote_open:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        if not ends:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a second head")
        self._on_messages(call, b"", ends=True)

    def _refuse(self, stream_id: int, refusal: HeadRefusal, *, ends: bool) -> None:
        """Answer a request that no method serves, and forget it."""
        self.count_refused()
        self._send(self._head_frame(frames.END_STREAM, stream_id, refusal.block))
        if not ends:
            self._send(frames.reset(stream_id, ErrorCode.NO_ERROR))

    def _begin_call(self, call: Call) -> None:
        call.has_begun = True
        self.arriving.pop(call.id, None)
        self.ready.append(call)

    def _on_messages(self, stream: Call, data: bytes, *, ends: bool) -> None:
        if data and not (stream.has_begun and stream.is_unary):
            try:
                self._take(stream, data)
            except RpcError as error:
                self._give_up(stream, error)
                return
        if ends:
            stream.is_remote_open = False
            if stream.reader.is_inside:
                self._give_up(stream, RpcError(Code.UNKNOWN, "unexpected EOF"))
            elif stream.has_begun:
                if stream.on_message is not None:
                    stream.on_message()
            elif stream.is_unary:
                self._give_up(stream, RpcError(Code.UNKNOWN, "EOF"))
            else:
                self._begin_call(stream)

    def _take(self, call: Call, data: bytes) -> None:
        messages = call.reader.feed(data)
        size = len(data)
        call.held_bytes += size
        self._load.request_bytes += size
        if self._load.request_bytes > self.limits.max_request_bytes:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                "too many bytes of requests are in progress on this server; retry later",
            )
        if call.is_unary:
            if messages:
                call.messages.append(messages[0])  # more than one is no request of this method
                self._begin_call(call)
            else:
                self.use(call, size)
            return
        if messages:
            call.messages.extend(messages)
            if call.on_message is not None:
                call.on_message()
        self._refill(call)

    def take_message(self, stream: Call) -> bytes | None:
        """The next message of a streaming call; None if there is none now. It counts as used."""
        held = stream.held_bytes
        message = super().take_message(stream)
        self._load.request_bytes -= held - stream.held_bytes
        return message

    def _give_up(self, call: Call, error: RpcError) -> None:
        """End a call, whose handler may have begun."""
        self.count_refused(call.held_bytes)
        self.finish(call, error.code, error.text)
        if call.cancel is not None:
            call.cancel()

    def _fail_stream(self, fault: StreamFault) -> None:
        self.count_refused()
        super()._fail_stream(fault)

    def _on_stream_reset(self, stream: Call, code: int) -> None:
        if stream.cancel is not None:
            stream.cancel()

    def _drop(self, stream: Call) -> None:
        super()._drop(stream)
        self.arriving.pop(stream.id, None)
        self._load.request_bytes -= stream.held_bytes
        stream.held_bytes = 0
        stream.messages.clear()

    def drop_all(self) -> None:
        """Forget all calls, and cancel their handlers: the connection is over."""
        self._abandoned += len(self.arriving)
        for call in list(self.streams.values()):
            self._drop(call)
            if call.cancel is not None:
                call.cancel()

    # ------------------------------------------------------------ what is sent

    def respond(self, call: Call, message: bytes) -> None:
        """Send the response of a unary call, which ends it. Does nothing if it has ended."""
        if not call.is_local_open or call.last is not None:
            return
        size = len(message) + PREFIX_BYTES
        if (
            size > self._max_frame
            or size > call.send_window
            or size > self._send_window
            or self._table_size_changed
        ):
            self.send_message(call, message)
            self._send_last(call, _TRAILERS.pack(_END, call.id, TRAILERS_OK))
            return
        self._send_window -= size
        stream_id = call.id
        start = _RESPONSE.pack(
            _START,
            stream_id,
            RESPONSE_HEAD,
            size >> 8,
            size & 0xFF,
            frames.DATA,
            0,
            stream_id,
            0,
            len(message),
        )
        self._send(b"%b%b%b" % (start, message, _TRAILERS.pack(_END, stream_id, TRAILERS_OK)))
        call.is_local_open = False
        self._on_local_end(call)

    def send_head(self, call: Call) -> None:
        """Send the head of a response, unless it was sent."""
        if not call.has_head and call.is_local_open:
            call.has_head = True
            self._send(self._head_frame(0, call.id, RESPONSE_HEAD))

    def send_message(self, call: Call, message: bytes) -> None:
        """Send one message of a response, which goes on. Does nothing if the call has ended."""
        if call.is_local_open and call.last is None:
            if not call.has_head:
                self.send_head(call)
            self._send_message(call, message)

    def finish(self, call: Call, code: Code, text: str = "") -> None:
        """End a call with a status, after what was sent of it. Does nothing if it has ended."""
        if not call.is_local_open or call.last is not None:
            return
        if call.has_head:
            block = TRAILERS_OK if code == Code.OK else trailers(code, text)
        else:
            block = trailers_only(code, text)
        self._send_last(call, self._head_frame(frames.END_STREAM, call.id, block))

    def _head_frame(self, flags: int, stream_id: int, block: bytes) -> bytes:
        if self._table_size_changed:
            self._table_size_changed = False
            block = TABLE_OF_NONE + block
        return frames.head_frames(flags, stream_id, block)

    def _on_local_end(self, stream: Call) -> None:
        if stream.is_remote_open:
            self._send(frames.reset(stream.id, ErrorCode.NO_ERROR))
        self._drop(stream)

    def stop(self) -> None:
        """Tell the client to make no more calls on this connection; those in progress go on."""
        if not self.is_stopping:
            self.is_stopping = True
            self._send(frames.go_away(self.last_remote_id, ErrorCode.NO_ERROR))


def _refusal_of(error: RpcError) -> HeadRefusal:
    return HeadRefusal(trailers_only(error.code, error.text))


def unknown_path(path: str, methods: Iterable[str]) -> RpcError:
    """What a call is refused with whose path is none of these, with the codes and words of etcd's grpc-go."""
    service, slash, method = path.removeprefix("/").rpartition("/")
    if not slash:
        return RpcError(Code.RESOURCE_EXHAUSTED, f'malformed method name: "{path}"')
    if any(known.startswith(f"/{service}/") for known in methods):
        return RpcError(Code.UNIMPLEMENTED, f"unknown method {method} for service {service}")
    return RpcError(Code.UNIMPLEMENTED, f"unknown service {service}")
