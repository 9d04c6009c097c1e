"""A backup file: a snapshot of the keys that any new cluster can begin with."""

from pathlib import Path
from typing import NamedTuple

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.storage.disk import Disk
from raftkv_trio.storage.snapshot_file import (
    HASH_BYTES,
    PartReader,
    SnapshotMeta,
    decode_meta,
)


class Backup(NamedTuple):
    """A backup's file that has verified to its end."""

    file: Path
    meta: SnapshotMeta
    hash: bytes
    size_bytes: int


def verify_backup(disk: Disk, file: Path) -> Backup:
    """Read all of a backup; raises ConfigError where there is none or any of it does not verify."""
    reader, header, offset = PartReader(file), b"", 0
    try:
        opened = disk.open(file, read_only=True)
        try:
            while data := opened.read_at(offset, _READ_BYTES):
                parts = reader.feed(data)
                header = header or b"".join(parts[:1])
                offset += len(data)
            if not reader.is_whole:
                raise reader.missing()
            backup_hash = opened.read_at(offset - HASH_BYTES, HASH_BYTES)
        finally:
            opened.close()
        return Backup(file, decode_meta(file, header), backup_hash, offset)
    except CorruptLog as error:
        where = "" if error.offset is None else f" at offset {error.offset}"
        raise ConfigError(f"{file} is no whole backup: it does not verify{where}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}") from error


_READ_BYTES = 1024 * 1024
