"""One record of the write-ahead log: an aligned header with a CRC of its own, and a payload.

    magic u32 | type u8 | 000 | length u32 | batch u64 | payload CRC u32 | 0000 | header CRC u32 | payload

Numbers are big endian; the record is padded with zeros to 8 bytes. The payload's CRC is seeded by segment and
offset, so that a record of another place, or of an older life of the file, does not verify. The header has a
CRC of its own, so that the length can be trusted without the payload, and records behind damage can be found.

A payload is CBOR, `[hard state, entries, snapshot, identity]`:

    SEGMENT   begins every segment: hard state, the snapshot that the log continues, whose directory it is
    BATCH     a hard state and entries, which replace the entries from their first index on
    SNAPSHOT  the log continues this snapshot of the node's own from here on: entries up to it do not count
    INSTALL   a leader's snapshot replaces the whole log; its entries follow that snapshot
    CLOSE     a clean stop
    CUT       ends a segment: the log goes on in the next one, whose first record is durable

A CUT is written after the SEGMENT that it leads to, and numbered before it. So if the newest segment is lost
the CUT shows it, and if a CUT is lost the numbers do.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import cbor2

from raftkv_trio.errors import DecodeError
from raftkv_trio.payload import cbor as plain_cbor
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.snapshot_file import SnapshotId

MAGIC = 0x52_4B_56_31  # "RKV1"
ALIGNMENT = 8
SECTOR_BYTES = 512
# A fixed layout and not CBOR, so that a header can be looked for, at each multiple of 8, behind damage.
_FIELDS = struct.Struct(">IB3xIQI4x")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size

SEGMENT, BATCH, CLOSE, SNAPSHOT, INSTALL, CUT = 1, 2, 3, 4, 5, 6
CUT_BYTES = 128  # the most that a CUT or a CLOSE can have, with all numbers at their largest
_SCAN_BYTES = 1024 * 1024


class Header(NamedTuple):
    """A header that verified."""

    type: int
    length: int
    batch: int
    payload_crc: int

    @property
    def record_bytes(self) -> int:
        """The length of the whole record: header, payload and padding."""
        return aligned(HEADER_BYTES + self.length)


def aligned(length: int) -> int:
    """The length with its padding."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def _payload_crc(segment: int, offset: int, payload: bytes) -> int:
    # The place is part of what is protected, though it is not written: a record that a disk, a copy or a
    # file system put in another place does not verify there.
    return crc32(payload, crc32(struct.pack(">QQ", segment, offset)))


def encode_record(kind: int, batch: int, payload: bytes, *, segment: int, offset: int) -> bytes:
    """The bytes of a record for `offset` of the segment with this number."""
    fields = _FIELDS.pack(MAGIC, kind, len(payload), batch, _payload_crc(segment, offset, payload))
    record = fields + _CRC.pack(crc32(fields)) + payload
    return record + bytes(aligned(len(record)) - len(record))


def decode_header(data: bytes, offset: int) -> Header | None:
    """The header at `offset` of `data`; None if no header verifies there."""
    if offset + HEADER_BYTES > len(data):
        return None
    fields = data[offset : offset + _FIELDS.size]
    # Unpacked before it is verified, since the CRC stands behind it; used only if both tests pass.
    magic, kind, length, batch, payload_crc = _FIELDS.unpack(fields)
    (header_crc,) = _CRC.unpack_from(data, offset + _FIELDS.size)
    # Zeros, as they stand behind the last record, have no magic number. The CRC is of the bytes as they are,
    # padding included, so every flipped bit of a header is found.
    if magic != MAGIC or crc32(fields) != header_crc:
        return None
    return Header(kind, length, batch, payload_crc)


def decode_payload(data: bytes, offset: int, header: Header, segment: int) -> bytes | None:
    """The payload behind a header that verified; None if the payload or its padding does not verify."""
    # The header verified, so the length is the one that was written.
    start = offset + HEADER_BYTES
    payload = data[start : start + header.length]
    padding = data[start + header.length : offset + header.record_bytes]
    # No CRC covers the padding. It is zeros, or something else was written there.
    if len(payload) < header.length or any(padding):
        return None
    return payload if _payload_crc(segment, offset, payload) == header.payload_crc else None


