"""Streams to and from the other members: one to each, on which this node only speaks, and one from each, on
which it only listens; and connections of their own for snapshots (`snapshot_streams.py`).

An error of a connection ends that connection: senders reconnect with jittered backoff, receivers wait to be
connected to again. What goes up is an error of this node's own disk, met while learning a peer's directory
id, and what is raised by `directory_refused`.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.directory_ids import DirectoryIds
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake import RECEIVE_BYTES, LocalMember, admit
from raftkv_trio.peers.handshake_frames import Hello
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.outgoing import BACKOFF_S, CONNECTION_ERRORS, Dialler, Link
from raftkv_trio.peers.snapshot_streams import Transfer, receive_snapshot
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    InboxItem,
    PeerFrame,
    ReceivedSnapshot,
    Refused,
    decode_peer_frame,
)
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.storage import Identity, NodeStorage
from raftkv_trio.sync import ByteBoundedQueue
from raftkv_trio.world import Clock, Listener, Network, World, reason_of

logger = logging.getLogger(__name__)

MAX_HANDSHAKES = 64
MAX_LINKS = 64
PARTING_S = 1.0
REJECTION_INTERVAL_S = 1.0

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


class Rejections:
    """Says why connections are turned away, in one line an interval: strangers must not fill the log."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quiet_until = clock.now()
        self._unsaid = 0

    def note(self, reason: str) -> None:
        now = self._clock.now()
        if now < self._quiet_until:
            self._unsaid += 1
            return
        more = f"; {self._unsaid} more since the last line" if self._unsaid else ""
        logger.warning("a connection to the peer port is closed: %s%s", reason, more)
        self._quiet_until = now + REJECTION_INTERVAL_S
        self._unsaid = 0


