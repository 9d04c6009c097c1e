"""One end of an HTTP/2 connection: frames in, frames out, no I/O (RFC 9113).

`Endpoint` has what both roles share: SETTINGS, PING, GOAWAY, flow control in both directions, and the bounds
on what the other end may do. `server_end.py` and `client_end.py` add what a head means to them.

- `feed` takes bytes; what is to be sent stands in `output` after it, and after each call that sends.
- What breaks the protocol never raises here: it ends the stream with RST_STREAM, or the connection with
  GOAWAY, and then `fault` says why.
- The window of the connection is refilled at once, so that one stream that nobody reads holds up no other;
  that of a stream as its bytes are used.
"""

from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import Generic, TypeVar

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode, FrameBuffer, StreamFault
from raftkv_trio.grpc.limits import Allowance, Limits
from raftkv_trio.grpc.messages import PREFIX_BYTES, MessageReader

_MAX_CONTINUATIONS = 16
#: Each of ours pays for so many PINGs of the other end: Go's clients and servers measure with them.
PINGS_A_HEAD = 2
#: About so much is taken at once for one send.
TAKEN_BYTES = 128 * 1024


class Stream:
    """One call's stream.

    Attributes:
        id: its number.
        send_window: what the other end lets us send.
        receive_window: what we let the other end send.
        used_bytes: received and used, and not given back to the other end's window yet.
        unsent: DATA payloads that wait for a window; of the first, `sent_of_first` bytes have left.
        unsent_bytes: of all of them.
        last: frames that follow `unsent`: trailers, or an empty DATA frame; None: the stream goes on.
        is_local_open: whether this end may still send.
        is_remote_open: whether the other end may still send.
        reader: finds the messages in what is received.
        messages: those that have arrived and were not taken.
        held_bytes: what was received and not taken, as messages or a part of one.
        returned_bytes: how much of that was given back to the other end's window already.
        on_room: called when less waits to be sent than before; None if nobody cares.
    """

    __slots__ = (
        "held_bytes",
        "id",
        "is_local_open",
        "is_remote_open",
        "last",
        "messages",
        "on_room",
        "reader",
        "receive_window",
        "returned_bytes",
        "send_window",
        "sent_of_first",
        "unsent",
        "unsent_bytes",
        "used_bytes",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int, reader: MessageReader) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.used_bytes = 0
        self.unsent: deque[bytes] | None = None
        self.unsent_bytes = 0
        self.sent_of_first = 0
        self.last: bytes | None = None
        self.is_local_open = True
        self.is_remote_open = True
        self.reader = reader
        self.messages: deque[bytes] = deque()
        self.held_bytes = 0
        self.returned_bytes = 0
        self.on_room: Callable[[], object] | None = None


StreamT = TypeVar("StreamT", bound=Stream)


