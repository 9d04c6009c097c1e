"""An open data directory, as a running node uses it: what the log writer calls, and what runs beside it."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from raftkv_trio.errors import StorageError
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.disk import Disk, DiskFile, is_no_room, trouble
from raftkv_trio.storage.incoming_snapshot import IncomingSnapshot
from raftkv_trio.storage.segments import prepare_spare, purge_segments
from raftkv_trio.storage.small_files import Identity, read_origin, read_peers, write_peers, write_removed
from raftkv_trio.storage.snapshot_directory import SnapshotDirectory
from raftkv_trio.storage.snapshot_file import SnapshotFile, SnapshotId, SnapshotMeta
from raftkv_trio.storage.wal import TornTail, WriteAheadLog


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
        self.snapshots = SnapshotDirectory(disk, path / "snap", log.snapshot)
        self.origin = read_origin(disk, path)
        self._known_directory_ids: dict[int, bytes] = read_peers(disk, path)
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
        with self._ending_the_node("snap"):
            meta = self.snapshots.adopt(snapshot)
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
        with self._ending_the_node("snap"):
            return self.snapshots.read_head(snapshot)[1]

    def snapshot_chunks(self, snapshot: SnapshotId) -> Generator[bytes, None, None]:
        """The state machine's chunks of one that is here, lazily; raises CorruptLog, StorageError."""
        with self._ending_the_node("snap"):
            yield from self.snapshots.chunks(snapshot)

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` may find something to do."""
        return self._tidied != (self.snapshot.id, self._log.segment)

    def tidy(self) -> None:
        """Remove what the newest snapshot makes superfluous, and have a segment ready for the log's next cut.

        May run beside the log writer. Raises OSError.
        """
        state = snapshot, segment = self.snapshot.id, self._log.segment
        purge_segments(self._disk, self._path / "wal", snapshot, segment)
        self.snapshots.tidy()
        prepare_spare(self._disk, self._path / "wal", segment_bytes=self._log.segment_bytes)
        self._spare_behind, self._tidied = segment, state

    def remember_directory_id(self, node_id: int, directory_id: bytes) -> None:
        """Keep a member's directory id, durably; raises StorageError, and OSError where there is no room."""
        known = {**self._known_directory_ids, node_id: directory_id}
        try:
            write_peers(self._disk, self._path, known)
        except OSError as error:
            if is_no_room(error):
                raise
            raise StorageError(trouble(error, self._path / "peers")) from error
        self._known_directory_ids = known

    def mark_removed(self, index: int) -> None:
        """The cluster has removed this node: the directory is not to be opened again. Raises StorageError."""
        with self._ending_the_node("removed"):
            write_removed(self._disk, self._path, index)

    def close(self, *, clean: bool) -> None:
        """Close the log, with a closing record where `clean`, and release the lock; again does nothing."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            self._log.close(clean=clean)
        finally:
            lock.close()

    @contextmanager
    def _ending_the_node(self, name: str) -> Iterator[None]:
        """Turn an error of the disk into a StorageError, which says `name` if the error names no file."""
        try:
            yield
        except OSError as error:
            raise StorageError(trouble(error, self._path / name)) from error
