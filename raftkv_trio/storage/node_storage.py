"""An open data directory, as a running node uses it.

Two workers call it, each from one thread at a time. One writes the log and the small files. The other does
what takes long beside it: it takes, receives and sends snapshots, and removes obsolete files.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from raftkv_trio.errors import StorageError
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.disk import Disk, DiskFile, describe_os_error, is_no_room
from raftkv_trio.storage.incoming_snapshot import IncomingSnapshot
from raftkv_trio.storage.segments import prepare_spare, purge_segments
from raftkv_trio.storage.small_files import (
    Identity,
    read_lost,
    read_origin,
    read_peers,
    write_lost,
    write_peers,
    write_removed,
)
from raftkv_trio.storage.snapshot_directory import SnapshotDirectory
from raftkv_trio.storage.snapshot_file import SnapshotFile, SnapshotId, SnapshotMeta
from raftkv_trio.storage.wal import TornTail, WriteAheadLog


class NodeStorage:
    """An open data directory. Made by `open_storage`; every method may block on the disk.

    Attributes:
        identity: whose directory it is.
        snapshots: the snapshot files; the log continues the newest.
        origin: the hash of the backup that the directory was restored from; None if it was not restored.
        lost_up_to: an index that this node had acknowledged although its log does not reach it; None if
            nothing is known to be lost.
    """

    def __init__(
        self, disk: Disk, path: Path, lock: DiskFile, identity: Identity, log: WriteAheadLog
    ) -> None:
        self._disk = disk
        self._path = path
        self._lock: DiskFile | None = lock
        self._log = log
        # Each of these may refuse the directory. The caller closes log and lock then.
        self.identity = identity
        self.snapshots = SnapshotDirectory(disk, path / "snap", log.snapshot)
        self.origin = read_origin(disk, path)
        self.lost_up_to = read_lost(disk, path)
        self._known_keys: dict[int, bytes] = read_peers(disk, path)
        self._tidied: object = None  # the snapshot and the segment for which `tidy` has done its work
        self._spare_behind: int | None = None  # the segment that the log was in when a spare was there

    @property
    def snapshot(self) -> SnapshotMeta:
        """The snapshot that the log continues."""
        return self.snapshots.newest

    @property
    def snapshot_bytes(self) -> int:
        """The size of that snapshot's file. Does not block."""
        return self.snapshots.newest_bytes

    @property
    def hard_state(self) -> HardState:
        """Term, vote and commit index as the log has them."""
        return self._log.hard_state

    @property
    def torn_tail(self) -> TornTail | None:
        """What was cut off of a half-written record when the directory was opened; None if nothing was."""
        return self._log.torn_tail

    @property
    def known_keys(self) -> Mapping[int, bytes]:
        """By what each other member's directory is known, by node id: a key (`peers/peer_keys.py`).

        What a node of 0.1.0 has written down is that directory's id itself.
        """
        return self._known_keys

    def take_entries(self) -> list[Entry]:
        """The entries after the snapshot, as recovered. Given away: a second call returns none."""
        # The core keeps them from now on; a second copy would cost as much memory as the log has entries.
        entries, self._log.entries = self._log.entries, []
        return entries

    # ------------------------------------------------------------ for the log writer, in its order

    def must_write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Whether `append` of these goes to the disk; otherwise `append` returns at once."""
        return self._log.must_write(hard_state, entries)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Append one batch to the log; durable when this returns. Raises StorageError."""
        self._log.append(hard_state, entries)

    def continue_from(self, meta: SnapshotMeta) -> None:
        """Let the log continue a snapshot of this node's own, whose file is whole and durable.

        Does nothing if the log continues a later one already. Raises StorageError.
        """
        # While this node wrote its own snapshot, a later one of the leader's may have been installed.
        if meta.index > self.snapshot.index:
            self._log.continue_from(meta.id)
            # After the record: `tidy`, in the other worker, removes what this snapshot makes obsolete.
            self.snapshots.newest = meta

    def install(self, hard_state: HardState | None, snapshot: SnapshotId, entries: Sequence[Entry]) -> None:
        """Replace the log by a snapshot that was received, and the entries after it; durable on return.

        Raises StorageError, CorruptLog.
        """
        # Name, record, then the new truth in memory. A crash behind the name leaves a file that the log does
        # not know of, and the old log with the old snapshot, both whole; a start removes the file.
        with self._ending_the_node("snap"):
            meta = self.snapshots.adopt(snapshot)
        self._log.install(hard_state, snapshot, entries)
        # Only now, as in `continue_from`: before the record, a start still needs the old log.
        self.snapshots.newest = meta

    @property
    def has_room(self) -> bool:
        """Whether the log can take entries: there is a spare segment, or half of the current one is free.

        The rest is kept for votes and hard states, which must be written even if the disk is full, and for
        what is on its way to the log writer already.
        """
        # A number and not a flag: when the log has taken the spare it is in another segment, and this is
        # False at once, without a look at the disk.
        return self._spare_behind == self._log.segment or self._log.is_half_free

    # ------------------------------------------------------------ beside the log writer

    def begin_snapshot(self, meta: SnapshotMeta, envelope: bytes) -> SnapshotFile:
        """Begin a snapshot of this node's own; raises OSError."""
        return self.snapshots.begin(meta, envelope)

    def open_snapshot(self, snapshot: SnapshotId) -> DiskFile:
        """The bytes of a snapshot, to send them; raises OSError."""
        return self.snapshots.open(snapshot)

    def receive_snapshot(self, snapshot: SnapshotId, size_bytes: int) -> IncomingSnapshot:
        """Begin to receive a snapshot of that size, or go on with what is here of it.

        It must not be one that `has_received` knows. Raises OSError, at once if the disk has no room for it
        and for the log's next segment.
        """
        return self.snapshots.receive(snapshot, size_bytes, self._log.segment_bytes)

    def has_received(self, snapshot: SnapshotId) -> bool:
        """Whether this snapshot is here, whole, and waits for its installation. Does not block."""
        return snapshot in self.snapshots.waiting

    def keep_received(self, snapshot: SnapshotId) -> None:
        """This snapshot was received, whole and durable, and its SNAP message goes to the core now.

        Its file stays until it is installed or forgotten. Does not block.
        """
        self.snapshots.keep_received(snapshot)

    def forget_received(self, useless: Callable[[SnapshotId], bool]) -> None:
        """These received snapshots will not be installed: their files need not be kept. Does not block."""
        for snapshot in self.snapshots.waiting:
            if useless(snapshot):
                self.snapshots.forget_received(snapshot)

    def read_envelope(self, snapshot: SnapshotId) -> bytes:
        """The node's own part of a snapshot; raises CorruptLog, StorageError."""
        with self._ending_the_node("snap"):
            return self.snapshots.read_head(snapshot)[1]

    def snapshot_chunks(self, snapshot: SnapshotId) -> Generator[bytes, None, None]:
        """The state machine's chunks of a snapshot, lazily; raises CorruptLog, StorageError."""
        # The state machine restores from these while they are read. An error in the middle leaves it with
        # half of a state, so the node ends.
        with self._ending_the_node("snap"):
            yield from self.snapshots.chunks(snapshot)

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` may find something to do."""
        return self._tidied != (self.snapshot.id, self._log.segment)

    def tidy(self) -> None:
        """Remove what the newest snapshot makes obsolete, and have a segment ready for the log's next cut.

        May run beside the log writer. Raises OSError.
        """
        # Read once and before all else: what the log writer does meanwhile makes other files obsolete, or
        # takes the spare, and is seen in the next call, since `is_untidy` compares with this state.
        state = snapshot, segment = self.snapshot.id, self._log.segment
        purge_segments(self._disk, self._path / "wal", snapshot, segment)
        self.snapshots.tidy()
        # Last, when the removals have made room for it.
        prepare_spare(self._disk, self._path / "wal", segment_bytes=self._log.segment_bytes)
        self._spare_behind, self._tidied = segment, state

    def remember_key(self, node_id: int, key: bytes) -> None:
        """Record by what a member's directory is known, durably.

        Raises StorageError, and OSError if there is no room.
        """
        self._write_peers({**self._known_keys, node_id: key})

    def forget_key(self, node_id: int) -> None:
        """Forget by what that member's directory is known, durably; raises as `remember_key`."""
        if node_id in self._known_keys:
            self._write_peers({i: known for i, known in self._known_keys.items() if i != node_id})

    def _write_peers(self, known: dict[int, bytes]) -> None:
        # In memory only when it is durable: a peer is accepted under an id that a restart remembers, or not.
        try:
            write_peers(self._disk, self._path, known)
        except OSError as error:
            # Without room the old file is whole and nothing was promised to the peer: the caller may try
            # again. After any other error the disk is not to be trusted.
            if is_no_room(error):
                raise
            raise StorageError(describe_os_error(error, self._path / "peers")) from error
        self._known_keys = known

    def mark_removed(self, index: int) -> None:
        """Record that entry `index` removed this node, so that it never starts again. Raises StorageError."""
        # Durable, so that a supervisor that starts the node again and again gets the same answer at once.
        with self._ending_the_node("removed"):
            write_removed(self._disk, self._path, index)

    def mark_lost(self, acknowledged: int) -> None:
        """Record that acknowledged entries are lost, so that this node never starts again.

        Raises StorageError, and OSError if there is no room.
        """
        try:
            write_lost(self._disk, self._path, acknowledged)
        except OSError as error:
            if is_no_room(error):
                raise
            raise StorageError(describe_os_error(error, self._path / "lost")) from error

    def close(self, *, clean: bool) -> None:
        """Close the log, with a closing record if `clean`, and release the lock.

        A second call does nothing. Raises StorageError, OSError.
        """
        if self._lock is None:
            return
        # The lock goes last, and whatever happens before: the next process must not find a log in use.
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
            raise StorageError(describe_os_error(error, self._path / name)) from error
