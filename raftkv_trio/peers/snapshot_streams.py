"""Snapshots between members, each on a connection of its own, so that no message waits behind a file.

    sender   -> handshake, SnapshotOffer, SnapshotPiece, SnapshotPiece, ...
    receiver -> handshake, SnapshotWanted (from which byte on) or SnapshotRefused, SnapshotTaken

The bytes of the sender's file travel as they are. The receiver verifies them part by part, and keeps what
has arrived if the connection ends, so that the next connection resumes there. As soon as the file is
complete and durable, its SNAP message goes to the core like every other message, and the core decides
whether to restore it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import trio

from raftkv_trio.errors import CorruptLog, PeerProtocolError
from raftkv_trio.peers.connection import CONNECTION_ERRORS, receive_payload
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.wire import (
    SnapshotFrame,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotRefused,
    SnapshotTaken,
    SnapshotWanted,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.storage import DiskFile, IncomingSnapshot, NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.world import Clock, Worker, wait_longer

logger = logging.getLogger(__name__)

#: Given the parts of a received snapshot behind its header; raises CorruptLog if they cannot be restored.
ContentsCheck = Callable[[SnapshotMeta, Iterator[bytes]], None]

PIECE_BYTES = 512 * 1024
LOG_INTERVAL_S = 5.0
#: How long one frame may take, each way. The bound is for a peer whose process does nothing while its system
#: still acknowledges what arrives. TCP notices a dead host (`world.py`), and breaks the connection after the
#: same time: a receiver whose disk is busy reads nothing, and its system soon has no room for more.
FRAME_TIMEOUT_S = 30.0
#: Before its answers to an offer, and to the last piece, a receiver works on its whole disk file: it verifies
#: what it has, and syncs all. So it may take longer for a larger file, by this slowest rate.
SLOWEST_DISK_BYTES_PER_S = 10_000_000


@dataclass(slots=True)
class Transfer:
    """How far a snapshot has come on its way between this node and a peer.

    Attributes:
        peer_id: the node at the other end.
        snapshot: which snapshot.
        size_bytes: of the file.
        done_bytes: how much of the file has been transferred so far.
        begun_bytes, begun_at: `done_bytes` and the clock's time when this connection began.
    """

    peer_id: int
    snapshot: SnapshotId
    size_bytes: int
    done_bytes: int
    begun_bytes: int
    begun_at: float

    def text(self, now: float) -> str:
        """Percentage, rate and remaining time, for people."""
        rate = (self.done_bytes - self.begun_bytes) / max(now - self.begun_at, 1e-9)
        percent = 100 * self.done_bytes / max(self.size_bytes, 1)
        left = f", {(self.size_bytes - self.done_bytes) / rate:.0f} s left" if rate > 0 else ""
        return f"{percent:.0f} % of {self.size_bytes} bytes at {rate / 1e6:.1f} MB/s{left}"


class TransferLog:
    """Keeps a transfer's count, and logs it every few seconds."""

    def __init__(self, clock: Clock, action: str, transfer: Transfer) -> None:
        self._clock = clock
        self._action = action
        self._transfer = transfer
        self._logged_at = clock.now()

    def advance(self, done_bytes: int) -> None:
        """So many bytes of the file have been transferred."""
        self._transfer.done_bytes = done_bytes
        now = self._clock.now()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            self.log()

    def log(self) -> None:
        """One line of progress."""
        transfer = self._transfer
        logger.info(
            "%s node %d, snapshot at index %d: %s",
            self._action,
            transfer.peer_id,
            transfer.snapshot.index,
            transfer.text(self._clock.now()),
        )


