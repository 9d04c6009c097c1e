"""HTTP/2 frames: bytes to frames, and frames to bytes (RFC 9113, sections 4 and 6).

Nothing here knows what a frame does to a connection; see `endpoint.py`. The size of a frame is checked as
soon as its head has arrived, so no memory is taken for one that is too large.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from raftkv_trio.errors import RaftKVError

#: How a client begins a connection.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
#: The size that every end must take, and the only one that ours announce.
MAX_FRAME_BYTES = 16 * 1024
MAX_WINDOW = MAX_STREAM_ID = 2**31 - 1
DEFAULT_WINDOW = 65535

# Types. Plain integers, since one is compared for each frame.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
# Flags.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20
# Names of settings.
HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

_HEAD = Struct(">HBBBI")
_SETTING = Struct(">HI")
_TWO = Struct(">II")
_ONE = Struct(">I")

#: Type, flags, id of the stream, payload.
Frame = tuple[int, int, int, bytes]


class ErrorCode(IntEnum):
    """Why a stream or a connection was ended (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def error_name(code: int) -> str:
    """The name of an error code, or its number if it has none."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)


class ConnectionFault(RaftKVError):
    """The other end breaks the protocol in a way that ends the connection.

    Attributes:
        code: what the other end is told.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(RaftKVError):
    """The other end breaks the protocol in a way that ends one stream.

    Attributes:
        stream_id: of the stream.
        code: what the other end is told.
    """

    def __init__(self, stream_id: int, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.stream_id = stream_id
        self.code = code


_IN_HTTP_1 = "it speaks HTTP/1; name a port of etcd's API (--etcd-port), not of the REST API (--port)"


class FrameBuffer:
    """Cuts what arrives into frames; keeps the beginning of a frame until its rest arrives.

    Attributes:
        waiting_bytes: of a frame that has begun to arrive.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = HEAD_BYTES

    @property
    def waiting_bytes(self) -> int:
        """How much has arrived of a frame that is not complete."""
        return len(self._rest)

    def split(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`.

        Raises ConnectionFault after the last good frame if a larger frame begins than is allowed. To be
        iterated to its end, unless the connection ends.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        start, end = 0, len(data)
        needed = HEAD_BYTES
        while end - start >= HEAD_BYTES:
            size, low, kind, flags, stream_id = _HEAD.unpack_from(data, start)
            size = size << 8 | low
            if size > MAX_FRAME_BYTES:
                if data.startswith(b"HTTP/", start):
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, _IN_HTTP_1)
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes; {MAX_FRAME_BYTES} are allowed"
                )
            stop = start + HEAD_BYTES + size
            if stop > end:
                needed = HEAD_BYTES + size
                break
            yield kind, flags, stream_id & MAX_STREAM_ID, data[start + HEAD_BYTES : stop]
            start = stop
        if start < end:
            self._rest = bytearray(data[start:])
        self._needed = needed


# ---------------------------------------------------------------- building


def head(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """The head of a frame with a payload of `size` bytes."""
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(kind, flags, stream_id, len(payload)) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def window_update(stream_id: int, more: int) -> bytes:
    """Lets the other end send so many more bytes; `stream_id` 0: on the connection."""
    return head(WINDOW_UPDATE, 0, stream_id, 4) + _ONE.pack(more)


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """Ends a stream."""
    return head(RST_STREAM, 0, stream_id, 4) + _ONE.pack(code)


def go_away(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Ends a connection; no stream above the last one was or will be served."""
    return frame(GOAWAY, 0, 0, _TWO.pack(last_stream_id, code) + text.encode()[:256])


def ping(payload: bytes) -> bytes:
    """Asks the other end for an answer with the same 8 bytes."""
    return head(PING, 0, 0, len(payload)) + payload


def ping_answer(payload: bytes) -> bytes:
    """The answer to a PING."""
    return head(PING, ACK, 0, len(payload)) + payload


def head_frames(flags: int, stream_id: int, block: bytes) -> bytes:
    """HEADERS, and CONTINUATION frames if the block is large."""
    if len(block) <= MAX_FRAME_BYTES:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    pieces = [block[at : at + MAX_FRAME_BYTES] for at in range(0, len(block), MAX_FRAME_BYTES)]
    frames = [frame(HEADERS, flags, stream_id, pieces[0])]
    frames += [frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    return b"".join(frames)


# ---------------------------------------------------------------- reading payloads


def read_number(payload: bytes) -> int:
    """The only number of RST_STREAM or WINDOW_UPDATE, whose payload must have 4 bytes."""
    if len(payload) != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame of another size than its type has")
    number: int = _ONE.unpack(payload)[0]
    return number


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Names and values of a SETTINGS frame, in their order."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a size that no settings have")
    return list(_SETTING.iter_unpack(payload))


def read_go_away(payload: bytes) -> tuple[int, int, bytes]:
    """The last stream id, the code, and what else is said."""
    if len(payload) < 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes")
    last, code = _TWO.unpack_from(payload)
    return last & MAX_STREAM_ID, code, payload[8:]


def without_padding(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
