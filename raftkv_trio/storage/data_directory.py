"""How a node's data directory is made and opened: lock, identity, log and snapshots together, or not at all.

    lock                      held while a node runs on the directory
    identity                  whose it is; written last, so it marks a directory that was made to the end
    peers  origin  removed  lost  auth-reset    see `small_files.py`
    wal/   snap/              the log, and the snapshots that it continues

Until `identity` is durable the directory promises nothing, and a start makes it anew. From then on all that
it must hold is there, and anything that is missing was lost.
"""

import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from stat import S_IWGRP, S_IWOTH

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import ConfigError, CorruptLog, remedy
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage.disk import Disk, describe_os_error
from raftkv_trio.storage.node_storage import NodeStorage
from raftkv_trio.storage.record import has_record_behind
from raftkv_trio.storage.segments import list_segments, read_segment
from raftkv_trio.storage.small_files import (
    Identity,
    read_identity,
    read_peers,
    read_removed,
    write_identity,
    write_origin,
    write_peers,
)
from raftkv_trio.storage.snapshot_file import SnapshotFile, SnapshotMeta
from raftkv_trio.storage.wal import WriteAheadLog, begin_log, open_log

logger = logging.getLogger(__name__)

# The log of a new cluster begins behind this snapshot. So no log has the first entry, and a node that joins
# later must begin with a snapshot, which names the members.
BOOTSTRAP_INDEX = BOOTSTRAP_TERM = 1
# Random, so that no two directories have the same id. A member whose directory was lost and made anew shows
# another one, and its peers refuse it, since it has forgotten its votes.
DIRECTORY_ID_BYTES = 16


class UnusableDirectory(ConfigError):
    """A data directory cannot be used as it is.

    Args:
        what: is wrong.
        remedies: what to do, of which each helps. Whoever can use another directory instead adds that.
    """

    def __init__(self, what: str, *remedies: str) -> None:
        super().__init__(f"{what}; {', or '.join(remedies)}" if remedies else what)
        self.what = what
        self.remedies = remedies


def restoring(path: Path) -> Path:
    """The name of the data directory `path` while a backup's state is being restored to it."""
    return path.parent / f"{path.name}.restoring"


