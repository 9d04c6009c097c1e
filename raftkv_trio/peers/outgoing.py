"""The way to one other member: a stream on which this node only speaks, and connections for snapshots.

A connection that ends is dialled again, with jittered backoff, or at once when the peer has connected to us.
"""

import logging
from collections.abc import Callable

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import DirectoryRefused, PeerProtocolError, RemovedFromCluster
from raftkv_trio.peers.handshake import CheckDirectory, LocalMember, introduce
from raftkv_trio.peers.outbox import Outbox
from raftkv_trio.peers.snapshot_streams import Transfer, send_snapshot
from raftkv_trio.peers.wire import Forward, ForwardChange
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import NodeStorage
from raftkv_trio.sync import Wakeup, cancel_when
from raftkv_trio.world import World, reason_of

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
BACKOFF_S = (0.05, 1.0)
CONNECTION_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class Link:
    """What this node has of one other member: the way to it, and the stream from it, if any.

    Attributes:
        address: where it is dialled.
        member_address: where it is as a member.
        said_address: where it has said that it is, if that has not been tried since.
        scope: of the tasks that keep it.
        dialling: of the connection to its present address.
    """

    def __init__(self, node_id: int, address: PeerAddress, max_outbox_bytes: int) -> None:
        self.node_id = node_id
        self.address = self.member_address = address
        self.said_address: PeerAddress | None = None
        self.scope = trio.CancelScope()
        self.dialling = trio.CancelScope()
        self.outbox = Outbox(max_outbox_bytes)
        self.sent_bytes = 0
        self.trouble: str | None = "not connected yet"
        self.client_url: str | None = None  # what the peer said of itself when last met
        self.receiving: trio.CancelScope | None = None
        self.heard = trio.Event()  # set when the peer connects to us: it is up, so dial it at once
        self.snapshot: Message | None = None  # to be sent
        self.snapshot_wakeup = Wakeup()
        self.sending_snapshot = trio.CancelScope()
        self.transfer: Transfer | None = None  # the snapshot under way to or from it

    def try_elsewhere(self) -> None:
        """It is not where it was dialled: it may have moved, and this node not have heard of that yet."""
        self.address, self.said_address = self.said_address or self.member_address, None


class Dialler:
    """Keeps links: what `Peers` has to send goes out here.

    Args:
        local: what this node says of itself at present.
        check_directory: see `introduce`.
        told_removed: told a peer's id, and the index at which this node was removed, by its word.
        snapshot_sent, unreachable, unsent, directory_refused: see `Peers`.
    """

    def __init__(
        self,
        *,
        local: Callable[[], LocalMember],
        check_directory: CheckDirectory,
        world: World,
        storage: NodeStorage,
        snapshot_sent: Callable[[int, bool], None],
        unreachable: Callable[[int], None],
        unsent: Callable[[Forward | ForwardChange], None],
        directory_refused: Callable[[int], None],
        told_removed: Callable[[int, int], None],
    ) -> None:
        self._local = local
        self._check_directory = check_directory
        self._network = world.network
        self._clock = world.clock
        self._random = world.random
        self._storage = storage
        self._bulk_worker = world.bulk_worker
        self._snapshot_sent = snapshot_sent
        self._unreachable = unreachable
        self._unsent = unsent
        self._directory_refused = directory_refused
        self._told_removed = told_removed

    async def keep(self, link: Link) -> None:
        """Send what is for this peer until `link.scope` is cancelled, dialling again whenever it has to.

        Raises StorageError, and what `directory_refused` does.
        """
        with link.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_sending, link)
                nursery.start_soon(self._keep_sending_snapshots, link)

    async def _keep_sending(self, link: Link) -> None:
        backoff_s = BACKOFF_S[0]
        while True:
            with trio.CancelScope() as link.dialling:
                try:
                    stream = await self._dial(link)
                except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                    _note_trouble(link, error)
                    link.try_elsewhere()
                    if isinstance(error, DirectoryRefused):
                        self._directory_refused(link.node_id)
                    elif isinstance(error, RemovedFromCluster):
                        self._told_removed(link.node_id, error.index)
                else:
                    backoff_s = BACKOFF_S[0]
                    async with stream:
                        await self._send(link, stream)
            link.heard = trio.Event()
            with trio.CancelScope() as pause:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_when, link.heard, pause)
                    await self._clock.sleep_until(
                        self._clock.now() + backoff_s * (0.5 + self._random.random())
                    )
                    pause.cancel()
            backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    async def _keep_sending_snapshots(self, link: Link) -> None:
        while True:
            await link.snapshot_wakeup.wait()
            message, link.snapshot = link.snapshot, None
            if message is None:
                continue
            with trio.CancelScope() as link.sending_snapshot:
                self._snapshot_sent(link.node_id, await self._send_snapshot(link, message))

    async def _send_snapshot(self, link: Link, message: Message) -> bool:
        """Send it, however often the connection breaks, as long as something of it gets through each time."""

        has_moved = False

        def under_way(transfer: Transfer | None) -> None:
            nonlocal has_moved
            if transfer is None and link.transfer is not None:
                has_moved = link.transfer.done_bytes > link.transfer.begun_bytes
            link.transfer = transfer

        while True:
            has_moved = False
            try:
                async with await self._dial(link, is_for_snapshot=True) as stream:
                    await send_snapshot(
                        stream, message, self._storage, self._bulk_worker, self._clock, under_way
                    )
                return True
            except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                logger.warning("the snapshot for node %d stops: %s", link.node_id, reason_of(error))
                if not has_moved:
                    return False
            await self._clock.sleep_until(self._clock.now() + BACKOFF_S[0] * (0.5 + self._random.random()))

    async def _dial(self, link: Link, *, is_for_snapshot: bool = False) -> trio.abc.Stream:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            stream = await self._network.connect(link.address.host, link.address.port)
        try:
            welcome = await introduce(
                stream,
                self._local(),
                link.node_id,
                self._check_directory,
                is_for_snapshot=is_for_snapshot,
            )
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        link.client_url = welcome.client_url
        return stream

    async def _send(self, link: Link, stream: trio.abc.Stream) -> None:
        logger.info("connected to node %d at %s", link.node_id, link.address.url)
        link.trouble = None
        link.outbox.connected = True
        try:
            with trio.CancelScope() as until_closed:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when_closed, stream, until_closed)
                    try:
                        while True:
                            frame = await link.outbox.take_frame()
                            await stream.send_all(frame)
                            link.sent_bytes += len(frame)
                    except CONNECTION_ERRORS:
                        until_closed.cancel()  # told below, the same as when the peer closes it
        finally:
            for item in link.outbox.clear():
                if isinstance(item, Forward | ForwardChange):
                    self._unsent(item)
            self._unreachable(link.node_id)
        _note_trouble(link, PeerProtocolError("the connection was closed by the peer"))


async def _cancel_when_closed(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    """A peer never speaks on a stream that we opened: whatever comes, at best its end, ends it."""
    try:
        await stream.receive_some(1)
    except CONNECTION_ERRORS:
        pass
    scope.cancel()


def _note_trouble(link: Link, error: Exception) -> None:
    trouble = reason_of(error)
    if trouble != link.trouble:  # an unreachable peer is one line, not one a second
        logger.warning("node %d at %s: %s", link.node_id, link.address.url, trouble)
    link.trouble = trouble
