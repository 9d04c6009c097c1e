"""Snapshots that a node at level 1 sends and receives."""

from collections.abc import Callable

from raftkv_trio.node.parts import NodeParts
from raftkv_trio.peers.incoming import ReceivedSnapshot
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import SnapshotId, SnapshotMeta


class SnapshotTransfers:
    """Reads the snapshot files that a node sends, and writes those that it receives.

    Args:
        note: adds a line to the trace.
    """

    def __init__(self, parts: NodeParts, note: Callable[[str], None]) -> None:
        self._parts = parts
        self._note = note

    def read(self, message: Message) -> bytes | None:
        """The bytes of the snapshot that a SNAP message names; None if they cannot be read."""
        try:
            file = self._parts.storage.open_snapshot(_id(message))
            data = file.read_at(0, file.size())
            file.close()
        except OSError:
            return None
        return data

    def take(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        """Receive the beginning of a snapshot; once it is whole, give the driver its message.

        Args:
            data: the whole file.
            arrives_bytes: how much of it one connection brought; the next one goes on from there.
        """
        snapshot, storage = _id(message), self._parts.storage
        if snapshot.index > storage.snapshot.index and not storage.has_received(snapshot):
            try:
                incoming = storage.receive_snapshot(snapshot, len(data))
                if not incoming.is_whole and arrives_bytes > incoming.offset:
                    incoming.write(data[incoming.offset : arrives_bytes])
                if not incoming.is_whole:
                    incoming.close()
                    return
                assert message.snapshot is not None
                incoming.finish(SnapshotMeta(snapshot.index, snapshot.term, message.snapshot.conf_state))
                storage.keep_received(snapshot)
            except OSError as error:
                self._note(f"cannot receive a snapshot: {error}")
                return
        self._parts.inbox.try_put((sender, ReceivedSnapshot(message)), 0)


def _id(message: Message) -> SnapshotId:
    assert message.snapshot is not None
    return SnapshotId(message.snapshot.term, message.snapshot.index)
