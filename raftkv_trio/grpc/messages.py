"""gRPC's messages in the bytes of a stream: a flag, the size, the message.

Messages and DATA frames know nothing of each other: a message may come in many frames, and a frame may have
many messages. The size is checked as soon as it is known.
"""

from struct import Struct

from raftkv_trio.grpc.rpc import Code, RpcError

PREFIX = Struct(">BI")
PREFIX_BYTES = PREFIX.size
IS_UNCOMPRESSED = 0  # the flag in the prefix
IDENTITY = ("", "identity")


def with_prefix(message: bytes) -> bytes:
    """A message as it stands in a stream."""
    return PREFIX.pack(IS_UNCOMPRESSED, len(message)) + message


class MessageReader:
    """Finds the messages of one stream.

    Args:
        max_bytes: the largest message.
        encoding: what the other end has announced with `grpc-encoding`.

    Attributes:
        missing_bytes: at least so much must arrive before the next message is complete.
    """

    __slots__ = ("_encoding", "_max_bytes", "_rest", "missing_bytes")

    def __init__(self, max_bytes: int, encoding: str = "") -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._rest = bytearray()  # not a list of pieces: these may be of a byte each
        self.missing_bytes = PREFIX_BYTES

    @property
    def is_inside(self) -> bool:
        """Whether a part of a message has arrived."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises RpcError, with grpc-go's codes and texts, if a message is too large or compressed. Messages
        before it are lost then, as the call is.
        """
        if not self._rest and len(data) >= PREFIX_BYTES:
            if self._size_of(data, 0) + PREFIX_BYTES == len(data):  # nearly always
                return [data[PREFIX_BYTES:]]
        else:
            self._rest += data
            if len(data) < self.missing_bytes:
                self.missing_bytes -= len(data)
                return []
            data = bytes(self._rest)
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        messages, start, end = [], 0, len(data)
        self.missing_bytes = PREFIX_BYTES
        while end - start >= PREFIX_BYTES:
            stop = start + PREFIX_BYTES + self._size_of(data, start)
            if stop > end:
                self.missing_bytes = stop - end
                break
            messages.append(data[start + PREFIX_BYTES : stop])
            start = stop
        else:
            self.missing_bytes = PREFIX_BYTES - (end - start)
        self._rest = bytearray(data[start:])
        return messages

    def _size_of(self, data: bytes, start: int) -> int:
        flag, size = PREFIX.unpack_from(data, start)
        if flag:
            raise self._refusal(flag)
        if size > self._max_bytes:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"grpc: received message larger than max ({size} vs. {self._max_bytes})",
            )
        return int(size)

    def _refusal(self, flag: int) -> RpcError:
        if flag != 1:
            return RpcError(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")
        if self._encoding in IDENTITY:
            return RpcError(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        return no_decompressor(self._encoding)


def no_decompressor(encoding: str) -> RpcError:
    """What a call with compressed messages is refused with."""
    return RpcError(Code.UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"')
