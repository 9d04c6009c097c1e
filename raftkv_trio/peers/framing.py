"""Frames: how a stream of bytes between two members is cut into payloads.

Sans-IO: nothing here reads or writes. A frame is `length u32 | crc32 u32 | payload`, big endian. Length
and CRC are those of the payload, which is a CBOR list that begins with a `FrameKind`. The rules of this file:

- a length is checked before memory is taken for the frame, and a CRC before the payload is decoded;
- each payload is decoded on its own (`payload/cbor.py`), so that no frame refers to an earlier one.

A large frame travels in parts, each of which is a frame of kind PART. So a heartbeat can leave between two
parts of an append. `PartAssembler` joins them.
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import ParamSpec, TypeVar
from zlib import crc32

import cbor2

from raftkv_trio.errors import DecodeError, PeerProtocolError

MAX_FRAME_BYTES = 4 * 1024 * 1024
#: The most bytes of a payload in one part: 65 ms on a link of 8 Mbit/s, well within an election timeout.
PART_BYTES = 64 * 1024
_HEADER = struct.Struct(">II")
HEADER_BYTES = _HEADER.size
_HTTP = "an HTTP request came to the peer port; clients use the port of the REST API"
# How other protocols begin; as a length, each is far over any limit.
_FOREIGN = {
    **dict.fromkeys(
        (b"GET ", b"PUT ", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI "),
        _HTTP,
    ),
    b"\x16\x03": "a TLS handshake came to the peer port, and this node speaks to members without TLS",
}
Decoded = TypeVar("Decoded")
Arguments = ParamSpec("Arguments")


class FrameKind(IntEnum):
    """The first field of each payload. The numbers are part of the protocol: a number is never used again.

    `handshake_frames.py` has the forms of the frames of the handshake, `wire.py` all others. 10 was the query
    of a joiner up to version 2, and 15 to 18 told boot nonces in version 2.
    """

    HELLO = 1
    WELCOME = 2
    MESSAGES = 3
    FORWARD = 4
    REFUSED = 5
    SNAPSHOT_OFFER = 6
    SNAPSHOT_WANTED = 7
    SNAPSHOT_PIECE = 8
    SNAPSHOT_TAKEN = 9
    JOIN_QUERY = 10  # refused
    JOIN_ANSWER = 11
    FORWARD_CHANGE = 12
    PART = 13
    SNAPSHOT_REFUSED = 14
    PROOF = 19
    INTRODUCTION = 20
    ADMISSION = 21
    NOTICE = 22
    MEMBERS_QUERY = 23
    MEMBERS = 24


def of_a_peer(decode: Callable[Arguments, Decoded]) -> Callable[Arguments, Decoded]:
    """Make the decoder of a payload raise PeerProtocolError where it raises DecodeError."""

    @wraps(decode)
    def decode_or_end_connection(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Decoded:
        try:
            return decode(*args, **kwargs)
        except DecodeError as error:
            raise PeerProtocolError(str(error)) from error

    return decode_or_end_connection


def encode_frame(value: object) -> bytes:
    """One frame around the CBOR form of `value`. What `NodeConfig` allows fits into `MAX_FRAME_BYTES`."""
    payload = cbor2.dumps(value)
    return _HEADER.pack(len(payload), crc32(payload)) + payload


def cut_into_parts(frame: bytes) -> list[bytes]:
    """The parts of a frame, as frames, in the order in which they have to be sent; a small frame itself."""
    if len(frame) <= _HEADER.size + PART_BYTES:
        return [frame]
    payload = memoryview(frame)[_HEADER.size :]
    starts = range(0, len(payload), PART_BYTES)
    return [
        encode_frame([FrameKind.PART, [at == starts[-1], bytes(payload[at : at + PART_BYTES])]])
        for at in starts
    ]


class PartAssembler:
    """Joins the parts of one frame after the other; between them any other frame may come.

    Memory is bounded by one frame of `MAX_FRAME_BYTES`.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes, *, is_last: bool) -> bytes | None:
        """The payload that this part completes; None if more parts must come.

        Raises PeerProtocolError for an empty part, and if the whole is too long.
        """
        if not data or len(self._buffer) + len(data) > MAX_FRAME_BYTES:
            raise PeerProtocolError(f"an empty part, or parts of more than {MAX_FRAME_BYTES} bytes")
        self._buffer += data
        if not is_last:
            return None
        payload, self._buffer = bytes(self._buffer), bytearray()
        return payload


class FrameDecoder:
    """Cuts a byte stream into payloads: `feed` what arrived, then iterate over the complete payloads.

    Memory is bounded by one frame and the bytes that were fed last: a length over `max_frame_bytes` is
    refused as soon as the frame's header has arrived, before its payload.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes | bytearray) -> None:
        """Append bytes of the stream."""
        self._buffer += data

    def __iter__(self) -> "FrameDecoder":
        return self

    def __next__(self) -> bytes:
        """The next complete payload.

        Raises StopIteration until more bytes are fed, and PeerProtocolError for a frame that is too long or
        damaged; after that the rest of the stream cannot be read, since its frames' limits are unknown.
        """
        buffer = self._buffer
        if len(buffer) < _HEADER.size:
            raise StopIteration
        length, crc = _HEADER.unpack_from(buffer)
        if length > self._max_frame_bytes:
            foreign = next((what for begin, what in _FOREIGN.items() if buffer.startswith(begin)), None)
            raise PeerProtocolError(
                foreign or f"a frame of {length} bytes is over the limit of {self._max_frame_bytes}"
            )
        end = _HEADER.size + length
        if len(buffer) < end:
            raise StopIteration
        payload = bytes(memoryview(buffer)[_HEADER.size : end])
        del buffer[:end]
        if crc32(payload) != crc:
            raise PeerProtocolError("the CRC of a frame does not match its payload")
        return payload
