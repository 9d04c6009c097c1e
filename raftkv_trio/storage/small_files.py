"""Small files that are written whole, as `identity` and `peers` are: `crc u32`, big endian, then CBOR."""

import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import cbor2

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.cbor import decode_payload
from raftkv_trio.storage.disk import Disk, write_whole_file
from raftkv_trio.storage.log_reader import corrupt

_CRC = struct.Struct(">I")


def seal(content: bytes) -> bytes:
    """The bytes of a file that holds this CBOR."""
    return _CRC.pack(crc32(content)) + content


def write_sealed(disk: Disk, path: Path, value: object) -> None:
    """Make `path` hold `value`, durably, or leave it as it was; raises OSError."""
    write_whole_file(disk, path, seal(cbor2.dumps(value)))


def read_sealed(disk: Disk, path: Path) -> Any:
    """What `write_sealed` wrote; raises CorruptLog, OSError."""
    file = disk.open(path, read_only=True)
    try:
        data = file.read_at(0, file.size())
    finally:
        file.close()
    content = data[_CRC.size :]
    if seal(content) != data:
        raise corrupt(path, 0)
    try:
        return decode_payload(content)
    except PeerProtocolError as error:
        raise corrupt(path, 0) from error
