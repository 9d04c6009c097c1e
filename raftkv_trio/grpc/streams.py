"""The streams of one end of a connection: windows in both directions, and what waits for them; no I/O.

This is flow control (RFC 9113, section 5.2), the same for both roles. `endpoint.py` adds the frames.

- What this end sends is in `output`, or waits in its stream for a window. When a window grows, streams send a
  frame each in turn.
- The window of a stream is given back to the other end as its messages are taken, or if a message is larger.
"""

from collections import deque
from collections.abc import Callable
from itertools import accumulate
from struct import Struct
from typing import Generic, TypeVar

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode, StreamFault
from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.messages import IS_UNCOMPRESSED, PREFIX_BYTES, MessageReader, with_prefix

# The head of a DATA frame, and that of the message which is all that the frame has.
_BEGIN = Struct(">HBBBIBI")
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


class Streams(Generic[StreamT]):
    """State of the streams of one end, and its output.

    Args:
        limits: of this connection.

    Attributes:
        streams: those that are open, by id.
        blocked: those that have something to send and no window for it; the longest waiting first.
        output: bytes to be sent, in their order; taken with `take_output`.
        output_bytes: of `output`, and of what was taken from it and not noted as sent.
        unsent_bytes: of what waits for windows, in all streams.
        taken_bytes: of all that was ever taken from `output`.
        sent_bytes: of all that was ever noted as sent.
        data_frames: how many were ever put into `output`, but for those of responses that leave whole.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[int, StreamT] = {}
        self.blocked: dict[int, StreamT] = {}
        self.output: list[bytes] = []
        self.output_bytes = 0
        self.unsent_bytes = 0
        self.taken_bytes = 0
        self.sent_bytes = 0
        self.data_frames = 0
        self._send_window = frames.DEFAULT_WINDOW
        # Those of `blocked` that have a window of their own. A window of the connection that grows by a byte
        # must not cost a look at each stream.
        self._starved: dict[int, StreamT] = {}
        self._initial_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.MAX_FRAME_BYTES

    # ------------------------------------------------------------ output

    def _send(self, data: bytes) -> None:
        self.output.append(data)
        self.output_bytes += len(data)

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

    # ------------------------------------------------------------ content that arrives

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

    def _send_message(self, stream: StreamT, message: bytes) -> None:
        """Send a message as far as the windows allow, the rest later."""
        size = PREFIX_BYTES + len(message)
        if (
            not stream.unsent
            and size <= self._max_frame
            and size <= stream.send_window
            and size <= self._send_window
        ):
            # Nearly always nothing waits, and all of it fits.
            begin = _BEGIN.pack(
                size >> 8, size & 0xFF, frames.DATA, 0, stream.id, IS_UNCOMPRESSED, len(message)
            )
            self.output.append(begin + message)
            self.output_bytes += frames.HEAD_BYTES + size
            self.data_frames += 1
            stream.send_window -= size
            self._send_window -= size
            return
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append(with_prefix(message))
        stream.unsent_bytes += size
        self.unsent_bytes += size
        self._send_unsent(stream, size)

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
            self.data_frames += 1
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

    # ------------------------------------------------------------ windows for what leaves

    def _widen(self, more: int) -> None:
        """The other end takes so many more bytes on the connection."""
        self._send_window += more
        if self._send_window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a connection's window above 2**31-1")
        if self._starved:
            self._send_starved()

    def _widen_stream(self, stream: StreamT, more: int) -> None:
        """The other end takes so many more bytes on a stream."""
        stream.send_window += more
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "a stream's window above 2**31-1")
        if stream.unsent:
            self._send_unsent(stream, frames.MAX_WINDOW)

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
