"""All connections of a node to and from other members, as the node sees them.

`Peers` keeps one `Outgoing` for each other member, and for each node that has introduced itself and is not a
member yet, as far as this node knows; and one `Incoming` for the connections that others open.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.foreign_text import LimitedLog, printable
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.handshake import Caller, Handshake, PeerLevels
from raftkv_trio.peers.incoming import (
    REJECTION_INTERVAL_S,
    InboxItem,
    Incoming,
    SnapshotCheck,
    open_peer_listener,
)
from raftkv_trio.peers.newcomers import MAX_LINKS, Known, Newcomers
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.outgoing import Outgoing, PeerEvents
from raftkv_trio.peers.peer_keys import PeerKeys
from raftkv_trio.peers.processes import ALIVE_S, Process, SecondProcess, is_alive, two_processes
from raftkv_trio.peers.refusals import Refusals
from raftkv_trio.peers.snapshot_streams import Transfer
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import Identity, NodeStorage
from raftkv_trio.sync import ByteBoundedQueue
from raftkv_trio.world import World

logger = logging.getLogger(__name__)

#: From the removal of a member to the end of the connections with it.
PARTING_S = 1.0
#: How long a node that reaches others waits for a connection of one of them until it says what is wrong.
UNREACHED_S = 5.0
LOOK_EVERY_S = 1.0


class Peers:
    """All peers of a node: the driver sends with it (`PeerTransport`), and its inbox gets what peers say.

    Args:
        identity: of this node's data directory.
        boot_nonce: the number of this process.
        envelope: the members, as far as this node knows before it has applied its log; see `update`.
        peer_keys: by which the members are known.
        cluster_secret: what all nodes of the cluster share, if they do.
        world: what this node runs on.
        max_outbox_bytes: bound of what waits for one peer.
        client_url, etcd_url: where this node listens for clients, and for those of etcd's API, to be told to
            peers.
        inbox: gets `(peer id, item)` for all that peers say. While it is full, no peer's connection is read.
        storage: where snapshots are read and received.
        events: what the driver is told.
        known: the nodes that may say more than a Hello.
        levels: the feature levels of this node.
        refusals: counts what is refused.
        directory_refused: given the id of a peer that knows this node by another data directory. May raise.
        told_removed: given the id of a member that has proved who it is, and the index at which it says that
            this node was removed.
        snapshot_check: says which snapshots of peers may be taken.

    Attributes:
        outgoing: by peer id. For reading only.
        incoming: the connections that others open. For reading only.
        unreached: what is wrong if this node reaches others and none of them reaches it; None if all is well.
        second_process: what members have told of a second process under this node's id.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        boot_nonce: int,
        envelope: Envelope,
        peer_keys: PeerKeys,
        cluster_secret: bytes | None,
        world: World,
        max_outbox_bytes: int,
        client_url: str | None,
        etcd_url: str | None,
        inbox: ByteBoundedQueue[tuple[int, InboxItem]],
        storage: NodeStorage,
        events: PeerEvents,
        known: Known,
        levels: PeerLevels,
        refusals: Refusals,
        directory_refused: Callable[[int], None],
        told_removed: Callable[[int, int], None],
        snapshot_check: SnapshotCheck,
    ) -> None:
        self._node_id = identity.node_id
        self._world = world
        self._storage = storage
        self._max_outbox_bytes = max_outbox_bytes
        self._events = events
        self._known = known
        self._directory_refused = directory_refused
        self._told_removed = told_removed
        self.second_process = SecondProcess(world.clock)
        self._second_processes: dict[int, SecondProcess] = {}  # of members, by id
        self._strangers = LimitedLog(logger, world.clock.now, REJECTION_INTERVAL_S)
        self._peer_keys = peer_keys
        self._handshake = Handshake(
            identity=identity,
            boot_nonce=boot_nonce,
            client_url=client_url,
            etcd_url=etcd_url,
            envelope=envelope,
            peer_keys=peer_keys,
            cluster_secret=cluster_secret,
            random=world.random,
            levels=levels,
            second_process=self.second_process.told,
        )
        self._nursery: trio.Nursery | None = None  # while `run` runs
        self.outgoing: dict[int, Outgoing] = {}
        self.unreached: str | None = None
        self.incoming = Incoming(
            handshake=self._handshake,
            objection=self._objection,
            process_objection=self._process_objection,
            refused=self._refused,
            introduced=self._introduced,
            world=world,
            storage=storage,
            inbox=inbox,
            refusals=refusals,
            snapshot_check=snapshot_check,
        )
        self._newcomers = Newcomers(self.outgoing, self.incoming, known)
        self.update(envelope)

    # ------------------------------------------------------------ for the driver

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        """Queue for a peer (`Outbox.offer`); False if it is unknown, has no stream, or no room for some."""
        outgoing = self.outgoing.get(peer_id)
        return outgoing is not None and outgoing.offer(items)

    def send_snapshot(self, message: Message) -> bool:
        """Begin to send the file of a SNAP message; `snapshot_sent` is told the end. False if it is unknown.

        A snapshot that is being sent to the same peer is given up for it.
        """
        outgoing = self.outgoing.get(message.to)
        if outgoing is None:
            return False
        outgoing.send_snapshot(message)
        return True

    def highest_level(self, peer_id: int) -> int | None:
        """As `PeerTransport.highest_level`."""
        outgoing = self.outgoing.get(peer_id)
        return None if outgoing is None else outgoing.highest_level

    # ------------------------------------------------------------ for the node

    def transfer(self, peer_id: int) -> Transfer | None:
        """The snapshot that is on its way to or from a peer, if there is one."""
        outgoing = self.outgoing.get(peer_id)
        return (outgoing and outgoing.transfer) or self.incoming.transfer_from(peer_id)

    async def forget(self, node_id: int) -> bool:
        """Forget the key by which a node is known, and meet that node anew; whether there was one.

        Raises StorageError, and OSError if the disk has no room. Cancellation may leave it forgotten.
        """
        was_known = await self._peer_keys.forget(node_id)
        if was_known:
            logger.warning(
                "an operator has had the data directory of node %d forgotten; the next one that comes under"
                " that id is taken for it",
                node_id,
            )
        self.incoming.close(node_id)
        if (outgoing := self.outgoing.get(node_id)) is not None:
            outgoing.redial(outgoing.recorded_address)
        return was_known

    def update(self, envelope: Envelope) -> None:
        """The members have changed: dial new ones, redial those that moved, and part with removed ones.

        A node that had introduced itself before this node knew it as a member was not asked for its key. So
        its connections both ways are closed, and the handshake of the next ones learns the key.
        """
        self._handshake.envelope = envelope
        for node_id, address in sorted(envelope.addresses.items()):
            if node_id == self._node_id:
                continue
            outgoing = self.outgoing.get(node_id)
            if outgoing is None:
                self._add(node_id, address)
            elif node_id in self._newcomers:
                self._newcomers.discard(node_id)
                self.incoming.close(node_id)
                outgoing.redial(address)
            elif address != outgoing.recorded_address:
                outgoing.redial(address)
        for node_id in envelope.removed.keys() & self.outgoing.keys():
            outgoing = self.outgoing.pop(node_id)  # nothing more is taken for it
            self._newcomers.discard(node_id)
            self._second_processes.pop(node_id, None)
            if self._nursery is not None:
                self._nursery.start_soon(self._part_with, outgoing)

    def confirmed(self, by: int, addresses: Mapping[int, PeerAddress]) -> None:
        """A member says that these are members, which this node has not heard of yet: dial them."""
        for node_id, address in sorted(addresses.items()):
            if node_id not in self.outgoing and node_id != self._node_id:
                cause = f"node {by}"
                if self._newcomers.has_room(cause):
                    logger.info("node %d at %s is a member, as node %d says", node_id, address.url, by)
                    self._add_newcomer(node_id, address, cause)

    async def run(
        self, listen: PeerAddress, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen, and keep the connections to all peers; `started` once the address is bound.

        Raises ConfigError if the address cannot be bound, StorageError, and what `directory_refused` raises,
        the latter two in groups. Cancellation closes all connections.
        """
        listener = await open_peer_listener(self._world.network, listen)
        logger.info("node %d listens for peers at %s", self._node_id, listen.url.removeprefix("http://"))
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.incoming.accept, listener, nursery)
                nursery.start_soon(self._watch)
                for outgoing in self.outgoing.values():
                    nursery.start_soon(outgoing.run)
        finally:
            self._nursery = None  # the applier may still restore a snapshot, and `update` the members

    async def _watch(self) -> None:
        """Look after the newcomers; note, and warn, if nobody can reach this node, which else waits silently.

        Each node speaks only on connections that it opens. So a node whose URL is wrong, or does not resolve
        where the others are, is connected to all of them, and hears nothing.
        """
        clock = self._world.clock
        since = clock.now()
        while True:
            await clock.sleep_until(clock.now() + LOOK_EVERY_S)
            self._newcomers.look()
            reached = [i for i, outgoing in sorted(self.outgoing.items()) if outgoing.trouble is None]
            if not reached or any(map(self.incoming.is_connected, self.outgoing)):
                since, self.unreached = clock.now(), None
            elif self.unreached is None and clock.now() - since >= UNREACHED_S:
                own = self._handshake.envelope.members.get(self._node_id)
                names = ", ".join(map(str, reached))
                self.unreached = (
                    f"this node is connected to node {names}, but no member connects to it"
                    f" at {own.address.url if own else 'its URL'}; check that this URL resolves and leads"
                    " here from the other members"
                )
                logger.warning("%s", self.unreached)

    # ------------------------------------------------------------ told by both directions

    def _objection(self, caller: Caller, host: str) -> str | None:
        """Refuse a node that is not known; once it is, the next connection that it opens is admitted.

        One that has proved the cluster's secret is of this cluster, whether anybody can say so or not.
        """
        if caller.sender not in self._known and not caller.is_of_cluster:
            self._known.came(caller.sender)
            return (
                f"node {caller.sender} is not known to be a member here; this node asks the members that it"
                " knows, or if none of them is left, start it with a `--cluster` that names present members"
            )
        # It is dialled and kept, and no member yet, as far as this node has applied its log.
        if caller.sender not in self.outgoing and not self._newcomers.has_room(host):
            return f"this node has {MAX_LINKS} peers already"
        return None

    async def _process_objection(self, caller: Caller, host: str) -> str | None:
        """Refuse a second process under a member's id while the first one is alive; both are told.

        Else the connections with that one, which has ended, are closed.
        """
        outgoing = self.outgoing.get(caller.sender)
        if outgoing is None:  # not known yet, and let in for the first time
            return None
        place = f"{host} (clients at {printable(str(caller.client_url))})"
        first, process = outgoing.process, Process(caller.boot_nonce, place)
        if first is None or first.boot_nonce == caller.boot_nonce:
            outgoing.is_process(process)
            return None
        sentence = two_processes(caller.sender, first, process)
        # Answers at its address, or speaks on its stream: it may listen where this node cannot reach it.
        if await is_alive(
            self._handshake, self._world.network, caller.sender, outgoing.address, first, sentence
        ) or self.incoming.has_heard(caller.sender, ALIVE_S):
            seen = self._second_processes.setdefault(caller.sender, SecondProcess(self._world.clock))
            seen.told(sentence)
            return sentence
        if outgoing.process == first:  # else another connection was quicker
            self.incoming.close(caller.sender)
            outgoing.is_process(process)
        return None

    def _refused(self, node_id: int, sentence: str) -> None:
        if (outgoing := self.outgoing.get(node_id)) is not None:
            outgoing.was_refused(sentence)

    def _introduced(self, caller: Caller, host: str) -> None:
        """A node was admitted. If this node does not know it yet, it is dialled from now on.

        The cluster may have added that node while this one was down, and it may lead by now: without an
        answer to its messages this node would never hear of that. Raises PeerProtocolError if the
        connection is to be closed.
        """
        try:
            address = None if caller.peer_url is None else PeerAddress.parse(caller.peer_url)
        except ConfigError as error:
            raise PeerProtocolError(str(error)) from error
        outgoing = self.outgoing.get(caller.sender)
        if outgoing is None:
            if address is None or caller.sender in self._handshake.envelope.removed:
                raise PeerProtocolError(f"node {caller.sender} was removed while it introduced itself")
            self._strangers.note(f"node {caller.sender} at {address.url} is not known to be a member yet")
            outgoing = self._add_newcomer(caller.sender, address, host)
        if caller.is_of_cluster and caller.sender in self._newcomers:
            self._known.proved(caller.sender)
        outgoing.announce(address, caller.client_url, caller.etcd_url)
        if not caller.is_for_snapshot:
            outgoing.has_connected()

    def _removed_by(self, peer_id: int, index: int) -> None:
        """Believe only a member: any node that introduces itself is dialled, and this word may end a node."""
        if peer_id in self._handshake.envelope.members:
            self._told_removed(peer_id, index)

    def _refused_by(self, peer_id: int, sentence: str) -> None:
        """A node refuses this process for another one: believe only a member, as this makes it unhealthy."""
        if peer_id in self._handshake.envelope.members:
            self.second_process.told(sentence, is_refused=True)

    def _add_newcomer(self, node_id: int, address: PeerAddress, cause: str) -> Outgoing:
        self._newcomers.make_room(cause)
        self._newcomers.add(node_id, cause)
        return self._add(node_id, address)

    def _add(self, node_id: int, address: PeerAddress) -> Outgoing:
        outgoing = self.outgoing[node_id] = Outgoing(
            node_id,
            address,
            handshake=self._handshake,
            world=self._world,
            storage=self._storage,
            max_outbox_bytes=self._max_outbox_bytes,
            events=self._events,
            directory_refused=self._directory_refused,
            told_removed=self._removed_by,
            second_process=partial(self._refused_by, node_id),
        )
        if self._nursery is not None:
            self._nursery.start_soon(outgoing.run)
        return outgoing

    async def _part_with(self, outgoing: Outgoing) -> None:
        """Disconnect a removed member, after the time that it needs to hear that its removal is committed.

        So it can learn that from its own log, and answer the client that asked for it. If it does not, each
        member that it dials later tells it so in the handshake.
        """
        await self._world.clock.sleep_until(self._world.clock.now() + PARTING_S)
        outgoing.close()
        self.incoming.close(outgoing.node_id)