class Peers:
    """All links of a node. The driver offers messages to them and reads what came from them in its inbox.

    Args:
        envelope: the members, as far as this node can know before it has applied its log; see `update`.
        client_url: told to peers, as where clients reach this node.
        inbox: gets `(peer id, frame)` of every valid frame; a full inbox holds the peers' connections up.
        unreachable: told the id of a peer whose connection ended.
        unsent: told the proposals that certainly never left for a peer.
        storage: what snapshots are read from and written to.
        snapshot_sent: told the id of a peer, and whether a snapshot has arrived there.
        directory_refused: told the id of a peer that knows this node by another data directory; may raise.
        told_removed: told the index at which this node was removed, by a member's word.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        envelope: Envelope,
        directory_ids: DirectoryIds,
        world: World,
        max_outbox_bytes: int,
        client_url: str | None,
        inbox: ByteBoundedQueue[tuple[int, InboxItem]],
        storage: NodeStorage,
        snapshot_sent: Callable[[int, bool], None],
        unreachable: Callable[[int], None],
        unsent: Callable[[Forward | ForwardChange], None],
        directory_refused: Callable[[int], None],
        told_removed: Callable[[int], None],
    ) -> None:
        self._identity = identity
        self._directory_ids = directory_ids
        self._network = world.network
        self._clock = world.clock
        self._client_url = client_url
        self._inbox = inbox
        self._storage = storage
        self._bulk_worker = world.bulk_worker
        self._receiving_snapshot = trio.CancelScope()
        self._receiving_one = trio.Lock()
        self._dialler = Dialler(
            local=self._local,
            check_directory=self._check_directory,
            world=world,
            storage=storage,
            snapshot_sent=snapshot_sent,
            unreachable=unreachable,
            unsent=unsent,
            directory_refused=directory_refused,
            told_removed=self._removed_by,
        )
        self._told_removed = told_removed
        self._max_outbox_bytes = max_outbox_bytes
        self._nursery: trio.Nursery | None = None
        self._handshakes: deque[trio.CancelScope] = deque()  # oldest first
        self._rejections = Rejections(world.clock)
        self.links: dict[int, Link] = {}
        self._envelope = envelope
        self.update(envelope)

    def update(self, envelope: Envelope) -> None:
        """The members have changed: whoever is new is dialled, whoever is removed is let go.

        A member that is not in `envelope` yet, and has introduced itself, is kept; when it is in it, it has
        to introduce itself again, so that its directory id is learnt.
        """
        strangers = self.links.keys() - self._envelope.members.keys()
        self._envelope = envelope
        for node_id, address in sorted(envelope.addresses.items()):
            if node_id == self._identity.node_id:
                continue
            link = self.links.get(node_id)
            if link is None:
                self._add_link(node_id, address)
                continue
            if node_id in strangers and link.receiving is not None:
                link.receiving.cancel()
            if node_id in strangers or link.member_address != address:
                link.address = link.member_address = address
                link.dialling.cancel()
        for node_id in envelope.removed.keys() & self.links.keys():
            link = self.links.pop(node_id)
            if self._nursery is not None:
                self._nursery.start_soon(self._part_with, link)

    async def _part_with(self, link: Link) -> None:
        """Cut a removed member off, when it has had the time to hear that its removal is committed.

        Told so by its own log it can answer whoever asked it to; after that, by whomever it dials.
        """
        await self._clock.sleep_until(self._clock.now() + PARTING_S)
        link.scope.cancel()
        if link.receiving is not None:
            link.receiving.cancel()

    def _removed_by(self, peer_id: int, index: int) -> None:
        """A node that is not known to be a member could end this one by a lie."""
        if peer_id in self._envelope.members:
            self._told_removed(index)

    def _add_link(self, node_id: int, address: PeerAddress) -> Link:
        link = self.links[node_id] = Link(node_id, address, self._max_outbox_bytes)
        if self._nursery is not None:
            self._nursery.start_soon(self._dialler.keep, link)
        return link

    def _local(self) -> LocalMember:
        own = self._envelope.members.get(self._identity.node_id)
        return LocalMember(self._identity, own and own.address.url, self._client_url)

    @property
    def handshakes_under_way(self) -> int:
        """How many connections have not introduced themselves yet."""
        return len(self._handshakes)

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        """Queue for a peer; False where it is not connected, its outbox is full, or it is unknown."""
        link = self.links.get(peer_id)
        return link is not None and link.outbox.offer(items)

    def send_snapshot(self, message: Message) -> bool:
        """Send a SNAP message with its file; `snapshot_sent` is told the end. False where it is unknown.

        A second one for the same peer takes the place of the first.
        """
        link = self.links.get(message.to)
        if link is None:
            return False
        link.snapshot = message
        link.sending_snapshot.cancel()
        link.snapshot_wakeup.set()
        return True

    async def run(
        self, listen: PeerAddress, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and keep every link; `started` once the address is bound.

        Raises ConfigError where the address cannot be bound, StorageError, and what `directory_refused` does.
        Cancellation closes all.
        """
        listener = await open_peer_listener(self._network, listen)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._accept, listener, nursery)
                for link in self.links.values():
                    nursery.start_soon(self._dialler.keep, link)
        finally:
            self._nursery = None  # a snapshot may still be being restored, and have other members

    # ------------------------------------------------------------ from a peer

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        try:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # out of file descriptors, most likely: others will be closed
                    logger.warning("cannot accept a peer's connection: %s", error)
                    await self._clock.sleep_until(self._clock.now() + BACKOFF_S[1])
                    continue
                nursery.start_soon(self._receive, stream)
        finally:
            with trio.CancelScope() as at_once:
                at_once.cancel()
                await listener.aclose()

    async def _receive(self, stream: trio.abc.Stream) -> None:
        async with stream:
            hello = await self._admit(stream)
            if hello is None:
                return
            peer_id = hello.sender
            link = self._link_of(hello)
            if link is None:
                return
            link.client_url = hello.client_url
            if hello.is_for_snapshot:
                await self._receive_snapshot(link, stream)
                return
            link.heard.set()
            if link.receiving is not None:
                link.receiving.cancel()  # the peer has reconnected: this is the old stream's end
            with trio.CancelScope() as link.receiving:
                try:
                    await self._receive_frames(peer_id, stream)
                except PeerProtocolError as error:
                    self._rejections.note(f"node {peer_id} broke the protocol: {error}")
                except CONNECTION_ERRORS:
                    pass  # its sender sees the same and connects again

    def _link_of(self, hello: Hello) -> Link | None:
        """The link to whoever has introduced itself; a new one where this node had not heard of it yet."""
        link = self.links.get(hello.sender)
        if hello.peer_url is None or hello.sender in self._envelope.removed:
            return link
        try:
            address = PeerAddress.parse(hello.peer_url)
        except ConfigError as error:
            self._rejections.note(str(error))
            return None
        if link is not None:
            link.said_address = address
            return link
        logger.info("node %d at %s is not known to be a member yet", hello.sender, address.url)
        return self._add_link(hello.sender, address)

    async def _receive_snapshot(self, link: Link, stream: trio.abc.Stream) -> None:
        """One at a time, and the newest: the sender of an older one may be a leader no more."""

        def under_way(transfer: Transfer | None) -> None:
            link.transfer = transfer

        self._receiving_snapshot.cancel()
        with trio.CancelScope() as self._receiving_snapshot:
            async with self._receiving_one:
                try:
                    message = await receive_snapshot(
                        stream,
                        link.node_id,
                        self._identity.node_id,
                        self._storage,
                        self._bulk_worker,
                        self._clock,
                        under_way,
                    )
                    await self._inbox.put((link.node_id, ReceivedSnapshot(message)), 0)
                except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                    reason = reason_of(error)
                    logger.warning("the snapshot from node %d stops: %s", link.node_id, reason)

    async def _admit(self, stream: trio.abc.Stream) -> Hello | None:
        """What the peer at the other end says; None where it is none, or too many others came after it."""
        with trio.CancelScope() as handshake:
            self._handshakes.append(handshake)
            if len(self._handshakes) > MAX_HANDSHAKES:
                # The oldest gives way, not the newest: a member needs no more than a moment.
                self._handshakes.popleft().cancel()
            try:
                return await admit(stream, self._local(), self._envelope, self._check_directory)
            except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                self._rejections.note(reason_of(error))
            finally:
                if handshake in self._handshakes:
                    self._handshakes.remove(handshake)
        if handshake.cancelled_caught:
            self._rejections.note(f"{MAX_HANDSHAKES} others came before it had introduced itself")
        return None

    async def _check_directory(self, node_id: int, directory_id: bytes) -> bool:
        """As `DirectoryIds.check`; but of who is no member yet nothing is learnt: its id is still free."""
        if node_id not in self._envelope.members:
            if node_id not in self.links and len(self.links) >= MAX_LINKS:
                raise PeerProtocolError(f"node {node_id} is no member yet, and there are {MAX_LINKS} others")
            return not self._directory_ids.is_other(node_id, directory_id)
        return await self._directory_ids.check(node_id, directory_id)

    async def _receive_frames(self, peer_id: int, stream: trio.abc.Stream) -> None:
        decoder = FrameDecoder()
        while data := await stream.receive_some(RECEIVE_BYTES):
            decoder.feed(data)
            for payload in decoder:
                frame = decode_peer_frame(payload)
                self._check(peer_id, frame)
                if not self._inbox.try_put((peer_id, frame), len(payload)):
                    await self._inbox.put((peer_id, frame), len(payload))

    def _check(self, peer_id: int, frame: PeerFrame) -> None:
        if isinstance(frame, Forward):
            if any(proposal_id.node_id != peer_id for proposal_id, _ in frame.proposals):
                raise PeerProtocolError(f"node {peer_id} forwards proposals of another node")
            return
        if isinstance(frame, ForwardChange):
            if frame.id.node_id != peer_id:
                raise PeerProtocolError(f"node {peer_id} forwards a change of another node")
            return
        if isinstance(frame, Refused):
            return
        for message in frame:
            if message.from_ != peer_id or message.to != self._identity.node_id:
                raise PeerProtocolError(
                    f"a message from node {message.from_} to {message.to} came on node {peer_id}'s stream"
                )
            if message.type not in _NETWORK_TYPES:
                raise PeerProtocolError(f"a {message.type.name} message does not travel between nodes")


async def open_peer_listener(network: Network, address: PeerAddress) -> Listener:
    """Bind the peer address; raises ConfigError where that cannot be done."""
    try:
        return await network.listen(address.host, address.port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen for peers at {address.host}:{address.port}: {error.strerror or error};"
            " free that address, or name another with --listen-peer"
        ) from error
