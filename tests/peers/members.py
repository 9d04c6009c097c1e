"""Members without a driver: real streams, real directories, and what a driver would be told."""

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST, Levels, objection_to_levels
from raftkv_trio.peers.handshake_frames import Admission
from raftkv_trio.peers.incoming import InboxItem, SnapshotCheck
from raftkv_trio.peers.peer_keys import PeerKeys
from raftkv_trio.peers.peers import Peers
from raftkv_trio.peers.refusals import Refusals
from raftkv_trio.peers.wire import Forward, ForwardChange
from raftkv_trio.raft.types import ConfState, Message, MessageType
from raftkv_trio.storage import Bootstrap, Disk, NodeStorage, OsDisk, open_storage
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import Network, TcpNetwork, ThreadWorker, World
from tests.peers.handmade import CLUSTER_ID, dialled


class RecordedEvents:
    """What a driver would be told, in order."""

    def __init__(self) -> None:
        self.sent_snapshots: list[tuple[int, bool]] = []
        self.lost_peers: list[int] = []
        self.unsent_forwards: list[Forward | ForwardChange] = []

    def snapshot_sent(self, peer_id: int, ok: bool) -> None:
        self.sent_snapshots.append((peer_id, ok))

    def unreachable(self, peer_id: int) -> None:
        self.lost_peers.append(peer_id)

    def unsent(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        self.unsent_forwards.append(forward)


class KnownIds(set[int]):
    """The ids of the nodes that a member listens to, and of those that it does not and that came.

    Attributes:
        by_secret: those that it listens to only because they have proved the secret.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        super().__init__(ids)
        self.strangers: list[int] = []
        self.by_secret: set[int] = set()

    def __contains__(self, node_id: object) -> bool:
        return super().__contains__(node_id) or node_id in self.by_secret

    def came(self, node_id: int) -> None:
        self.strangers.append(node_id)

    def proved(self, node_id: int) -> None:
        self.by_secret.add(node_id)

    def parted(self, node_id: int) -> None:
        self.by_secret.discard(node_id)


class FixedLevels:
    """The feature levels of a member, as a test sets them; the rules are the real ones.

    Attributes:
        applied: up to which index it has applied the log.
        needed: the level that others have to know.
    """

    def __init__(self, node_id: int, levels: Levels = Levels(HIGHEST)) -> None:  # noqa: B008 - immutable
        self._node_id = node_id
        self.levels = levels
        self.needed = levels.level
        self.applied = 1

    def told(self) -> Levels:
        return self.levels

    def objection(self, peer_id: int, peer: Levels) -> str | None:
        return objection_to_levels(self._node_id, self.levels, self.needed, self.applied, peer_id, peer)


class BareMember:
    """The peers of one node, and what the rest of the node would be told."""

    def __init__(
        self,
        node_id: int,
        addresses: dict[int, PeerAddress],
        directory: Path,
        cluster_id: int = CLUSTER_ID,
        disk: Disk | None = None,
        secret: bytes | None = None,
        snapshot_check: SnapshotCheck | None = None,
        network: Network | None = None,
        levels: FixedLevels | None = None,
    ) -> None:
        bootstrap = Bootstrap(cluster_id=cluster_id, conf_state=ConfState(voters=(1, 2)), envelope=b"-")
        self.storage: NodeStorage = open_storage(
            disk or OsDisk(), directory, node_id=node_id, bootstrap=bootstrap, rng=random.Random()
        )
        self.node_id = node_id
        self.address = addresses[node_id]
        self.wakeup = Wakeup()
        self.inbox: ByteBoundedQueue[tuple[int, InboxItem]] = ByteBoundedQueue(self.wakeup, 1 << 20)
        self.events = RecordedEvents()
        self.directory_refused: list[int] = []
        self.told_removed: list[tuple[int, int]] = []  # by whom, and the index
        self.known = KnownIds(addresses)
        self.refusals = Refusals(World().clock)
        self.levels = levels or FixedLevels(node_id)
        self.peers = Peers(
            identity=self.storage.identity,
            boot_nonce=random.getrandbits(63),
            envelope=Envelope.of(addresses),
            peer_keys=PeerKeys(self.storage, ThreadWorker()),
            cluster_secret=secret,
            world=World(network=network or TcpNetwork()),
            max_outbox_bytes=1 << 20,
            client_url=f"http://node-{node_id}",
            etcd_url=None,
            inbox=self.inbox,
            storage=self.storage,
            events=self.events,
            known=self.known,
            levels=self.levels,
            refusals=self.refusals,
            directory_refused=self.directory_refused.append,
            told_removed=lambda peer_id, index: self.told_removed.append((peer_id, index)),
            snapshot_check=snapshot_check or SnapshotCheck(lambda message: True, lambda meta, parts: None),
        )

    def heartbeat(self, to: int, commit: int = 0) -> Message:
        return Message(type=MessageType.HEARTBEAT, to=to, from_=self.node_id, term=1, commit=commit)

    async def received(self, count: int) -> list[tuple[int, InboxItem]]:
        got: list[tuple[int, InboxItem]] = []
        while len(got) < count:
            await self.wakeup.wait()
            got.extend(self.inbox.drain())
        return got


@asynccontextmanager
async def running(*members: BareMember) -> AsyncIterator[None]:
    try:
        with trio.fail_after(180):  # a stuck test ends; ten thousand connections take a slow machine a minute
            async with trio.open_nursery() as nursery:
                for member in members:
                    await nursery.start(member.peers.run, member.address)
                yield
                nursery.cancel_scope.cancel()
    finally:
        for member in members:
            member.storage.close(clean=True)


async def until(condition: Callable[[], object]) -> None:
    """Poll: what is waited for shows in a log line or at a peer, where no event can be awaited."""
    while not condition():  # noqa: ASYNC110 - see above
        await trio.sleep(0.01)


async def connected(member: BareMember, peer_id: int) -> None:
    await until(lambda: member.peers.outgoing[peer_id].outbox.is_open)


async def in_trouble(member: BareMember, peer_id: int, words: str) -> None:
    await until(lambda: words in (member.peers.outgoing[peer_id].trouble or ""))


async def introduced(
    address: PeerAddress, *, sender: int = 2, peer_url: str | None = None, local_host: str | None = None
) -> tuple[trio.SocketStream, Admission]:
    """A connection on which node 2, or another, has introduced itself to node 1, and the answer."""
    stream, side = await dialled(address, node_id=sender, local_host=local_host)
    return stream, await side.dial(peer_url=peer_url, client_url=f"http://node-{sender}")


async def admitted(address: PeerAddress, *, local_host: str | None = None) -> trio.SocketStream:
    """A connection on which node 2 has introduced itself, and was admitted."""
    stream, admission = await introduced(address, local_host=local_host)
    assert admission.reason is None
    return stream
