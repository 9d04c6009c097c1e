"""Snapshot files: a header, the node's envelope, then the state machine's chunks, each with a CRC.

Each part is `length u32 | crc u32 | bytes`, the CRC seeded by its position; an empty part ends the file.
"""

import struct
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import cbor2

from raftkv_trio.errors import CorruptLog, PeerProtocolError
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage.disk import Disk, write_whole_file
from raftkv_trio.wire import decode_payload, pack_conf_state, unpack_conf_state

_PART = struct.Struct(">II")


class SnapshotMeta(NamedTuple):
    """Which moment of the log a snapshot holds."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int
    conf_state: ConfState


def snapshot_name(meta: SnapshotMeta) -> str:
    return f"{meta.term:016x}-{meta.index:016x}.snap"


def write_snapshot(
    disk: Disk, directory: Path, meta: SnapshotMeta, envelope: bytes, chunks: Iterable[bytes]
) -> None:
    """Write a snapshot, durably and all or nothing; raises OSError."""
    header = cbor2.dumps([meta.index, meta.term, pack_conf_state(meta.conf_state)])
    parts = [header, envelope, *chunks, b""]
    data = b"".join(
        _PART.pack(len(part), crc32(part, position)) + part for position, part in enumerate(parts)
    )
    write_whole_file(disk, directory / snapshot_name(meta), data)


def read_parts(disk: Disk, path: Path) -> Generator[bytes, None, None]:
    """The parts of a snapshot file, lazily: header, envelope, chunks; raises CorruptLog, OSError."""
    file = disk.open(path)
    try:
        offset = 0
        for position in range(2**32):
            length, crc = _PART.unpack(file.read_at(offset, _PART.size).ljust(_PART.size, b"\xff"))
            part = file.read_at(offset + _PART.size, length) if length <= file.size() else b""
            if len(part) < length or crc32(part, position) != crc:
                raise CorruptLog(f"{path} is corrupt at offset {offset}: restore this node from a backup")
            if not part:
                return
            yield part
            offset += _PART.size + length
    finally:
        file.close()


def decode_meta(path: Path, header: bytes) -> SnapshotMeta:
    """The header part of a snapshot file; raises CorruptLog."""
    try:
        index, term, conf_state = decode_payload(header)
        return SnapshotMeta(index, term, unpack_conf_state(conf_state))
    except (PeerProtocolError, ValueError, TypeError) as error:
        raise CorruptLog(f"{path} has a header that cannot be read: {error}") from error
