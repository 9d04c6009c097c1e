"""Snapshots between members, each over a connection of its own, so that nothing else waits for them.

    sender   -> Hello (for a snapshot), SnapshotOffer, SnapshotPiece, SnapshotPiece, ...
    receiver -> Welcome, SnapshotWanted (from which byte on), SnapshotTaken

What travels is the file's bytes. The receiver verifies them part by part, and keeps what has come when the
connection ends, so that the next one goes on from there. When the file is whole and durable its SNAP message
goes the way of all messages, and the core decides what becomes of it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from raftkv_trio.errors import CorruptLog, PeerProtocolError
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake import RECEIVE_BYTES
from raftkv_trio.peers.wire import (
    SnapshotFrame,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotTaken,
    SnapshotWanted,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

PIECE_BYTES = 512 * 1024
PROGRESS_INTERVAL_S = 5.0


@dataclass(slots=True)
class Transfer:
    """How far a snapshot has come on its way between this node and a peer.

    Attributes:
        begun_bytes, begun_at: where this connection took it up, and when.
    """

    peer_id: int
    snapshot: SnapshotId
    size_bytes: int
    done_bytes: int
    begun_bytes: int
    begun_at: float

    def text(self, now: float) -> str:
        """Percentage, rate and time left, for the reader."""
        rate = (self.done_bytes - self.begun_bytes) / max(now - self.begun_at, 1e-9)
        percent = 100 * self.done_bytes / max(self.size_bytes, 1)
        left = f", {(self.size_bytes - self.done_bytes) / rate:.0f} s left" if rate > 0 else ""
        return f"{percent:.0f} % of {self.size_bytes} bytes at {rate / 1e6:.1f} MB/s{left}"


class Progress:
    """Says in the log, now and then, how far a transfer has come."""

    def __init__(self, clock: Clock, verb: str, transfer: Transfer) -> None:
        self._clock = clock
        self._verb = verb
        self._transfer = transfer
        self._said_at = clock.now()

    def advance(self, done_bytes: int) -> None:
        self._transfer.done_bytes = done_bytes
        now = self._clock.now()
        if now - self._said_at >= PROGRESS_INTERVAL_S:
            self._said_at = now
            self.say()

    def say(self) -> None:
        transfer = self._transfer
        logger.info(
            "%s node %d, snapshot at index %d: %s",
            self._verb,
            transfer.peer_id,
            transfer.snapshot.index,
            transfer.text(self._clock.now()),
        )


class SnapshotConnection:
    """Frames of one snapshot's connection, behind its handshake."""

    def __init__(self, stream: trio.abc.Stream, decoder: FrameDecoder | None = None) -> None:
        self._stream = stream
        self._decoder = decoder or FrameDecoder()

    async def send(self, frame: SnapshotFrame) -> None:
        await self._stream.send_all(encode_snapshot_frame(frame))

    async def receive(self) -> SnapshotFrame:
        """The next frame; raises PeerProtocolError at the end of the stream."""
        while True:
            for payload in self._decoder:
                return decode_snapshot_frame(payload)
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise PeerProtocolError("the connection was closed by the peer")
            self._decoder.feed(data)


async def send_snapshot(
    stream: trio.abc.Stream,
    message: Message,
    storage: NodeStorage,
    worker: Worker,
    clock: Clock,
    under_way: Callable[[Transfer | None], None],
) -> None:
    """Send the file of a SNAP message over a connection that has introduced itself.

    Returns when the peer has all of it, durably. Raises PeerProtocolError, what a stream raises, and OSError
    where the file cannot be read. `under_way` is told the transfer, and None at its end. Cancellation leaves
    at the peer what has come.
    """
    assert message.snapshot is not None
    snapshot = SnapshotId(message.snapshot.term, message.snapshot.index)
    file = await worker.run(storage.open_snapshot, snapshot)
    try:
        size_bytes = file.size()
        connection = SnapshotConnection(stream)
        await connection.send(SnapshotOffer(message, size_bytes))
        wanted = await connection.receive()
        if not isinstance(wanted, SnapshotWanted) or wanted.offset > size_bytes:
            raise PeerProtocolError(f"node {message.to} does not say which part of the snapshot it wants")
        offset = wanted.offset
        transfer = Transfer(message.to, snapshot, size_bytes, offset, offset, clock.now())
        progress = Progress(clock, "sending to", transfer)
        under_way(transfer)
        while offset < size_bytes:
            data = await worker.run(file.read_at, offset, PIECE_BYTES)
            await connection.send(SnapshotPiece(data))
            offset += len(data)
            progress.advance(offset)
        if not isinstance(await connection.receive(), SnapshotTaken):
            raise PeerProtocolError(f"node {message.to} does not confirm the snapshot")
        progress.say()
    finally:
        under_way(None)
        file.close()


async def receive_snapshot(
    stream: trio.abc.Stream,
    peer_id: int,
    node_id: int,
    storage: NodeStorage,
    worker: Worker,
    clock: Clock,
    under_way: Callable[[Transfer | None], None],
) -> Message:
    """Receive a snapshot over a connection that was admitted; its SNAP message, once the file is durable.

    Raises PeerProtocolError, also where what came is no snapshot, what a stream raises, and OSError where it
    cannot be written. Cancellation keeps what has come.
    """
    connection = SnapshotConnection(stream)
    offer = await connection.receive()
    message, meta = _checked(offer, peer_id, node_id)
    assert isinstance(offer, SnapshotOffer)
    if meta.index <= storage.snapshot.index:  # the core will answer with what it has
        await connection.send(SnapshotWanted(offer.size_bytes))
        await connection.send(SnapshotTaken(offer.size_bytes))
        return message
    incoming = await worker.run(storage.receive_snapshot, meta.id, offer.size_bytes)
    try:
        transfer = Transfer(peer_id, meta.id, offer.size_bytes, incoming.offset, incoming.offset, clock.now())
        progress = Progress(clock, "receiving from", transfer)
        under_way(transfer)
        await connection.send(SnapshotWanted(incoming.offset))
        while not incoming.is_whole:
            piece = await connection.receive()
            if not isinstance(piece, SnapshotPiece) or not piece.data:
                raise PeerProtocolError(f"node {peer_id} sends something else than a piece of its snapshot")
            await worker.run(incoming.write, piece.data)
            progress.advance(incoming.offset)
        arrived = await worker.run(incoming.finish)
        if arrived != meta:
            await worker.run(incoming.abandon)
            raise PeerProtocolError(f"node {peer_id} sent another snapshot than it had announced")
    except CorruptLog as error:
        raise PeerProtocolError(f"what node {peer_id} sends is no snapshot: {error}") from error
    finally:
        incoming.close()
        under_way(None)
    progress.say()
    await connection.send(SnapshotTaken(incoming.offset))
    return message


def _checked(offer: SnapshotFrame, peer_id: int, node_id: int) -> tuple[Message, SnapshotMeta]:
    if isinstance(offer, SnapshotOffer):
        message, snapshot = offer.message, offer.message.snapshot
        is_ours = (message.from_, message.to) == (peer_id, node_id)
        if message.type is MessageType.SNAP and is_ours and snapshot is not None:
            return message, SnapshotMeta(snapshot.index, snapshot.term, snapshot.conf_state)
    raise PeerProtocolError(f"node {peer_id} does not offer a snapshot of its own to this node")
