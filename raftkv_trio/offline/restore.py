"""A data directory made from a backup: one member of a new cluster, which begins with the backup's state.

The directory's first snapshot has the backup's index, so that indexes go on from there, and term 1, as after
every bootstrap: the votes of the old cluster do not count in the new one. Its members are those of the new
cluster. Its feature level is the backup's, because the backup's state is of that level; if the program knows
a higher one, the new cluster raises it as any other does, once all its members run.

The directory gets its name when all of it is durable, so a start never finds a part of one, which it would
take for a first start that was cut short, and make anew, without the backup.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from shutil import copyfileobj
from stat import S_ISCHR, S_ISFIFO, S_ISSOCK
from tempfile import NamedTemporaryFile

from raftkv_trio.addresses import restored_cluster_id
from raftkv_trio.config import DEFAULT_SEGMENT_BYTES, NodeConfig
from raftkv_trio.errors import ConfigError, CorruptLog, UpgradeNeeded
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import Bootstrap, Disk, OsDisk, SnapshotMeta, VerifiedSnapshot, verify_snapshot
from raftkv_trio.storage.data_directory import make_data_directory, restoring, sync_parents
from raftkv_trio.storage.snapshot_file import read_chunks, read_parts

#: As a file's name: standard input.
STANDARD_STREAM = Path("-")


def restore_directory(
    disk: Disk,
    path: Path,
    backup: VerifiedSnapshot,
    *,
    node_id: int,
    bootstrap: Bootstrap,
    rng: random.Random,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> SnapshotMeta:
    """Make the data directory `path`, which must not exist; returns the snapshot that it begins with.

    Raises ConfigError if `path` exists, or a part that an earlier attempt left; OSError, which leaves a part.
    """
    unfinished = restoring(path)
    for taken in (path, unfinished):
        if disk.exists(taken):
            raise ConfigError(f"{taken} exists already; remove it, or name another with `data_dir`")
    for directory in (unfinished / "wal", unfinished / "snap"):
        disk.make_directory(directory)
    # Without this file the directory would look like somebody else's (`open_storage`).
    disk.open(unfinished / "lock", create=True).close()
    meta = make_data_directory(
        disk,
        unfinished,
        node_id,
        replace(bootstrap, index=backup.meta.index),
        rng,
        chunks=read_chunks(disk, backup.file, is_backup=True),
        origin=backup.hash,
        segment_bytes=segment_bytes,
    )
    # Everything in it is durable by now. Only the name is left.
    disk.rename(unfinished, path)
    sync_parents(disk, path)
    return meta


def verify_backup(disk: Disk, file: Path, name: str | None = None) -> VerifiedSnapshot:
    """Read all of a backup; raises ConfigError, which calls it `name`, if it cannot be read or verified."""
    name = name or str(file)
    try:
        return verify_snapshot(disk, file, is_backup=True)
    except CorruptLog as error:
        raise ConfigError(
            f"{name} is no backup, or a damaged one: it does not verify at offset {error.offset}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from error


def restore_node(config: NodeConfig, file: Path, *, disk: Disk | None = None) -> tuple[int, SnapshotMeta]:
    """Make the data directory of one node of a new cluster from a backup; `-` is standard input.

    Returns the new cluster's id, and the snapshot that the directory begins with. Nothing is made if the
    backup does not verify.

    Raises ConfigError if the backup does not verify or the directory exists, OSError if it cannot be written.
    """
    disk = disk or OsDisk()
    with _readable_twice(file) as (name, seekable):
        # To its end, before anything is made: a snapshot's hash is its last part.
        return _restore_verified(disk, config, verify_backup(disk, seekable, name))


@contextmanager
def _readable_twice(file: Path) -> Iterator[tuple[str, Path]]:
    """What to call the backup, and where it is: a pipe, or standard input, is copied to a temporary file."""
    is_stdin = file == STANDARD_STREAM
    if not is_stdin and not _is_stream(file):
        yield str(file), file
        return
    name = "standard input" if is_stdin else str(file)
    if is_stdin and sys.stdin is None:
        raise ConfigError("standard input is closed; name a file instead of -")
    with NamedTemporaryFile(prefix="raftkv-trio-restore-") as copy:  # readable by this user only
        try:
            with open(sys.stdin.fileno() if is_stdin else file, "rb", closefd=not is_stdin) as source:
                copyfileobj(source, copy)
            copy.flush()
        except OSError as error:
            why = f"{error.strerror or error}; set TMPDIR to copy it to another place"
            raise ConfigError(f"{name} cannot be copied to {copy.name}: {why}") from error
        yield name, Path(copy.name)


def _is_stream(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False  # `verify_backup` says what is wrong
    return S_ISFIFO(mode) or S_ISCHR(mode) or S_ISSOCK(mode)


def _restore_verified(disk: Disk, config: NodeConfig, backup: VerifiedSnapshot) -> tuple[int, SnapshotMeta]:
    level, since = _level(disk, backup)
    bootstrap = Bootstrap(
        # Hashed from the backup, too: a member restored from another backup, or not restored, is of another
        # cluster, and the others refuse it. Otherwise members with different states could form a cluster.
        cluster_id=restored_cluster_id(config.cluster_id, backup.hash),
        conf_state=ConfState(voters=tuple(sorted(config.members))),
        envelope=Envelope.of(config.members, level=level, since=since).encode(),
    )
    meta = restore_directory(
        disk,
        config.data_dir,
        backup,
        node_id=config.node_id,
        bootstrap=bootstrap,
        rng=random.SystemRandom(),
        segment_bytes=config.segment_bytes,
    )
    return bootstrap.cluster_id, meta


def _level(disk: Disk, backup: VerifiedSnapshot) -> tuple[int, int]:
    """The feature level of a backup, and since which index; raises ConfigError if that cannot be read."""
    try:
        parts = read_parts(disk, backup.file, is_backup=True)
        envelope = Envelope.decode(next(islice(parts, 1, None), b""))
    except (CorruptLog, UpgradeNeeded) as error:
        raise ConfigError(f"the backup cannot be restored: {error}") from error
    return envelope.level, envelope.level_since
