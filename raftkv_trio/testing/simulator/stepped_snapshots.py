"""What the tasks for snapshots do on a node, in steps between any two of which it can be halted."""

from collections.abc import Callable, Iterator

from raftkv_trio.node.parts import NodeParts
from raftkv_trio.peers.incoming import ReceivedSnapshot
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.storage.snapshot_file import SnapshotFile


class SnapshotSteps:
    """The snapshotter's task and those that send and receive snapshots, of one node from start to end.

    Args:
        soon: plans an action of the node.
        disk_call_s: how long the next disk call takes.
        recorded: called when the log writer is to record a snapshot.
    """

    def __init__(
        self,
        parts: NodeParts,
        storage: NodeStorage,
        *,
        soon: Callable[..., None],
        disk_call_s: Callable[[], float],
        note: Callable[[str], None],
        recorded: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._storage = storage
        self._soon = soon
        self._disk_call_s = disk_call_s
        self._note = note
        self._recorded = recorded
        self._is_busy = False

    # ------------------------------------------------------------ taken

    def step(self) -> None:
        """Remove what the newest snapshot makes superfluous, or begin one where one is due."""
        snapshotter = self._parts.snapshotter
        if self._is_busy or snapshotter.is_resting:
            return
        if self._storage.is_untidy:
            self._is_busy = True
            self._soon(self._disk_call_s(), self._tidy)
            return
        try:
            if snapshotter.is_due():
                self._begin()
            else:
                snapshotter.tidied()
        except OSError as error:
            self._failed(error)

    def _tidy(self) -> None:
        self._is_busy = False
        try:
            self._storage.tidy()
        except OSError as error:
            self._failed(error)
        else:
            self.step()

    def _begin(self) -> None:
        self._is_busy = True
        restores = self._parts.applier.restores
        meta, envelope, chunks = self._parts.snapshotter.begin()
        self._note(f"takes a snapshot at index {meta.index}")
        file = self._storage.begin_snapshot(meta, envelope)
        self._soon(self._disk_call_s(), self._write, meta, chunks, file, restores)

    def _write(self, meta: SnapshotMeta, chunks: Iterator[bytes], file: SnapshotFile, restores: int) -> None:
        if self._parts.applier.restores != restores:
            file.abandon()
            self._is_busy = False
            return
        try:
            chunk = next(chunks, None)
            if chunk is None:
                file.finish()
            else:
                file.write([chunk])
                if self._storage.is_untidy:
                    self._storage.tidy()
        except OSError as error:
            file.abandon()
            self._failed(error)
            return
        if chunk is not None:
            self._soon(self._disk_call_s(), self._write, meta, chunks, file, restores)
            return
        self._is_busy = False
        self._parts.snapshotter.finished(meta)
        self._recorded()

    def _failed(self, error: OSError) -> None:
        self._is_busy = False
        self._parts.snapshotter.failed(error)

    # ------------------------------------------------------------ sent and received

    def read(self, message: Message) -> bytes | None:
        """The file that a SNAP message speaks of; None where it cannot be read."""
        try:
            file = self._storage.open_snapshot(_id(message))
            data = file.read_at(0, file.size())
            file.close()
        except OSError:
            return None
        return data

    def take(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        """So much of a file has come, over one connection; when all is here its message goes to the core."""
        snapshot = _id(message)
        if snapshot.index > self._storage.snapshot.index:
            try:
                incoming = self._storage.receive_snapshot(snapshot, len(data))
                if not incoming.is_whole and arrives_bytes > incoming.offset:
                    incoming.write(data[incoming.offset : arrives_bytes])
                if not incoming.is_whole:
                    incoming.close()
                    return
                incoming.finish()
            except OSError as error:
                self._note(f"cannot receive a snapshot: {error}")
                return
        self._parts.inbox.try_put((sender, ReceivedSnapshot(message)), 0)


def _id(message: Message) -> SnapshotId:
    assert message.snapshot is not None
    return SnapshotId(message.snapshot.term, message.snapshot.index)
