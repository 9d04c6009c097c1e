"""A node's data directory: lock, identity, log and snapshots, opened together or not at all.

lock          held while a node runs on it
identity      cluster id, node id, directory id, format version; written last, so it marks a whole bootstrap
peers         the directory id that each other member showed first
origin        the hash of the backup that the directory was restored from, if it was
removed       the index at which the cluster has removed this node, if it has; the four with a CRC
wal/  snap/   the log, and the snapshots it continues
"""

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cbor2

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.errors import REMEDY, ConfigError, CorruptLog, StorageError
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage.disk import Disk, DiskFile, is_no_room, trouble, write_whole_file
from raftkv_trio.storage.log_reader import corrupt, read_segment, segments
from raftkv_trio.storage.record import has_record_behind
from raftkv_trio.storage.small_files import read_sealed, seal, write_sealed
from raftkv_trio.storage.snapshot_directory import IncomingSnapshot, Snapshots
from raftkv_trio.storage.snapshot_file import SnapshotFile, SnapshotId, SnapshotMeta
from raftkv_trio.storage.wal import TornTail, WriteAheadLog, begin_log, open_log, purge_log

FORMAT_VERSION = 1
BOOTSTRAP_INDEX = BOOTSTRAP_TERM = 1
DIRECTORY_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose directory this is."""

    cluster_id: int
    node_id: int
    directory_id: bytes
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        return cbor2.dumps([self.format_version, self.cluster_id, self.node_id, self.directory_id])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What the first start writes: the snapshot at index 1 of term 1, or a joiner's, of nothing, at 0."""

    cluster_id: int
    conf_state: ConfState
    envelope: bytes
    index: int = BOOTSTRAP_INDEX
    term: int = BOOTSTRAP_TERM