class SnapshotConnection:
    """The frames of a snapshot's connection, after its handshake.

    Every wait for the peer has a deadline: while a transfer is under way, the leader sends the member nothing
    else, so a peer that says nothing would never catch up.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        wait_longer(stream, FRAME_TIMEOUT_S)
        self._stream = stream
        self._decoder = FrameDecoder()

    async def send(self, frame: SnapshotFrame) -> None:
        """Send one frame. Raises what a stream raises, and TooSlowError if the peer does not read it.

        After a TooSlowError or a cancellation the stream is of no use.
        """
        with trio.fail_after(FRAME_TIMEOUT_S):
            await self._stream.send_all(encode_snapshot_frame(frame))

    async def receive(self, *, disk_bytes: int = 0) -> SnapshotFrame:
        """The next frame, for which the peer may have to read or sync `disk_bytes` of its disk.

        Raises PeerProtocolError, also at the end of the stream, TooSlowError, and what a stream raises. A
        cancellation loses nothing.
        """
        with trio.fail_after(FRAME_TIMEOUT_S + disk_bytes / SLOWEST_DISK_BYTES_PER_S):
            return decode_snapshot_frame(await receive_payload(self._stream, self._decoder))


async def send_snapshot(
    stream: trio.abc.Stream,
    message: Message,
    file: DiskFile,
    worker: Worker,
    clock: Clock,
    begun: Callable[[Transfer], None],
) -> None:
    """Send the open file of a SNAP message on a connection to its addressee, after the handshake.

    Returns when the peer has all of it, durably. `begun` is given the transfer once the peer has said which
    part it wants.

    Raises PeerProtocolError, what a stream raises, TooSlowError if the peer does not answer or does not read,
    and OSError if the file cannot be read. After an error or a cancellation the peer keeps what has arrived
    there.
    """
    assert message.snapshot is not None
    snapshot = SnapshotId(message.snapshot.term, message.snapshot.index)
    size_bytes = file.size()
    connection = SnapshotConnection(stream)
    await connection.send(SnapshotOffer(message, size_bytes))
    wanted = await connection.receive(disk_bytes=size_bytes)
    if isinstance(wanted, SnapshotRefused):
        raise PeerProtocolError(f"node {message.to} refused it: {wanted.reason}")
    if not isinstance(wanted, SnapshotWanted) or wanted.offset > size_bytes:
        raise PeerProtocolError(f"node {message.to} does not say which part of the snapshot it wants")
    offset = wanted.offset
    transfer = Transfer(message.to, snapshot, size_bytes, offset, offset, clock.now())
    progress = TransferLog(clock, "sending to", transfer)
    begun(transfer)
    while offset < size_bytes:
        data = await worker.run(file.read_at, offset, PIECE_BYTES)
        await connection.send(SnapshotPiece(data))
        offset += len(data)
        progress.advance(offset)
    if not isinstance(await connection.receive(disk_bytes=size_bytes), SnapshotTaken):
        raise PeerProtocolError(f"node {message.to} does not confirm the snapshot")
    progress.log()


async def receive_offer(
    connection: SnapshotConnection, peer_id: int, node_id: int, is_of_leader: Callable[[Message], bool]
) -> SnapshotOffer:
    """What a peer offers on a connection that was admitted.

    Raises PeerProtocolError, also if it is not the present leader's, which the peer is told; what a stream
    raises, and TooSlowError if no offer comes.
    """
    offer = await connection.receive()
    message = _checked(offer, peer_id, node_id)
    assert isinstance(offer, SnapshotOffer)
    if not is_of_leader(message):
        reason = f"node {peer_id} does not lead"
        await connection.send(SnapshotRefused(reason))
        raise PeerProtocolError(reason)
    return offer


async def receive_snapshot(
    connection: SnapshotConnection,
    offer: SnapshotOffer,
    storage: NodeStorage,
    worker: Worker,
    clock: Clock,
    begun: Callable[[Transfer], None],
    check: ContentsCheck,
    deliver: Callable[[Message], object],
) -> None:
    """Receive a snapshot that was offered, and deliver its SNAP message once it is durable.

    `begun` is given the transfer once the file has been begun, unless nothing of it is needed. `check` is
    called in the worker with the whole file's content. `deliver` hands the message to the core, and is called
    at most once.

    Raises PeerProtocolError, also if the bytes are not the snapshot that was offered, what a stream raises,
    TooSlowError if the peer sends nothing more, and OSError if the file cannot be written. Cancellation keeps
    what has arrived, and loses no message of a file that has become durable.
    """
    message, snapshot = offer.message, offer.message.snapshot
    assert snapshot is not None
    peer_id, meta = message.from_, SnapshotMeta(snapshot.index, snapshot.term, snapshot.conf_state)
    if meta.index <= storage.snapshot.index or storage.has_received(meta.id):
        # Nothing is needed. The core will answer the SNAP message with the index that it has, and so the
        # sender goes on with entries. Or the file waits for its installation: its first message may have
        # been of a leader whose term is over, and then the core takes the snapshot with this one. Delivered
        # before the answers, while the file is certainly kept.
        deliver(message)
        await connection.send(SnapshotWanted(offer.size_bytes))
        await connection.send(SnapshotTaken(offer.size_bytes))
        return
    incoming = await _accept(connection, meta.id, offer.size_bytes, storage, worker)
    transfer = Transfer(peer_id, meta.id, offer.size_bytes, incoming.offset, incoming.offset, clock.now())
    progress = TransferLog(clock, "receiving from", transfer)
    try:
        begun(transfer)
        await connection.send(SnapshotWanted(incoming.offset))
        await _receive_pieces(connection, incoming, worker, progress)
        await worker.run(_finish, incoming, meta, check)
    except CorruptLog as error:
        raise PeerProtocolError(
            f"the bytes that node {peer_id} sent are not the snapshot that it offered: {error}"
        ) from error
    finally:
        incoming.close()
    # No checkpoint since `finish`: if a newer connection has cancelled this one while the disk worked, the
    # file counts all the same, and need not be sent again.
    storage.keep_received(meta.id)
    deliver(message)
    progress.log()
    try:
        await connection.send(SnapshotTaken(incoming.offset))
    except CONNECTION_ERRORS:
        # The sender may have waited too long for a slow disk. The snapshot counts all the same: if this node
        # threw it away, the next transfer would have to sync the same file, and would be too slow again.
        pass


async def _accept(
    connection: SnapshotConnection,
    snapshot: SnapshotId,
    size_bytes: int,
    storage: NodeStorage,
    worker: Worker,
) -> IncomingSnapshot:
    try:
        return await worker.run(storage.receive_snapshot, snapshot, size_bytes)
    except OSError as error:  # without room most likely, which is asked for before anything is sent
        await connection.send(SnapshotRefused(error.strerror or str(error)))
        raise


def _finish(incoming: IncomingSnapshot, meta: SnapshotMeta, check: ContentsCheck) -> None:
    """Make the file durable, and check what is in it; it is removed if that is wrong."""
    incoming.finish(meta)
    try:
        with closing(incoming.read_contents()) as contents:
            check(meta, contents)
    except (CorruptLog, OSError):
        incoming.abandon()
        raise


async def _receive_pieces(
    connection: SnapshotConnection, incoming: IncomingSnapshot, worker: Worker, progress: TransferLog
) -> None:
    while not incoming.is_whole:
        piece = await connection.receive()
        if not isinstance(piece, SnapshotPiece) or not piece.data:
            raise PeerProtocolError("another frame than a piece of the snapshot")
        await worker.run(incoming.write, piece.data)
        progress.advance(incoming.offset)


def _checked(offer: SnapshotFrame, peer_id: int, node_id: int) -> Message:
    """The SNAP message of an offer; PeerProtocolError if the peer may not offer it."""
    if isinstance(offer, SnapshotOffer):
        message = offer.message
        is_ours = (message.from_, message.to) == (peer_id, node_id)
        if message.type is MessageType.SNAP and is_ours and message.snapshot is not None:
            return message
    raise PeerProtocolError(f"node {peer_id} does not offer a snapshot of its own to this node")
