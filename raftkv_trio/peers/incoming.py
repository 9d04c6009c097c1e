"""Connections that other nodes open to this one: accept, admit, and receive frames or a snapshot.

This node only listens on them; what it has to say goes out on connections of its own (`outgoing.py`). An
error of a connection ends that connection. What a peer says is checked here before it reaches the driver's
inbox.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import trio

from raftkv_trio.addresses import PeerAddress, host_of
from raftkv_trio.errors import ConfigError, DecodeError, PeerProtocolError, SecondProcessRefused
from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.payload.entries import check_entries
from raftkv_trio.peers.connection import CONNECTION_ERRORS, RECEIVE_BYTES
from raftkv_trio.peers.entrance import Entrance
from raftkv_trio.peers.fair_share import FairShare, cost_of, pieces_of
from raftkv_trio.peers.framing import FrameDecoder, PartAssembler
from raftkv_trio.peers.handshake import Caller, CallerRefused, Handshake
from raftkv_trio.peers.outbox import size_of_frame
from raftkv_trio.peers.refusals import Refusal, Refusals
from raftkv_trio.peers.snapshot_streams import (
    ContentsCheck,
    SnapshotConnection,
    Transfer,
    receive_offer,
    receive_snapshot,
)
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    FramePart,
    Members,
    MembersQuery,
    PeerFrame,
    Refused,
    SingleFrame,
    SnapshotOffer,
    decode_peer_frame,
)
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.storage import NodeStorage
from raftkv_trio.sync import ByteBoundedQueue
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.world import Listener, Network, World, keep_accepting, reason_of

logger = logging.getLogger(__name__)

REJECTION_INTERVAL_S = 1.0
#: The same sentence again: a joiner that is refused asks once a second.
REPEAT_INTERVAL_S = 60.0

#: The messages that travel between nodes. All others are between a node's own parts (`raft/types.py`); SNAP
#: comes with a file, on a connection for snapshots.
_NETWORK_TYPES = frozenset(
    {
        MessageType.APP,
        MessageType.APP_RESP,
        MessageType.VOTE,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE,
        MessageType.PRE_VOTE_RESP,
        MessageType.HEARTBEAT,
        MessageType.HEARTBEAT_RESP,
        MessageType.TIMEOUT_NOW,
        MessageType.TRANSFER_LEADER,
        MessageType.READ_INDEX,
        MessageType.READ_INDEX_RESP,
    }
)


class ReceivedSnapshot(NamedTuple):
    """What a snapshot's connection comes to: a SNAP message whose file is durable here."""

    message: Message


class SnapshotCheck(NamedTuple):
    """Which snapshots of peers this node takes.

    Attributes:
        is_of_leader: whether a SNAP message comes from the present leader, as far as this node knows.
        contents: raises CorruptLog if a snapshot's content cannot be restored here.
    """

    is_of_leader: Callable[[Message], bool]
    contents: ContentsCheck


#: What the driver gets from a peer.
InboxItem = PeerFrame | ReceivedSnapshot