class NodeStorage:
    """An open data directory. Made by `open_storage`; every method may block on the disk.

    Attributes:
        snapshots: of which the log continues the newest.
        origin: the hash of the backup that the directory was restored from; None where it was not.
    """

    def __init__(
        self, disk: Disk, path: Path, lock: DiskFile, identity: Identity, log: WriteAheadLog
    ) -> None:
        self._disk = disk
        self._path = path
        self._lock: DiskFile | None = lock
        self._log = log
        self.identity = identity
        self.snapshots = Snapshots(disk, path / "snap", log.snapshot)
        self.origin = read_origin(disk, path)
        self._known_directory_ids: dict[int, bytes] = read_known(disk, path)
        self._tidied: object = None
        self._spare_behind: int | None = None  # the segment that the log was in when a spare was there

    @property
    def snapshot(self) -> SnapshotMeta:
        """The snapshot that the log continues."""
        return self.snapshots.newest

    @property
    def hard_state(self) -> HardState:
        return self._log.hard_state

    @property
    def torn_tail(self) -> TornTail | None:
        """What the last crash left half-written, where it did."""
        return self._log.torn_tail

    @property
    def known_directory_ids(self) -> Mapping[int, bytes]:
        return self._known_directory_ids

    def take_entries(self) -> list[Entry]:
        """The entries after the snapshot, as recovered; they are the caller's from here on."""
        entries, self._log.entries = self._log.entries, []
        return entries

    # ------------------------------------------------------------ for the log writer, in its order

    def must_write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Whether `append` of these goes to the disk; else it returns at once."""
        return self._log.must_write(hard_state, entries)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Append one batch to the log; durable when this returns. Raises StorageError."""
        self._log.append(hard_state, entries)

    def continue_from(self, meta: SnapshotMeta) -> None:
        """From here on the log continues this snapshot, which is whole on the disk. Raises StorageError.

        Without effect where it continues a later one already.
        """
        if meta.index > self.snapshot.index:
            self._log.continue_from(meta.id)
            self.snapshots.newest = meta

    def install(self, hard_state: HardState | None, snapshot: SnapshotId, entries: Sequence[Entry]) -> None:
        """Replace log and snapshot by one that was received, and the entries after it.

        Raises StorageError, CorruptLog.
        """
        try:
            meta = self.snapshots.adopt(snapshot)
        except OSError as error:
            raise StorageError(trouble(error, self._path / "snap")) from error
        self._log.install(hard_state, snapshot, entries)
        self.snapshots.newest = meta  # only now: `tidy` may run, and removes what is superfluous with it

    @property
    def has_room(self) -> bool:
        """Whether entries are no risk: there is a segment for the next cut, or half of this one is free.

        That half is for votes and hard states, and for what is on its way to the log writer already.
        """
        return self._spare_behind == self._log.segment or self._log.has_half

    # ------------------------------------------------------------ beside it

    def begin_snapshot(self, meta: SnapshotMeta, envelope: bytes) -> SnapshotFile:
        """Begin a snapshot of this node's own; raises OSError."""
        return self.snapshots.begin(meta, envelope)

    def open_snapshot(self, snapshot: SnapshotId) -> DiskFile:
        """The bytes of a snapshot, to send them; raises OSError."""
        return self.snapshots.open(snapshot)

    def receive_snapshot(self, snapshot: SnapshotId, size_bytes: int) -> IncomingSnapshot:
        """Begin to receive one of that size, or go on with what is here of it; raises OSError."""
        return self.snapshots.receive(snapshot, size_bytes)

    def read_envelope(self, snapshot: SnapshotId) -> bytes:
        """The node's own part of a snapshot that is here; raises CorruptLog, StorageError."""
        try:
            return self.snapshots.read_head(snapshot)[1]
        except OSError as error:
            raise StorageError(f"{self._path / 'snap'}: {error.strerror or error}") from error

    def snapshot_chunks(self, snapshot: SnapshotId) -> Generator[bytes, None, None]:
        """The state machine's chunks of one that is here, lazily; raises CorruptLog, StorageError."""
        try:
            yield from self.snapshots.chunks(snapshot)
        except OSError as error:
            raise StorageError(trouble(error, self._path / "snap")) from error

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` may find something to do."""
        return self._tidied != (self.snapshot.id, self._log.segment)

    def tidy(self) -> None:
        """Remove what the newest snapshot makes superfluous, and have a segment ready for the log's next cut.

        May run beside the log writer. Raises OSError.
        """
        state = snapshot, segment = self.snapshot.id, self._log.segment
        purge_log(self._disk, self._path / "wal", snapshot, segment)
        self.snapshots.tidy()
        self._log.prepare_spare()
        self._spare_behind, self._tidied = segment, state

    def remember_directory_id(self, node_id: int, directory_id: bytes) -> None:
        """Keep a member's directory id, durably; raises StorageError, and OSError where there is no room."""
        known = {**self._known_directory_ids, node_id: directory_id}
        try:
            write_known(self._disk, self._path, known)
        except OSError as error:
            if is_no_room(error):
                raise
            raise StorageError(trouble(error, self._path / "peers")) from error
        self._known_directory_ids = known

    def mark_removed(self, index: int) -> None:
        """The cluster has removed this node: the directory is not to be opened again. Raises StorageError."""
        try:
            write_sealed(self._disk, self._path / "removed", index)
        except OSError as error:
            raise StorageError(trouble(error, self._path / "removed")) from error

    def close(self, *, clean: bool) -> None:
        """Close the log, with a closing record where `clean`, and release the lock; again does nothing."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            self._log.close(clean=clean)
        finally:
            lock.close()


def is_new(disk: Disk, path: Path) -> bool:
    """Whether `open_storage` would make a data directory at `path`; it tells where that cannot be seen."""
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
    """Open the data directory at `path`, or make it where there is a `bootstrap`.

    Raises:
        ConfigError: the directory is another node's, in use, of a newer format, or is not there and cannot be
            made.
        CorruptLog: what it holds does not verify.
    """
    try:
        return _open_storage(disk, path, node_id, bootstrap, rng, segment_bytes)
    except OSError as error:
        raise ConfigError(
            f"data directory {path} cannot be used: {trouble(error, path)}; name another with `data_dir`"
        ) from error


def _open_storage(
    disk: Disk, path: Path, node_id: int, bootstrap: Bootstrap | None, rng: random.Random, segment_bytes: int
) -> NodeStorage:
    if bootstrap is None and is_new(disk, path):
        raise ConfigError(f"{path} is no data directory of raftkv-trio")
    # A first start that was cut short may have left these two.
    strangers = set(disk.list_directory(path)) - {"wal", "snap"} if disk.exists(path) else set()
    if strangers and not disk.exists(path / "lock"):
        raise ConfigError(
            f"{path} is not empty and no data directory of raftkv-trio; name another with `data_dir`"
        )
    for directory in (path, path / "wal", path / "snap"):
        disk.make_directory(directory)
    lock = disk.open(path / "lock", create=True)
    log: WriteAheadLog | None = None
    try:
        if not lock.lock():
            raise ConfigError(
                f"data directory {path} is in use by a running node; stop it, or name another with `data_dir`"
            )
        if bootstrap is not None and is_new(disk, path):
            _bootstrap(disk, path, node_id, bootstrap, rng, segment_bytes)
        # What a killed process has named, and not synced, is seen here and may still be lost.
        for directory in (path / "snap", path):
            disk.sync_directory(directory)
        identity = read_identity(disk, path)
        if identity.node_id != node_id:
            raise ConfigError(
                f"{path} belongs to node {identity.node_id}, not to node {node_id};"
                " check `node_id` and `data_dir`"
            )
        _check_not_removed(disk, path, node_id)
        log = open_log(disk, path / "wal", identity.encode(), segment_bytes=segment_bytes)
        storage = NodeStorage(disk, path, lock, identity, log)
        storage.snapshots.tidy(starting=True)
        return storage
    except BaseException:
        if log is not None:
            log.close(clean=False)
        lock.close()
        raise


def _bootstrap(
    disk: Disk, path: Path, node_id: int, bootstrap: Bootstrap, rng: random.Random, segment_bytes: int
) -> None:
    if not is_unfinished(disk, path):
        raise CorruptLog(f"{path} holds a log or members' directory ids, but no identity: {REMEDY}")
    identity = Identity(
        cluster_id=bootstrap.cluster_id,
        node_id=node_id,
        directory_id=rng.getrandbits(8 * DIRECTORY_ID_BYTES).to_bytes(DIRECTORY_ID_BYTES, "big"),
    )
    meta = SnapshotMeta(bootstrap.index, bootstrap.term, bootstrap.conf_state)
    begin_log(disk, path / "wal", identity.encode(), meta.id, segment_bytes=segment_bytes)
    snapshot = SnapshotFile(disk, path / "snap", meta, bootstrap.envelope)
    try:
        snapshot.finish()
    finally:
        snapshot.close()
    disk.sync_directory(path)
    sync_parents(disk, path)
    write_known(disk, path, {})
    write_whole_file(disk, path / "identity", seal(identity.encode()))


def is_unfinished(disk: Disk, path: Path) -> bool:
    """Whether a first start was cut short here, so that nothing was promised; raises CorruptLog, OSError."""
    directory = path / "wal"
    if disk.exists(path / "identity") or (disk.exists(path / "peers") and read_known(disk, path)):
        return False
    names = segments(disk, directory) if disk.exists(directory) else []
    return not any(has_record_behind(read_segment(disk, directory / str(n)), 0, n.number) for n in names)


def _check_not_removed(disk: Disk, path: Path, node_id: int) -> None:
    index = read_removed(disk, path)
    if index is not None:
        raise ConfigError(
            f"node {node_id} was removed from its cluster, by entry {index}, and does not start again;"
            " add a node under a new id, with a data directory of its own"
        )


def sync_parents(disk: Disk, path: Path) -> None:
    """Make durable the names of directories that `make_directory` made for `path`; raises OSError."""
    for directory in path.parents:
        try:
            disk.sync_directory(directory)
        except PermissionError:
            pass  # so it is none of those that `make_directory` made, which are ours


def read_identity(disk: Disk, path: Path) -> Identity:
    """Whose directory `path` is; raises ConfigError where its format is a newer one, CorruptLog, OSError."""
    file = path / "identity"
    match read_sealed(disk, file):
        case [int(version), *_] if version > FORMAT_VERSION:
            raise ConfigError(
                f"{path} has format {version}; this program knows {FORMAT_VERSION}: use a newer one"
            )
        case [int(), int(cluster_id), int(node_id), bytes(directory_id)]:
            return Identity(cluster_id=cluster_id, node_id=node_id, directory_id=directory_id)
    raise corrupt(file, 0)


def read_known(disk: Disk, path: Path) -> dict[int, bytes]:
    """The directory id that each member showed first; raises CorruptLog, OSError."""
    file = path / "peers"
    if not disk.exists(file):
        raise CorruptLog(
            f"{file} is missing, and without it no member that lost its votes is known: {REMEDY}"
        )
    known = read_sealed(disk, file)
    match known:
        case dict() if all(type(i) is int and type(d) is bytes for i, d in known.items()):
            return known
    raise corrupt(file, 0)


def write_known(disk: Disk, path: Path, known: Mapping[int, bytes]) -> None:
    """Note the members' directory ids, none at first, so that their loss is noticed; raises OSError."""
    write_sealed(disk, path / "peers", dict(known))


def read_origin(disk: Disk, path: Path) -> bytes | None:
    """The hash of the backup that a directory was restored from, if it was; raises CorruptLog, OSError."""
    file = path / "origin"
    if not disk.exists(file):
        return None
    match read_sealed(disk, file):
        case bytes(origin):
            return origin
    raise corrupt(file, 0)


def write_origin(disk: Disk, path: Path, origin: bytes) -> None:
    """Note what a directory is being restored from; raises OSError."""
    write_sealed(disk, path / "origin", origin)


def read_removed(disk: Disk, path: Path) -> int | None:
    """The index at which the cluster has removed this node, if it has; raises CorruptLog, OSError."""
    file = path / "removed"
    if not disk.exists(file):
        return None
    index = read_sealed(disk, file)
    if type(index) is int:
        return index
    raise corrupt(file, 0)