class Endpoint(Generic[StreamT]):
    """State of one end.

    Args:
        limits: of this connection.
        now: a monotonic clock, in seconds.

    Attributes:
        streams: those that are open, by id.
        blocked: those that have something to send and no window for it; the longest waiting first.
        output: bytes to be sent, in their order; taken with `take_output`.
        output_bytes: of `output`, and of what was taken from it and not noted as sent.
        unsent_bytes: of what waits for windows, in all streams.
        taken_bytes: of all that was ever taken from `output`.
        sent_bytes: of all that was ever noted as sent.
        fault: why the connection is over; None if it goes on.
        told_to_go: what GOAWAY of the other end said last: the last stream id, the code, and a text.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self.limits = limits
        self.streams: dict[int, StreamT] = {}
        self.blocked: dict[int, StreamT] = {}
        self.output: list[bytes] = []
        self.output_bytes = 0
        self.unsent_bytes = 0
        self.taken_bytes = 0
        self.sent_bytes = 0
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
        self._send_window = frames.DEFAULT_WINDOW
        # Those of `blocked` that have a window of their own. A window of the connection that grows by a byte
        # must not cost a look at each stream.
        self._starved: dict[int, StreamT] = {}
        self._used_bytes = 0
        self._initial_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.MAX_FRAME_BYTES
        self._table_size_changed = False
        self._resets = self._allowance(limits.resets_per_s)
        self._pings = self._allowance(limits.pings_per_s)
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

    def take_output(self) -> bytes:
        """What is to be sent now, or the beginning of it; `note_sent` is to be told how much has left."""
        output = self.output
        if len(output) == 1:
            data = output.pop()
        elif self.output_bytes <= TAKEN_BYTES:
            data = b"".join(output)
            output.clear()
        else:
            sizes = accumulate(map(len, output))
            count = next((count for count, size in enumerate(sizes, 1) if size >= TAKEN_BYTES), len(output))
            data = b"".join(output[:count])
            del output[:count]
        self.taken_bytes += len(data)
        return data

    def note_sent(self, size: int, rest: bytes = b"") -> None:
        """So many bytes of what was taken have left, and these have not: they are to leave first."""
        self.output_bytes -= size
        self.sent_bytes += size
        if rest:
            self.output.insert(0, rest)
            self.taken_bytes -= len(rest)

    @property
    def queued_bytes(self) -> int:
        """All that waits to be read by the other end."""
        return self.output_bytes + self.unsent_bytes

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
        counted = (self._resets, self._pings, self._settings, self._idle_frames)
        return sum(allowance.unpaid(now) for allowance in counted)

    def _send(self, data: bytes) -> None:
        self.output.append(data)
        self.output_bytes += len(data)

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

    def _change_initial_window(self, value: int) -> None:
        more = value - self._initial_window
        self._initial_window = value
        for stream in list(self.streams.values()):
            stream.send_window += more
            if stream.send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window above 2**31-1")
        if more > 0:
            self._starved |= {stream.id: stream for stream in self.blocked.values() if stream.send_window > 0}
            self._send_starved()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING that has not 8 bytes")
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

    def use(self, stream: StreamT, size: int) -> None:
        """Give the other end back what a stream has used of its window, in pieces worth a frame."""
        stream.used_bytes += size
        if stream.used_bytes * 2 >= self.limits.stream_window_bytes and stream.is_remote_open:
            stream.receive_window += stream.used_bytes
            self._send(frames.window_update(stream.id, stream.used_bytes))
            stream.used_bytes = 0

    def take_message(self, stream: StreamT) -> bytes | None:
        """The next message of a stream; None if there is none now. It counts as used."""
        if not stream.messages:
            return None
        message = stream.messages.popleft()
        size = min(len(message) + PREFIX_BYTES, stream.held_bytes)
        stream.held_bytes -= size
        returned = min(stream.returned_bytes, size)
        stream.returned_bytes -= returned
        self.use(stream, size - returned)
        self._refill(stream)
        return message

    def _refill(self, stream: StreamT) -> None:
        """Let a message arrive that does not fit into the window, if no other one waits to be taken."""
        if not stream.messages and stream.reader.missing_bytes > stream.receive_window:
            size = stream.held_bytes - stream.returned_bytes
            stream.returned_bytes += size
            self.use(stream, size)

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

    def reset(self, stream: StreamT, code: ErrorCode) -> None:
        """End a stream at once, if it has not ended; what it had to send is dropped."""
        if self.streams.get(stream.id) is stream:
            self._send(frames.reset(stream.id, code))
            self._drop(stream)

    def _drop(self, stream: StreamT) -> None:
        """Forget a stream, which neither end may use any more."""
        del self.streams[stream.id]
        self.unsent_bytes -= stream.unsent_bytes
        stream.unsent_bytes = 0
        stream.unsent = stream.last = None
        self.blocked.pop(stream.id, None)
        self._starved.pop(stream.id, None)
        stream.is_local_open = stream.is_remote_open = False
        if stream.on_room is not None:
            stream.on_room()

    # ------------------------------------------------------------ content that leaves

    def _send_content(self, stream: StreamT, data: bytes) -> None:
        """Send DATA as far as the windows allow, the rest later."""
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append(data)
        stream.unsent_bytes += len(data)
        self.unsent_bytes += len(data)
        self._send_unsent(stream, len(data))

    def _send_last(self, stream: StreamT, last: bytes) -> None:
        """Send the frames that end the stream after all of its content."""
        stream.last = last
        if not stream.unsent:
            self._finish_sending(stream)

    def _finish_sending(self, stream: StreamT) -> None:
        assert stream.last is not None
        self._send(stream.last)
        stream.last = None
        stream.is_local_open = False
        self._on_local_end(stream)

    def _on_local_end(self, stream: StreamT) -> None:
        """All that this end had to send on a stream is in `output`."""
        raise NotImplementedError

    def _send_unsent(self, stream: StreamT, most: int) -> int:
        """Send what the windows allow of a stream, at most so many bytes; returns how many those were."""
        unsent, sent = stream.unsent, 0
        while unsent:
            first, at = unsent[0], stream.sent_of_first
            size = min(len(first) - at, self._max_frame, stream.send_window, self._send_window)
            if size <= 0 or sent >= most:
                self.blocked[stream.id] = stream
                if stream.send_window > 0:
                    self._starved[stream.id] = stream
                else:
                    self._starved.pop(stream.id, None)
                break
            piece = first[at : at + size]
            self.output += (frames.head(frames.DATA, 0, stream.id, size), piece)
            self.output_bytes += frames.HEAD_BYTES + size
            self._pings.give(PINGS_A_HEAD)
            sent += size
            self.unsent_bytes -= size
            stream.unsent_bytes -= size
            stream.send_window -= size
            self._send_window -= size
            stream.sent_of_first += size
            if stream.sent_of_first == len(first):
                unsent.popleft()
                stream.sent_of_first = 0
        if not unsent:
            self.blocked.pop(stream.id, None)
            self._starved.pop(stream.id, None)
            if stream.last is not None:
                self._finish_sending(stream)
        if sent and stream.on_room is not None:
            stream.on_room()
        return sent

    def _send_starved(self) -> None:
        """A window has grown: send a frame of each stream in turn until nothing more may leave."""
        while self._starved and self._send_window > 0:
            for stream in list(self._starved.values()):
                if self._send_window <= 0:
                    break
                if self._starved.get(stream.id) is stream:
                    self._send_unsent(stream, self._max_frame)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        more = frames.read_number(payload) & frames.MAX_WINDOW
        if not stream_id:
            if not more:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._send_window += more
            if self._send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a connection's window above 2**31-1")
            if self._starved:
                self._send_starved()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_frame_without_stream(stream_id)
            return
        if not more:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += more
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "a stream's window above 2**31-1")
        if stream.unsent:
            self._send_unsent(stream, frames.MAX_WINDOW)
