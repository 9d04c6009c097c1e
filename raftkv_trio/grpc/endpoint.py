"""One end of an HTTP/2 connection: frames in, frames out, no I/O (RFC 9113).

`Endpoint` has what both roles share: SETTINGS, PING, GOAWAY, and the bounds on what the other end may do. It
stands on the streams of `streams.py`. `server_end.py` and `client_end.py` add what a head means to them.

- `feed` takes bytes; what is to be sent stands in `output` after it, and after each call that sends.
- What breaks the protocol never raises here: it ends the stream with RST_STREAM, or the connection with
  GOAWAY, and then `fault` says why.
- The window of the connection is refilled at once, so that one stream that nobody reads holds up no other.
"""

from collections.abc import Callable

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode, FrameBuffer, StreamFault
from raftkv_trio.grpc.limits import Allowance, Limits
from raftkv_trio.grpc.streams import Streams, StreamT

_MAX_CONTINUATIONS = 16
#: Each of ours pays for so many PINGs of the other end: Go's clients and servers measure with them.
PINGS_A_HEAD = 2


class Endpoint(Streams[StreamT]):
    """State of one end.

    Args:
        limits: of this connection.
        now: a monotonic clock, in seconds.

    Attributes:
        fault: why the connection is over; None if it goes on.
        told_to_go: what GOAWAY of the other end said last: the last stream id, the code, and a text.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        super().__init__(limits)
        self.fault: ConnectionFault | None = None
        self.told_to_go: tuple[int, int, bytes] | None = None
        self.last_remote_id = 0  # the highest stream that the other end has opened
        self._now = now
        self._frames = FrameBuffer()
        self._has_settings = False
        self._waits_for_ack = 0
        self._head: tuple[int, int] | None = None  # flags and stream of a head whose blocks are arriving
        self._block = bytearray()
        self._continuations = 0
        self._used_bytes = 0  # of the connection's window, and not given back yet
        self._table_size_changed = False
        self._resets = self._allowance(limits.resets_per_s)
        self._pings = self._allowance(limits.pings_per_s)
        self._paying_frames = 0  # DATA frames of ours that have paid for PINGs
        self._settings = self._allowance(limits.settings_per_s)
        self._idle_frames = self._allowance(limits.idle_frames_per_s)
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_headers,
            frames.CONTINUATION: self._on_continuation,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_go_away,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.PRIORITY: self._on_priority,
        }

    def _allowance(self, rate: int) -> Allowance:
        return Allowance(rate, rate * self.limits.burst_s)

    # ------------------------------------------------------------ for who moves the bytes

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.fault is not None:
            return
        handlers = self._handlers
        try:
            for kind, flags, stream_id, payload in self._frames.split(data):
                if self._head is not None and kind != frames.CONTINUATION:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame inside a header block")
                if not self._has_settings:
                    self._begin(kind, flags)
                handler = handlers.get(kind)
                try:
                    if handler is None:
                        self._count_idle_frame()
                    else:
                        handler(flags, stream_id, payload)
                except StreamFault as fault:
                    self._fail_stream(fault)
        except ConnectionFault as fault:
            self.fail(fault)

    @property
    def is_inside_head(self) -> bool:
        """Whether the beginning of a frame, or of the head of a request, has arrived, and its end has not."""
        return self._frames.waiting_bytes > 0 or self._head is not None

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection; the other end is told why."""
        if self.fault is None:
            self.fault = fault
            self._send(frames.go_away(self.last_remote_id, fault.code, str(fault)))

    def unpaid_frames(self) -> float:
        """How many frames have come that do nothing, beyond their rates, and time has not made up for."""
        now = self._now()
        self._pay_pings()
        counted = (self._resets, self._pings, self._settings, self._idle_frames)
        return sum(allowance.unpaid(now) for allowance in counted)

    def _pay_pings(self) -> None:
        """Let the DATA frames that were sent since the last time pay for PINGs."""
        self._pings.give(PINGS_A_HEAD * (self.data_frames - self._paying_frames))
        self._paying_frames = self.data_frames

    # ------------------------------------------------------------ what the roles do

    def _on_head(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        """A header block has arrived. It must be decoded, whatever it is for: the table goes on with it."""
        raise NotImplementedError

    def _on_messages(self, stream: StreamT, data: bytes, *, ends: bool) -> None:
        """Content of an open stream has arrived, perhaps none, and perhaps the last of it."""
        raise NotImplementedError

    def _on_stream_reset(self, stream: StreamT, code: int) -> None:
        """The other end has reset a stream, or this end has; it is not in `streams` any more."""
        raise NotImplementedError

    def _on_told_to_go(self, last_stream_id: int) -> None:
        """The other end takes no new streams, and none above this one."""

    # ------------------------------------------------------------ the beginning

    def _introduce(self, values: dict[int, int]) -> None:
        """Send our settings, and widen the window of the connection."""
        if self.limits.stream_window_bytes != frames.DEFAULT_WINDOW:
            values[frames.INITIAL_WINDOW_SIZE] = self.limits.stream_window_bytes
        values[frames.MAX_HEADER_LIST_SIZE] = self.limits.max_head_bytes
        self._send(frames.settings(values))
        self._waits_for_ack += 1
        if (more := self.limits.connection_window_bytes - frames.DEFAULT_WINDOW) > 0:
            self._send(frames.window_update(0, more))

    def _begin(self, kind: int, flags: int) -> None:
        if kind != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS frame")
        self._has_settings = True

    # ------------------------------------------------------------ frames of the connection

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS acknowledgement with settings")
            if not self._waits_for_ack:
                self._count_idle_frame()
            else:
                self._waits_for_ack -= 1
            return
        if not self._settings.take(self._now()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many SETTINGS")
        # Of each name the last value counts. A look at all streams for each of thousands takes half a second.
        for name, value in dict(frames.read_settings(payload)).items():
            self._change_setting(name, value)
        self._send(frames.SETTINGS_ACK)

    def _change_setting(self, name: int, value: int) -> None:
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "an initial window of more than 2**31-1")
            self._change_initial_window(value)
        elif name == frames.MAX_FRAME_SIZE:
            # Ours stay at the size that all take: larger ones save nothing here.
            if not frames.MAX_FRAME_BYTES <= value < 2**24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame size that is not allowed")
        elif name == frames.ENABLE_PUSH:
            if value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        elif name == frames.HEADER_TABLE_SIZE:
            # The other end may insist to hear that its table has been made smaller (RFC 7541, section 4.2).
            self._table_size_changed = True
        elif name == frames.MAX_CONCURRENT_STREAMS:
            self._on_max_streams(value)

    def _on_max_streams(self, count: int) -> None:
        """So many streams of ours may be open at once."""

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING that has not 8 bytes")
        self._pay_pings()
        if not self._pings.take(self._now()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        if not flags & frames.ACK:
            self._send(frames.ping_answer(payload))

    def _on_go_away(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if self.told_to_go is not None:
            self._count_idle_frame()
        self.told_to_go = frames.read_go_away(payload)
        self._on_told_to_go(self.told_to_go[0])

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which is not enabled")

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        self._count_idle_frame()
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY that has not 5 bytes")

    def _count_idle_frame(self) -> None:
        if not self._idle_frames.take(self._now()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that do nothing")

    # ------------------------------------------------------------ heads

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS without a stream")
        if flags & frames.PADDED:
            payload = frames.without_padding(flags, payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS that end inside the priority")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_head(stream_id, payload, ends=bool(flags & frames.END_STREAM))
            return
        self._head = flags, stream_id
        self._block = bytearray(payload)
        self._continuations = 0

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._head is None or self._head[1] != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._continuations += 1
        self._block += payload
        if self._continuations > _MAX_CONTINUATIONS or len(self._block) > self.limits.max_head_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too large")
        if flags & frames.END_HEADERS:
            begun_with, self._head = self._head[0], None
            block, self._block = bytes(self._block), bytearray()
            self._on_head(stream_id, block, ends=bool(begun_with & frames.END_STREAM))

    # ------------------------------------------------------------ content that arrives

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        # The window of the connection is never used up: it is refilled when half of it is.
        self._used_bytes += size
        if self._used_bytes * 2 >= self.limits.connection_window_bytes:
            self._send(frames.window_update(0, self._used_bytes))
            self._used_bytes = 0
        ends = bool(flags & frames.END_STREAM)
        if not size and not ends:
            self._count_idle_frame()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_frame_without_stream(stream_id)
            return
        if not stream.is_remote_open:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more than the stream's window")
        if flags & frames.PADDED:
            payload = frames.without_padding(flags, payload)
            stream.used_bytes += size - len(payload)
        self._on_messages(stream, payload, ends=ends)

    def _on_frame_without_stream(self, stream_id: int) -> None:
        """A frame of a stream that has ended may have been on its way; one that never began is a fault."""
        if self._is_idle_id(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of a stream that was never opened")
        self._count_idle_frame()

    def _is_idle_id(self, stream_id: int) -> bool:
        """Whether no stream with this id was opened yet, by either end."""
        raise NotImplementedError

    # ------------------------------------------------------------ the ends of streams

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        code = frames.read_number(payload)
        if self._is_idle_id(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        if not self._resets.take(self._now()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many resets of streams")
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._drop(stream)
            self._on_stream_reset(stream, code)

    def _fail_stream(self, fault: StreamFault) -> None:
        # Each costs the other end as much as a reset of its own: it has made us send one.
        if not self._resets.take(self._now()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that break the protocol")
        stream = self.streams.get(fault.stream_id)
        self._send(frames.reset(fault.stream_id, fault.code))
        if stream is not None:
            self._drop(stream)
            self._on_stream_reset(stream, fault.code)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        more = frames.read_number(payload) & frames.MAX_WINDOW
        if not stream_id:
            if not more:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._widen(more)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_frame_without_stream(stream_id)
            return
        if not more:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._widen_stream(stream, more)