def forcing(path: Path) -> Path:
    """Where `member force-new-cluster` works before it restores to the data directory `path`."""
    return path.parent / f"{path.name}.forcing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What a new directory begins with: a snapshot, so that every log continues one.

    The members of a new cluster begin with the same snapshot, at index 1 of term 1. A joiner begins with an
    empty one at index 0, in which nobody votes.
    """

    cluster_id: int
    conf_state: ConfState
    envelope: bytes
    index: int = BOOTSTRAP_INDEX
    term: int = BOOTSTRAP_TERM


def is_new(disk: Disk, path: Path) -> bool:
    """Whether `open_storage` would make a data directory at `path`.

    False if that cannot be seen; `open_storage` raises the reason then.
    """
    try:
        return not disk.exists(path / "identity")
    except OSError:
        return False


def open_storage(
    disk: Disk,
    path: Path,
    *,
    node_id: int,
    bootstrap: Bootstrap | None,
    rng: random.Random,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> NodeStorage:
    """Open the data directory at `path`; if there is none, make it, unless `bootstrap` is None.

    Raises:
        ConfigError: the directory is another node's, in use, of a newer format, writable for every user, or
            is not there and cannot be made.
        CorruptLog: what it holds does not verify.
    """
    try:
        return _open_storage(disk, path, node_id, bootstrap, rng, segment_bytes)
    except OSError as error:
        reason = describe_os_error(error, path)
        raise UnusableDirectory(f"data directory {path} cannot be used: {reason}") from error


def _open_storage(
    disk: Disk, path: Path, node_id: int, bootstrap: Bootstrap | None, rng: random.Random, segment_bytes: int
) -> NodeStorage:
    if bootstrap is None and is_new(disk, path):
        raise ConfigError(f"{path} is no data directory of raftkv-trio")
    # Otherwise a restore that was killed would end in a cluster that is empty, without a word.
    for left in (restoring(path), forcing(path)) if is_new(disk, path) else ():
        if disk.exists(left):
            raise ConfigError(
                f"{left} shows that {path} was not restored to its end; remove {left}, then run the command"
                " that made it again, or start an empty node"
            )
    # Before anything is made: a directory with files that are not ours, named by mistake, is left alone. A
    # first start that was cut short before it made the lock may have left `wal` and `snap`.
    others = set(disk.list_directory(path)) - {"wal", "snap"} if disk.exists(path) else set()
    if others and not disk.exists(path / "lock"):
        raise UnusableDirectory(f"{path} is not empty and no data directory of raftkv-trio")
    check_writers(disk, path)
    _warn_of_group(disk, path)
    # Before the lock, which is a file in it. If another node runs here all three exist, and stay as they are.
    for directory in _parts(path):
        disk.make_directory(directory)
    # Before any file is read: another process may be writing what would be read.
    lock = disk.open(path / "lock", create=True)
    log: WriteAheadLog | None = None
    try:
        if not lock.lock():
            raise UnusableDirectory(f"data directory {path} is in use by a running node", "stop it")
        if bootstrap is not None and is_new(disk, path):
            # Records or met members mean that this node has run, so `identity` was lost and not never
            # written. A new one would come with a new log, in which its votes are forgotten.
            if not is_unfinished(disk, path):
                raise CorruptLog(
                    f"{path} holds a log or members' directory ids, but no identity: {remedy(path)}"
                )
            make_data_directory(disk, path, node_id, bootstrap, rng, segment_bytes=segment_bytes)
        # A process that was killed may have given files their names without a sync. They are seen here, and
        # acted upon, and could still be lost. (`wal` is synced when the log is recovered.)
        for directory in (path / "snap", path):
            disk.sync_directory(directory)
        identity = read_identity(disk, path)
        # A node with the log and the votes of another would be the same voter under a second id: a vote could
        # count twice.
        if identity.node_id != node_id:
            raise ConfigError(
                f"{path} belongs to node {identity.node_id}, not to node {node_id};"
                " check `node_id` and `data_dir`"
            )
        # A member that was removed must not vote again: the others count without it.
        _check_not_removed(disk, path, node_id)
        log = open_log(disk, path / "wal", identity.encode(), segment_bytes=segment_bytes)
        # The log first: it says which snapshot is the newest.
        storage = NodeStorage(disk, path, lock, identity, log)
        storage.snapshots.tidy(starting=True)
        return storage
    except BaseException:
        # Also if the caller is interrupted: in a test, or a program that goes on, the lock must be free.
        if log is not None:
            log.close(clean=False)
        lock.close()
        raise


def make_data_directory(
    disk: Disk,
    path: Path,
    node_id: int,
    bootstrap: Bootstrap,
    rng: random.Random,
    *,
    chunks: Iterable[bytes] = (),
    origin: bytes | None = None,
    segment_bytes: int,
) -> SnapshotMeta:
    """Fill a directory whose `wal/` and `snap/` exist; returns the snapshot that its log continues.

    Durable when this returns; before, a crash leaves a directory that can be made again. Raises OSError.

    Args:
        rng: gives the directory id.
        chunks: the state machine's part of the snapshot.
        origin: the hash of the backup that the chunks are from.
    """
    identity = Identity(
        cluster_id=bootstrap.cluster_id,
        node_id=node_id,
        directory_id=rng.getrandbits(8 * DIRECTORY_ID_BYTES).to_bytes(DIRECTORY_ID_BYTES, "big"),
    )
    meta = SnapshotMeta(bootstrap.index, bootstrap.term, bootstrap.conf_state)
    # Log and snapshot in any order, since neither counts before `identity` is there.
    begin_log(disk, path / "wal", identity.encode(), meta.id, segment_bytes=segment_bytes)
    snapshot = SnapshotFile(disk, path / "snap", meta, bootstrap.envelope)
    try:
        for chunk in chunks:
            snapshot.write([chunk])
        snapshot.finish()
    finally:
        snapshot.close()
    # The names `wal` and `snap`, before `identity`: with it and without them the directory would count as one
    # that has lost its log.
    disk.sync_directory(path)
    # The directory may itself be new. Without its own name all that is in it would be lost.
    sync_parents(disk, path)
    # These two are read at every start, so they must be there when `identity` is.
    if origin is not None:
        write_origin(disk, path, origin)
    write_peers(disk, path, {})
    # Last of all, and by one rename: from here on the directory counts.
    write_identity(disk, path, identity)
    return meta


def is_unfinished(disk: Disk, path: Path) -> bool:
    """Whether a first start was cut short here, so that nothing was promised; raises CorruptLog, OSError."""
    # A node meets members and writes records only after its directory was made to the end. Each of these is
    # proof that it was, whatever became of `identity`. The record that begins the first segment is no proof.
    directory = path / "wal"
    if disk.exists(path / "identity") or (disk.exists(path / "peers") and read_peers(disk, path)):
        return False
    names = list_segments(disk, directory) if disk.exists(directory) else []
    return not any(has_record_behind(read_segment(disk, directory / str(n)), 0, n.number) for n in names)


def check_writers(disk: Disk, path: Path) -> None:
    """Raise ConfigError if every user may write to a data directory, or to a directory in it."""
    for directory in open_to_all(disk, path):
        advice = f"if nobody has, run: chmod o-w {quote(str(directory))}"
        # A volume that is empty, such as Kubernetes' `emptyDir`, has mode 0777, and another owner than the
        # node's user, who may not change that. With data in it this would be the advice to begin anew.
        if directory == path and is_new(disk, path):
            advice = (
                f"name a directory in it with `data_dir`, such as {path / 'data'}, which the node makes for"
                f" itself, or run: chmod o-w {quote(str(directory))}"
            )
        raise ConfigError(
            f"every user of this machine may write to {directory}, and so replace what the node has promised;"
            f" {advice}"
        )


def open_to_all(disk: Disk, path: Path) -> Iterator[Path]:
    """Those of a data directory and the directories in it that every user may write to.

    Who can write to a directory can replace its files, whatever their own modes are: a log that holds other
    writes, an identity with which the node votes a second time.
    """
    for directory in _parts(path):
        if (disk.mode(directory) or 0) & S_IWOTH:
            yield directory


def _warn_of_group(disk: Disk, path: Path) -> None:
    """Warn if the group may write to a data directory, or to a directory in it."""
    # Only a warning: a group is what an administrator has named. Kubernetes makes all volumes of a pod
    # writable for its `fsGroup` at each start of the pod, and with the umask of many systems, 002, so is each
    # directory for the group of its owner alone.
    for directory in _parts(path):
        if (disk.mode(directory) or 0) & S_IWGRP:
            logger.warning(
                "the group of %s may write to it, and so replace what the node has promised; if it has other"
                " members than this node's user, run: chmod g-w %s",
                directory,
                quote(str(directory)),
            )


def _parts(path: Path) -> tuple[Path, ...]:
    return path, path / "wal", path / "snap"


def _check_not_removed(disk: Disk, path: Path, node_id: int) -> None:
    removed_at = read_removed(disk, path)
    if removed_at is not None:
        raise ConfigError(
            f"node {node_id} was removed from its cluster, by entry {removed_at}, and does not start again;"
            " add a node under a new id, with a data directory of its own"
        )


def sync_parents(disk: Disk, path: Path) -> None:
    """Make durable the names of the directories that `make_directory` made for `path`; raises OSError."""
    for directory in path.parents:
        try:
            disk.sync_directory(directory)
        except PermissionError:
            # A directory above that this user may not read. `make_directory` did not make it: those that it
            # made belong to this user.
            pass
