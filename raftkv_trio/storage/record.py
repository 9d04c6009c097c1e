"""One record of the write-ahead log: an aligned header with a CRC of its own, and a payload.

    magic u32 | type u8 | 000 | length u32 | batch u64 | payload CRC u32 | 0000 | header CRC u32 | payload

big endian, padded with zeros to 8 bytes. The payload's CRC is seeded by segment and offset, so that a record
of another place or of an older life of the file does not verify; the header has its own, so that the length
can be trusted without the payload, and what lies behind damage can still be found.

A payload is CBOR, `[hard state, entries, snapshot, identity]`:

    SEGMENT   begins every segment: hard state, the snapshot that the log continues, whose directory it is
    BATCH     a hard state and entries, which replace what there was from their first index on
    SNAPSHOT  the log continues this snapshot of the node's own from here on: entries up to it do not count
    INSTALL   a leader's snapshot replaces the whole log; its entries follow that snapshot
    CLOSE     a clean stop
    CUT       ends a segment: the log goes on in the next one, whose beginning is durable

A CUT is written after the SEGMENT that it tells of, and numbered before it. So where the newest segment is
lost the CUT shows it, and where a CUT is lost the numbers do.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import cbor2

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload import cbor as plain_cbor
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.snapshot_file import SnapshotId

MAGIC = 0x52_4B_56_31
ALIGNMENT = 8
SECTOR_BYTES = 512
_FIELDS = struct.Struct(">IB3xIQI4x")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size

SEGMENT, BATCH, CLOSE, SNAPSHOT, INSTALL, CUT = 1, 2, 3, 4, 5, 6
CUT_BYTES = 128  # at most, as for a CLOSE
_SCAN_BYTES = 1024 * 1024


class Header(NamedTuple):
    """A header that verified."""

    type: int
    length: int
    batch: int
    payload_crc: int

    @property
    def record_bytes(self) -> int:
        return aligned(HEADER_BYTES + self.length)


def aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _payload_crc(segment: int, offset: int, payload: bytes) -> int:
    return crc32(payload, crc32(struct.pack(">QQ", segment, offset)))


def encode_record(kind: int, batch: int, payload: bytes, *, segment: int, offset: int) -> bytes:
    """The bytes of a record that is to stand at `offset` of `segment`."""
    fields = _FIELDS.pack(MAGIC, kind, len(payload), batch, _payload_crc(segment, offset, payload))
    record = fields + _CRC.pack(crc32(fields)) + payload
    return record + bytes(aligned(len(record)) - len(record))


def decode_header(data: bytes, offset: int) -> Header | None:
    """The header at `offset` of `data`, or None where none verifies."""
    if offset + HEADER_BYTES > len(data):
        return None
    fields = data[offset : offset + _FIELDS.size]
    magic, kind, length, batch, payload_crc = _FIELDS.unpack(fields)
    (header_crc,) = _CRC.unpack_from(data, offset + _FIELDS.size)
    # Packing again also checks the padding, which unpacking skips.
    if magic != MAGIC or _FIELDS.pack(magic, kind, length, batch, payload_crc) != fields:
        return None
    return Header(kind, length, batch, payload_crc) if crc32(fields) == header_crc else None


def decode_payload(data: bytes, offset: int, header: Header, segment: int) -> bytes | None:
    """The payload behind a header, or None where it does not verify."""
    start = offset + HEADER_BYTES
    payload = data[start : start + header.length]
    padding = data[start + header.length : offset + header.record_bytes]
    if len(payload) < header.length or any(padding):
        return None
    return payload if _payload_crc(segment, offset, payload) == header.payload_crc else None


class LogRecord(NamedTuple):
    """What a record's payload says; `identity` in SEGMENT only."""

    hard_state: HardState
    entries: Sequence[Entry]
    snapshot: SnapshotId
    identity: bytes | None = None

    def encode(self) -> bytes:
        return cbor2.dumps(
            [
                list(self.hard_state),
                plain_cbor.pack_entries(self.entries),
                [self.snapshot.term, self.snapshot.index],
                self.identity,
            ]
        )


def decode_record(kind: int, payload: bytes) -> LogRecord:
    """What `LogRecord.encode` made; raises PeerProtocolError."""
    if not SEGMENT <= kind <= CUT:
        raise PeerProtocolError(f"no record is of type {kind}")
    value = plain_cbor.decode_payload(payload)
    hard_state, entries, snapshot, identity = plain_cbor.items(value, 4)
    term, index = plain_cbor.items(snapshot, 2)
    return LogRecord(
        plain_cbor.unpack_hard_state(hard_state),
        plain_cbor.unpack_entries(entries),
        SnapshotId(plain_cbor.integer(term), plain_cbor.integer(index)),
        None if identity is None else plain_cbor.octets(identity),
    )


def end_of_data(data: bytes) -> int:
    """Where the zeros at the end of a segment begin."""
    end = len(data)
    zeros = bytes(_SCAN_BYTES)
    while end:
        begin = max(0, end - _SCAN_BYTES)
        chunk = data[begin:end]
        if chunk != zeros[: len(chunk)]:  # much faster than to strip each
            return begin + len(chunk.rstrip(b"\0"))
        end = begin
    return 0


def is_torn(data: bytes, offset: int, segment: int) -> bool:
    """Whether what does not verify at `offset` can be the last write, cut short by a crash.

    It can where a whole sector of it never reached the disk, or it runs past the end of the file, and no
    record that verifies lies behind it. A header that does not verify is torn itself: where it stands in
    sectors that have reached the disk it is damaged, whatever is behind it.
    """
    header = decode_header(data, offset)
    end = offset + (header.record_bytes if header else HEADER_BYTES)
    if has_record_behind(data, offset, segment):
        return False
    if end > len(data):
        return True
    position = offset
    while position < end:
        sector_end = min((position // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        if sector_end > position and not any(data[position:sector_end]):
            return True
        position = sector_end
    return False


def has_record_behind(data: bytes, offset: int, segment: int) -> bool:
    """Whether a record that verifies begins anywhere behind `offset`."""
    return next_record(data, offset, segment) is not None


def next_record(data: bytes, offset: int, segment: int) -> int | None:
    """Where the first record that verifies begins behind `offset`."""
    later = offset
    while (later := data.find(_CRC.pack(MAGIC), later + 1)) >= 0:
        header = decode_header(data, later) if later % ALIGNMENT == 0 else None
        if header and decode_payload(data, later, header, segment) is not None:
            return later
    return None