class LogRecord(NamedTuple):
    """What a record's payload says; `identity` is None except in a SEGMENT."""

    hard_state: HardState
    entries: Sequence[Entry]
    snapshot: SnapshotId
    identity: bytes | None = None

    def encode(self) -> bytes:
        """The payload."""
        # In every record, whatever its type: hard state and snapshot take few bytes, and each record that is
        # left of a damaged log tells them (`offline/salvage.py`).
        return cbor2.dumps(
            [
                list(self.hard_state),
                plain_cbor.pack_entries(self.entries),
                [self.snapshot.term, self.snapshot.index],
                self.identity,
            ]
        )


def decode_record(kind: int, payload: bytes) -> LogRecord:
    """What `LogRecord.encode` made; raises DecodeError if it is no such payload."""
    if not SEGMENT <= kind <= CUT:
        raise DecodeError(f"{kind} is no type of a record")
    # As strict as with a peer's message: a CRC says that the bytes are as they were written, and not that a
    # version of this program wrote them.
    # But a batch may have any number of entries.
    value = plain_cbor.decode_payload(payload, max_items=len(payload))
    hard_state, entries, snapshot, identity = plain_cbor.items(value, 4)
    term, index = plain_cbor.items(snapshot, 2)
    return LogRecord(
        plain_cbor.unpack_hard_state(hard_state),
        plain_cbor.unpack_entries(entries),
        SnapshotId(plain_cbor.integer(term), plain_cbor.integer(index)),
        None if identity is None else plain_cbor.octets(identity),
    )


def end_of_data(data: bytes) -> int:
    """Where the zeros at the end of a segment begin.

    A record can end with zeros of its own, so this can be inside the last record, but never before it.
    """
    end = len(data)
    zeros = bytes(_SCAN_BYTES)
    while end:
        begin = max(0, end - _SCAN_BYTES)
        chunk = data[begin:end]
        # Comparing whole chunks is much faster than stripping each; a segment is mostly zeros at first.
        if chunk != zeros[: len(chunk)]:
            return begin + len(chunk.rstrip(b"\0"))
        end = begin
    return 0


def is_torn(data: bytes, offset: int, segment: int) -> bool:
    """Whether the bytes at `offset`, which do not verify, can be the last write, cut short by a crash.

    Everything else is damage to a record that was once whole, and perhaps acknowledged. The two cannot always
    be told apart: damage to the very last record that leaves one of its sectors zero looks like a torn write.
    """
    header = decode_header(data, offset)
    # If the header does not verify its length is not known. Then the header itself must be torn: if it stands
    # in sectors that have reached the disk it is damaged, whatever is behind it.
    end = offset + (header.record_bytes if header else HEADER_BYTES)
    # Each record is durable before the next one is written: with one behind it, this one was whole.
    if has_record_behind(data, offset, segment):
        return False
    # The file is shorter than the write, as after a copy that was cut short.
    if end > len(data):
        return True
    # A disk writes sectors of 512 bytes whole or not at all, in any order, and a segment is full of zeros at
    # first. So of a write that was cut short at least one sector is still zero. A sector that is not zero and
    # wrong was written, and has changed since: damage.
    position = offset
    while position < end:
        # Of the first and the last sector only the bytes of this record count. The others in the first one
        # are of the record before, which was durable: if ours are zero, the sector was not written again.
        sector_end = min((position // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        if sector_end > position and not any(data[position:sector_end]):
            return True
        position = sector_end
    return False


def has_record_behind(data: bytes, offset: int, segment: int) -> bool:
    """Whether any record that verifies begins behind `offset`."""
    return next_record(data, offset, segment) is not None


def next_record(data: bytes, offset: int, segment: int) -> int | None:
    """Where the first record that verifies begins behind `offset`; None if there is none."""
    # The magic number alone proves nothing, since it can stand in a value. That header and payload both
    # verify at this very place by chance is as unlikely as two CRCs of 32 bits that fit.
    later = offset
    while (later := data.find(_CRC.pack(MAGIC), later + 1)) >= 0:
        header = decode_header(data, later) if later % ALIGNMENT == 0 else None
        if header and decode_payload(data, later, header, segment) is not None:
            return later
    return None