class Incoming:
    """All connections that other nodes open to this one.

    Args:
        handshake: this node's part in handshakes.
        objection: a reason to refuse a node that the handshake would admit, or None; given from which host it
            has connected.
        process_objection: the same for this process of it.
        refused: told the id under which a node came that was not admitted, and why in words.
        introduced: told each node that was admitted, and its host; may raise PeerProtocolError to close its
            connection.
        world: what this node runs on.
        storage: where snapshots are received.
        inbox: gets `(peer id, item)`. While it is full, the peers' connections are not read.
        refusals: counts the connections that are refused, and those that end for what came on them.
        snapshot_check: says which snapshots may be taken.
    """

    def __init__(
        self,
        *,
        handshake: Handshake,
        objection: Callable[[Caller, str], str | None],
        process_objection: Callable[[Caller, str], Awaitable[str | None]],
        refused: Callable[[int, str], None],
        introduced: Callable[[Caller, str], None],
        world: World,
        storage: NodeStorage,
        inbox: ByteBoundedQueue[tuple[int, InboxItem]],
        refusals: Refusals,
        snapshot_check: SnapshotCheck,
    ) -> None:
        self._refusals = refusals
        self._handshake = handshake
        self._objection = objection
        self._process_objection = process_objection
        self._refused = refused
        self._introduced = introduced
        self._clock = world.clock
        self._bulk_worker = world.bulk_worker
        self._storage = storage
        self._snapshot_check = snapshot_check
        self._inbox = inbox
        self._node_id = handshake.identity.node_id
        self._rejections = LimitedLog(
            logger,
            world.clock.now,
            REJECTION_INTERVAL_S,
            "a connection to the peer port is closed: ",
            repeat_interval_s=REPEAT_INTERVAL_S,
        )
        self._snapshot_log = LimitedLog(logger, world.clock.now, REJECTION_INTERVAL_S)
        self._entrance = Entrance(world.clock)
        self._streams: dict[int, trio.CancelScope] = {}  # by peer id; one each
        self._shares: dict[int, FairShare] = {}  # by peer id, of known nodes; over all streams of the peer
        self._heard_at: dict[int, float] = {}  # on the stream, by peer id
        self._offering: dict[int, trio.CancelScope] = {}  # connections for a snapshot, before its offer
        self._snapshot = trio.CancelScope()  # the newest connection with an offer
        self._one_snapshot = trio.Lock()
        self._transfer: Transfer | None = None
        self._snapshot_trouble: str | None = None

    @property
    def handshakes_under_way(self) -> int:
        """How many connections have not introduced themselves yet."""
        return len(self._entrance)

    def is_connected(self, peer_id: int) -> bool:
        """Whether this node has a stream from that peer."""
        return peer_id in self._streams

    def has_heard(self, peer_id: int, within_s: float) -> bool:
        """Whether anything has come lately on the stream from that peer."""
        heard_at = self._heard_at.get(peer_id)
        return heard_at is not None and self._clock.now() - heard_at <= within_s

    def transfer_from(self, peer_id: int) -> Transfer | None:
        """The snapshot that is on its way from that peer."""
        transfer = self._transfer
        return transfer if transfer is not None and transfer.peer_id == peer_id else None

    def close(self, peer_id: int) -> None:
        """Close the stream from a peer, if there is one. The peer may connect again."""
        if peer_id in self._streams:
            self._streams[peer_id].cancel()

    async def accept(self, listener: Listener, handler_nursery: trio.Nursery) -> None:
        """Accept connections, and receive from each in a task of `handler_nursery`.

        Cancellation closes the listener. The tasks end with their connections, or raise StorageError.
        """

        async def accept() -> trio.abc.Stream:
            await self._entrance.wait_room()
            return await listener.accept()

        try:
            await keep_accepting(accept, self._receive, handler_nursery, self._clock, "port for peers")
        finally:
            with trio.CancelScope() as at_once:
                at_once.cancel()
                await listener.aclose()

    async def _receive(self, stream: trio.abc.Stream) -> None:
        async with stream:
            caller = await self._admit(stream)
            if caller is None:
                return
            try:
                if caller.is_for_snapshot:
                    await self._receive_snapshot(caller.sender, stream)
                else:
                    await self._receive_stream(caller.sender, stream)
            except PeerProtocolError as error:
                self._refusals.count(Refusal.PROTOCOL)
                self._rejections.note(f"node {caller.sender} broke the protocol: {error}")
            except CONNECTION_ERRORS:
                pass  # its sender sees the same, and connects again

    async def _admit(self, stream: trio.abc.Stream) -> Caller | None:
        """A node that may speak; None if there is nothing to receive, with the reason logged."""
        host = _remote_host(stream)
        try:
            caller = await self._entrance.admit(
                host_of(host),
                partial(
                    self._handshake.admit,
                    stream,
                    lambda caller: self._objection(caller, host),
                    lambda caller: self._process_objection(caller, host),
                ),
            )
            if caller is not None:
                self._introduced(caller, host)
            return caller
        except SecondProcessRefused:
            pass  # `process_objection` has told
        except (PeerProtocolError, *CONNECTION_ERRORS) as error:
            self._refusals.count(Refusal.HANDSHAKE)
            self._rejections.note(reason_of(error))
            if isinstance(error, CallerRefused):
                self._refused(error.node_id, reason_of(error))
        return None

    async def _receive_stream(self, peer_id: int, stream: trio.abc.Stream) -> None:
        # The newest connection wins: a peer opens a new one only after its old one has ended, even if this
        # end of the old one has not noticed that yet, and would never notice if the peer's host had died.
        self.close(peer_id)
        with trio.CancelScope() as scope:
            self._streams[peer_id] = scope
            try:
                await self._receive_frames(peer_id, stream)
            finally:
                if self._streams.get(peer_id) is scope:  # else a newer one has taken its place
                    del self._streams[peer_id]
                    self._heard_at.pop(peer_id, None)

    async def _receive_frames(self, peer_id: int, stream: trio.abc.Stream) -> None:
        share = self._shares.setdefault(peer_id, FairShare(self._inbox, self._clock))
        await share.wait_paid()
        decoder, assembler = FrameDecoder(), PartAssembler()
        while data := await stream.receive_some(RECEIVE_BYTES):
            decoder.feed(data)
            self._heard_at[peer_id] = self._clock.now()
            for payload in decoder:
                await share.receive(len(payload))
                frame, size_bytes = self._decoded(payload, share), len(payload)
                if isinstance(frame, FramePart):
                    whole = assembler.add(frame.data, is_last=frame.is_last)
                    if whole is None:
                        continue
                    frame, size_bytes = self._decoded(whole, share), len(whole)
                    if isinstance(frame, FramePart):
                        raise PeerProtocolError("a part of a part")
                try:
                    self._check(peer_id, frame)
                except PeerProtocolError:
                    share.charge_refused(size_bytes)
                    raise
                for piece in pieces_of(frame):
                    # While either of these waits, this stream is not read, and TCP holds the peer back.
                    await share.take(cost_of(piece))
                    await self._put(peer_id, piece, size_bytes)

    def _decoded(self, payload: bytes, share: FairShare) -> PeerFrame | FramePart:
        try:
            return decode_peer_frame(payload)
        except PeerProtocolError:
            share.charge_refused(len(payload))
            raise

    async def _put(self, peer_id: int, frame: PeerFrame, wire_bytes: int) -> None:
        # A frame of many small messages or entries is larger in memory than on the wire.
        size_bytes = size_of_frame(frame)
        if isinstance(frame, SingleFrame):
            size_bytes = max(size_bytes, wire_bytes)
        # `put` costs a turn of the scheduler even if there is room, so it is left to a full inbox.
        if not self._inbox.try_put((peer_id, frame), size_bytes):
            await self._inbox.put((peer_id, frame), size_bytes)

    def _check(self, peer_id: int, frame: PeerFrame) -> None:
        """Raises PeerProtocolError unless that peer may say this: it speaks for itself, and to this node."""
        if isinstance(frame, Forward):
            if any(proposal_id.node_id != peer_id for proposal_id, _ in frame.proposals):
                raise PeerProtocolError(f"node {peer_id} forwards proposals of another node")
            return
        if isinstance(frame, ForwardChange):
            if frame.id.node_id != peer_id:
                raise PeerProtocolError(f"node {peer_id} forwards a change of another node")
            return
        if isinstance(frame, Refused | MembersQuery | Members):
            return
        for message in frame:
            if message.from_ != peer_id or message.to != self._node_id:
                raise PeerProtocolError(
                    f"a message from node {message.from_} to {message.to} came on node {peer_id}'s stream"
                )
            if message.type not in _NETWORK_TYPES:
                raise PeerProtocolError(f"messages of type {message.type.name} do not travel between nodes")
            if message.snapshot is not None:
                raise PeerProtocolError(f"a snapshot came with a message of type {message.type.name}")
            try:
                check_entries(message.entries)
            except DecodeError as error:
                raise PeerProtocolError(str(error)) from error

    async def _receive_snapshot(self, peer_id: int, stream: trio.abc.Stream) -> None:
        """Receive one snapshot at a time, the leader's newest offer: its older connection may be broken."""
        connection = SnapshotConnection(stream)
        offer = await self._receive_offer(peer_id, connection)
        if offer is None:
            return
        self._snapshot.cancel()
        with trio.CancelScope() as self._snapshot:
            async with self._one_snapshot:  # the older one leaves its file first: both may be of one snapshot
                try:
                    await receive_snapshot(
                        connection,
                        offer,
                        self._storage,
                        self._bulk_worker,
                        self._clock,
                        self._begun,
                        self._snapshot_check.contents,
                        # Of size 0, since its file is on the disk already: the inbox has room for it at once.
                        lambda message: self._inbox.try_put((peer_id, ReceivedSnapshot(message)), 0),
                    )
                    self._snapshot_trouble = None
                except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                    self._snapshot_failed(peer_id, error)
                finally:
                    self._transfer = None

    async def _receive_offer(self, peer_id: int, connection: SnapshotConnection) -> SnapshotOffer | None:
        """What a peer offers on its newest connection; None if that is nothing, with the reason logged."""
        # The snapshot that is under way goes on meanwhile: only a valid offer may end it.
        if peer_id in self._offering:
            self._offering[peer_id].cancel()
        with trio.CancelScope() as scope:
            self._offering[peer_id] = scope
            try:
                return await receive_offer(
                    connection, peer_id, self._node_id, self._snapshot_check.is_of_leader
                )
            except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                self._snapshot_failed(peer_id, error)
            finally:
                if self._offering.get(peer_id) is scope:
                    del self._offering[peer_id]
        return None

    def _snapshot_failed(self, peer_id: int, error: Exception) -> None:
        trouble = f"receiving a snapshot from node {peer_id} failed: {reason_of(error)}"
        # One line while it lasts; if it was not logged, at the next attempt.
        if trouble != self._snapshot_trouble and self._snapshot_log.note(trouble):
            self._snapshot_trouble = trouble

    def _begun(self, transfer: Transfer) -> None:
        self._transfer = transfer


def _remote_host(stream: trio.abc.Stream) -> str:
    """From which host a connection was opened, for people."""
    if isinstance(stream, TcpStream):
        try:
            return str(stream.socket.getpeername()[0])
        except OSError:  # it has ended already
            pass
    return "an unknown host"


async def open_peer_listener(network: Network, address: PeerAddress) -> Listener:
    """Bind the peer address; raises ConfigError if that fails. Cancellation leaves nothing bound."""
    try:
        return await network.listen(address.host, address.port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen for peers at {address.host}:{address.port}: {error.strerror or error};"
            " free that address, or name another with `listen`"
        ) from error
