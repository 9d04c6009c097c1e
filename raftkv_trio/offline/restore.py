"""A data directory made of a backup: one member of a new cluster, whose first snapshot is the backup's state.

The snapshot has the backup's index, so that indexes go on from there, and the term of every bootstrap. The
directory has its name when all of it is durable: a start never finds a part, which it would take for new.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.storage.disk import Disk, write_whole_file
from raftkv_trio.storage.node_storage import (
    BOOTSTRAP_TERM,
    DIRECTORY_ID_BYTES,
    Bootstrap,
    Identity,
    sync_parents,
    write_known,
    write_origin,
)
from raftkv_trio.storage.sealed import seal
from raftkv_trio.storage.snapshot import (
    HASH_BYTES,
    PartReader,
    SnapshotFile,
    SnapshotMeta,
    decode_meta,
    read_parts,
)
from raftkv_trio.storage.wal import begin_log

_READ_BYTES = 1024 * 1024


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


def restore_directory(
    disk: Disk,
    path: Path,
    backup: Backup,
    *,
    node_id: int,
    bootstrap: Bootstrap,
    rng: random.Random,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> SnapshotMeta:
    """Make the data directory `path`, which must not exist; the snapshot that it begins with.

    Raises ConfigError where it, or what an earlier attempt left, exists; OSError.
    """
    unfinished = path.with_name(f"{path.name}.restoring")
    for taken in (path, unfinished):
        if disk.exists(taken):
            raise ConfigError(f"{taken} exists already; remove it, or name another with --data-dir")
    for directory in (unfinished / "wal", unfinished / "snap"):
        disk.make_directory(directory)
    disk.open(unfinished / "lock", create=True).close()
    identity = Identity(
        cluster_id=bootstrap.cluster_id,
        node_id=node_id,
        directory_id=rng.getrandbits(8 * DIRECTORY_ID_BYTES).to_bytes(DIRECTORY_ID_BYTES, "big"),
    )
    meta = SnapshotMeta(backup.meta.index, BOOTSTRAP_TERM, bootstrap.conf_state)
    begin_log(disk, unfinished / "wal", identity.encode(), meta.id, segment_bytes=segment_bytes)
    snapshot = SnapshotFile(disk, unfinished / "snap", meta, bootstrap.envelope)
    try:
        for chunk in _chunks(disk, backup.file):
            snapshot.write([chunk])
        snapshot.finish()
    finally:
        snapshot.close()
    write_origin(disk, unfinished, backup.hash)
    write_known(disk, unfinished, {})
    write_whole_file(disk, unfinished / "identity", seal(identity.encode()))
    disk.rename(unfinished, path)
    sync_parents(disk, path)
    return meta


def _chunks(disk: Disk, file: Path) -> Iterator[bytes]:
    parts = read_parts(disk, file)
    next(parts), next(parts)
    yield from parts
