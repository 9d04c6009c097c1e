"""What stands in a segment's file, damage included: the records that verify, and the places that do not.

A start stops at the first damage (`storage/log_reader.py`). A check and a rebuild go on behind it: a record's
header has a CRC of its own, so the next record that verifies can be found.
"""

from collections.abc import Iterator
from typing import NamedTuple

from raftkv_trio.errors import DecodeError
from raftkv_trio.storage.record import (
    Header,
    decode_header,
    decode_payload,
    decode_record,
    end_of_data,
    is_torn,
    next_record,
)


class Verified(NamedTuple):
    """A record that verifies."""

    offset: int
    header: Header
    payload: bytes


class Damaged(NamedTuple):
    """Bytes that do not verify, up to the next record that does; None if there is none."""

    offset: int
    next_offset: int | None


class Torn(NamedTuple):
    """The last write to the log, cut short by a crash."""

    offset: int
    size_bytes: int


def scan_segment(data: bytes, segment: int, *, may_end: bool) -> Iterator[Verified | Damaged | Torn]:
    """What a segment's file holds, in order.

    Args:
        segment: its number.
        may_end: whether the log may end in this segment, so that its last record may be torn.
    """
    end, offset = end_of_data(data), 0
    while offset < end:
        header = decode_header(data, offset)
        payload = decode_payload(data, offset, header, segment) if header else None
        if header is not None and payload is not None:
            yield Verified(offset, header, payload)
            offset += header.record_bytes
        # The same judgement as at a start: otherwise a check could call sound what a start refuses. Nothing
        # verifies behind a torn record, so the segment ends here.
        elif may_end and is_torn(data, offset, segment):
            yield Torn(offset, end - offset)
            return
        else:
            # The record's own length is not to be trusted: its header may be what is damaged, and a header
            # that verifies may be followed by bytes that were written over by something else.
            behind = next_record(data, offset, segment)
            yield Damaged(offset, behind)
            offset = end if behind is None else behind


def identity_in(data: bytes, segment: int) -> bytes | None:
    """The identity of the data directory that a segment's first record names; None if it does not verify."""
    # Every segment begins with a SEGMENT record, which names the directory. It is read by itself, whatever
    # the rest of the segment is like.
    header = decode_header(data, 0)
    payload = decode_payload(data, 0, header, segment) if header else None
    if header is None or payload is None:
        return None
    try:
        return decode_record(header.type, payload).identity
    except DecodeError:
        return None
