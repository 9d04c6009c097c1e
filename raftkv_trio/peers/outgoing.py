"""What goes out to one member: messages on one stream, and each snapshot on a connection of its own.

This node only speaks on them; what the member has to say comes on connections that it opens
(`incoming.py`). A connection that ends is dialled again after a jittered backoff, or at once if the member
connects to this node, since then it is up. An error of a connection ends that connection.
"""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import (
    DirectoryRefused,
    PeerProtocolError,
    RemovedFromCluster,
    SecondProcessRefused,
)
from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.peers.connection import CONNECTION_ERRORS
from raftkv_trio.peers.handshake import Handshake
from raftkv_trio.peers.outbox import Item, Outbox
from raftkv_trio.peers.processes import Process
from raftkv_trio.peers.snapshot_sender import SnapshotSender, jittered
from raftkv_trio.peers.snapshot_streams import Transfer
from raftkv_trio.peers.wire import Forward, ForwardChange
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import NodeStorage
from raftkv_trio.sync import cancelled_when
from raftkv_trio.tcp_stream import GONE, TcpStream
from raftkv_trio.tls.network import PeerStream
from raftkv_trio.world import World, reason_of

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
#: So long after its own start a node expects that another one is not there yet.
STARTING_S = 5.0
_REFUSED = os.strerror(errno.ECONNREFUSED)
#: The first and the longest pause before a member is dialled again, before jitter.
BACKOFF_S = (0.05, 1.0)
#: A stream that ends sooner counts as one more failed attempt: its peer accepts, and then closes.
BRIEF_S = 1.0
#: Of warnings that differ each time: the words of a peer may do that.
LOG_INTERVAL_S = 1.0
#: So long is told that a node was not admitted under a member's id; one that is to join asks once a second.
REFUSAL_S = 5.0


class PeerEvents(Protocol):
    """What the driver is told of the connections to members. Each method returns at once."""

    def snapshot_sent(self, peer_id: int, ok: bool) -> None:
        """The snapshot that was sent last to this peer is durable there (`ok`), or sending it has failed."""
        ...

    def unreachable(self, peer_id: int) -> None:
        """The stream to this peer has ended: messages may be lost."""
        ...

    def unsent(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        """This was queued for this peer, and certainly never left."""
        ...


class Outgoing:
    """All that goes out to one member.

    Args:
        node_id: the member's.
        address: where it listens, as far as this node knows.
        handshake: this node's part in handshakes.
        world: what this node runs on.
        storage: where snapshots are read.
        max_outbox_bytes: bound of what waits for the stream.
        events: what the driver is told.
        directory_refused: given the member's id if it knows this node by another data directory. May raise.
        second_process: given the sentence of a member that refuses this process for another one.
        told_removed: given the member's id if it says that this node was removed, and the index at which.

    Attributes:
        node_id: the member's.
        recorded_address: where it listens, as far as this node knows.
        address: where it is dialled at present; not always there, see `announce`.
        outbox: what waits for the stream; open while there is one.
        client_url, etcd_url: where the member listens for clients, and for those of etcd's API, as it said
            when it was last met.
        process: which process it was then; None if it has not said.
        sent_bytes: on the streams so far, without handshakes and snapshots.
        highest_level: the highest feature level of the process at the other end of the stream; None without
            a stream.
    """

    def __init__(
        self,
        node_id: int,
        address: PeerAddress,
        *,
        handshake: Handshake,
        world: World,
        storage: NodeStorage,
        max_outbox_bytes: int,
        events: PeerEvents,
        directory_refused: Callable[[int], None],
        told_removed: Callable[[int, int], None],
        second_process: Callable[[str], None],
    ) -> None:
        self.node_id = node_id
        self.outbox = Outbox(max_outbox_bytes)
        self.client_url: str | None = None
        self.etcd_url: str | None = None
        self.process: Process | None = None
        self.highest_level: int | None = None
        self._trouble: str | None = "not connected yet"
        self._refusal: tuple[float, str] | None = None  # until when it is told of, and in which words
        self._log = LimitedLog(logger, world.clock.now, LOG_INTERVAL_S)
        self._told: str | None = None  # the trouble that the log has last warned of
        self._backoff_s = BACKOFF_S[0]
        self._has_lasted = True  # the last stream
        self._refused_until = 0.0  # time until which a refused connection is expected
        self.sent_bytes = 0
        self.address = self.recorded_address = address
        self._announced_address: PeerAddress | None = None  # by the member, and not tried since
        self._handshake = handshake
        self._network = world.network
        self._clock = world.clock
        self._random = world.random
        self._events = events
        self._directory_refused = directory_refused
        self._told_removed = told_removed
        self._second_process = second_process
        dial_for_snapshot = partial(self._dial, is_for_snapshot=True)
        self._snapshots = SnapshotSender(dial_for_snapshot, world, storage, events.snapshot_sent)
        self._idle_stream: TcpStream | None = None  # while nothing is being sent on it
        self._unsent = b""  # the rest of the frame that was sent at once
        self._met_level: int | None = None  # of the process that was dialled last
        self._stream_to: int | None = None  # the boot nonces of the processes that were dialled last
        self._snapshot_to: int | None = None
        self._scope = trio.CancelScope()
        self._connection = trio.CancelScope()  # of the stream, from its dialling to its end
        self._is_up = trio.Event()

    @property
    def trouble(self) -> str | None:
        """Why there is no stream; None while there is one.

        A node that has come under the member's id lately and was not admitted is a part of it. It may be the
        member, which does not listen yet, for instance because it is to join with another cluster secret.
        """
        if self._trouble is None or self._refusal is None or self._clock.now() > self._refusal[0]:
            return self._trouble
        return f"{self._trouble}; a node that came under its id was not let in: {self._refusal[1]}"

    @property
    def transfer(self) -> Transfer | None:
        """The snapshot that is on its way to the member."""
        return self._snapshots.transfer

    def offer(self, items: Sequence[Item]) -> bool:
        """Queue `items` for the stream (`Outbox.offer`); False if there is no stream, or no room for some.

        They leave at once if nothing is being sent. To wake the task of the stream for that would take about
        as long as to encode and send a small frame, on the way of each write and read.
        """
        stream = self._idle_stream
        is_taken = self.outbox.offer(items, wakes=stream is None)
        if stream is not None and self.outbox.has_items:
            self._send_at_once(stream)
        return is_taken

    def _send_at_once(self, stream: TcpStream) -> None:
        """Send what waits, if it is small, as far as the system takes it; the task sends the rest."""
        # To encode a large entry takes so long that the disk should begin to write it first.
        frame = self.outbox.next_frame() if self.outbox.is_small else b""
        try:
            sent = stream.send_now(frame)
        except GONE:  # the task meets the same error
            sent = 0
        self.sent_bytes += sent
        if sent < len(frame) or self.outbox.has_items:
            self._unsent = frame[sent:]
            self._idle_stream = None
            self.outbox.wake()

    def send_snapshot(self, message: Message) -> None:
        """Send the file of a SNAP message; if another one is being sent, it is given up."""
        self._snapshots.send(message)

    def redial(self, address: PeerAddress) -> None:
        """The cluster says that the member listens here: end the stream, and dial the member here."""
        self.address = self.recorded_address = address
        self._end_connection()

    def announce(self, address: PeerAddress | None, client_url: str | None, etcd_url: str | None) -> None:
        """The member says where it listens for members, and where for clients.

        Its address is tried once, if the member is not reached where it is dialled.
        """
        self._announced_address = address or self._announced_address
        self.client_url = client_url
        self.etcd_url = etcd_url

    def is_process(self, process: Process) -> None:
        """The member is this process now: end what is under way to another one, which has ended.

        Its host may have died, so that TCP has not noticed that yet.
        """
        self.process = process
        if self._stream_to not in (None, process.boot_nonce):
            self._end_connection()
        if self._snapshot_to not in (None, process.boot_nonce):
            self._snapshots.end_connection()

    def was_refused(self, sentence: str) -> None:
        """A node that has come under the member's id was not admitted."""
        self._refusal = self._clock.now() + REFUSAL_S, sentence

    def has_connected(self) -> None:
        """The member has connected to this node, so it is up: end the backoff."""
        self._is_up.set()

    def close(self) -> None:
        """End `run`."""
        self._end_connection()
        self._scope.cancel()

    def _end_connection(self) -> None:
        # What is offered from now on stays in the outbox, which gives it back when the task has ended.
        self._idle_stream = None
        self._connection.cancel()

    async def run(self) -> None:
        """Send what is for this member until `close` or cancellation, which close the connections.

        Raises StorageError, and what `directory_refused` raises.
        """
        self._refused_until = self._clock.now() + STARTING_S
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_sending)
                nursery.start_soon(self._snapshots.run)

    async def _keep_sending(self) -> None:
        while True:
            with trio.CancelScope() as self._connection:
                try:
                    stream = await self._dial()
                except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                    self._has_failed(error)
                else:
                    async with stream:
                        await self._send(stream)
            self._is_up = trio.Event()
            async with cancelled_when(self._is_up.wait):
                await self._clock.sleep_until(self._clock.now() + jittered(self._backoff_s, self._random))
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])

    def _has_failed(self, error: Exception) -> None:
        self._note_trouble(error)
        # It may listen elsewhere by now, which this node has not heard yet: it may have been down when the
        # address was changed, and hears of the change only once it is connected. So it tries the address that
        # the member announced, and then the recorded one again.
        self.address, self._announced_address = self._announced_address or self.recorded_address, None
        if isinstance(error, DirectoryRefused):
            self._directory_refused(self.node_id)
        elif isinstance(error, RemovedFromCluster):
            self._told_removed(self.node_id, error.index)
        elif isinstance(error, SecondProcessRefused):
            self._second_process(str(error))

    async def _dial(self, *, is_for_snapshot: bool = False) -> trio.abc.Stream:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            stream = await self._network.connect(self.address.host, self.address.port)
        try:
            met = await self._handshake.introduce(stream, self.node_id, is_for_snapshot=is_for_snapshot)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        self.client_url = met.client_url
        self.etcd_url = met.etcd_url
        if self.process is None:
            self.process = Process(met.boot_nonce, self.address.url)
        if is_for_snapshot:
            self._snapshot_to = met.boot_nonce
        else:
            self._stream_to = met.boot_nonce
            self._met_level = met.highest_level
        return stream

    async def _send(self, stream: trio.abc.Stream) -> None:
        is_logged, self._has_lasted = self._has_lasted, False
        if is_logged:
            self._log_connected()
        self._trouble = None
        self._refused_until = 0.0
        self.highest_level = self._met_level
        self.outbox.open()
        try:
            # While nothing is sent, only reading shows that the peer has closed the connection.
            async with cancelled_when(self._watch, stream, is_logged):
                try:
                    await self._send_frames(stream)
                except CONNECTION_ERRORS:
                    pass  # told below
        finally:
            self._trouble = "the connection has ended"
            # Another version of the program may come back.
            self.highest_level = None
            # A frame that was taken may have arrived; what is still queued certainly has not, so that its
            # proposals may be forwarded again. Raft learns that all messages may be lost, and probes.
            for item in self.outbox.close():
                if isinstance(item, Forward | ForwardChange):
                    self._events.unsent(self.node_id, item)
            self._events.unreachable(self.node_id)
            # Whatever ended the stream, a host that died or a network that was cut, ends the snapshot's
            # connection too, if it has not noticed yet. The member keeps what has arrived.
            self._snapshots.end_connection()
        own_reason = stream.ended_because if isinstance(stream, PeerStream) else None
        self._note_trouble(PeerProtocolError(own_reason or "the peer closed the connection"))

    async def _send_frames(self, stream: trio.abc.Stream) -> NoReturn:
        self._unsent = b""  # of the stream before
        while True:
            if frame := self._unsent or (self.outbox.has_items and self.outbox.next_frame()):
                self._unsent = b""
                await stream.send_all(frame)
                self.sent_bytes += len(frame)
                continue
            # A simulated stream has no system that takes bytes at once.
            self._idle_stream = stream if isinstance(stream, TcpStream) else None
            try:
                await self.outbox.wait_filled()
            finally:
                self._idle_stream = None

    async def _watch(self, stream: trio.abc.Stream, is_logged: bool) -> None:
        """Return when the peer closes the stream; note before when the stream has lasted for a moment."""
        try:
            with trio.move_on_after(BRIEF_S):
                await _wait_closed(stream)
                return
            if not is_logged:
                self._log_connected()
            self._has_lasted, self._told, self._backoff_s = True, None, BACKOFF_S[0]
            await _wait_closed(stream)
        finally:
            self._idle_stream = None  # as in `_end_connection`

    def _log_connected(self) -> None:
        logger.info("connected to node %d at %s", self.node_id, self.address.url)

    def _note_trouble(self, error: Exception) -> None:
        self._trouble = reason_of(error)
        # The nodes of a cluster do not all start at the same moment.
        if isinstance(error, SecondProcessRefused):
            pass  # `second_process` tells it, for all members at once
        elif self._trouble == _REFUSED and self._clock.now() < self._refused_until:
            logger.debug("node %d at %s: %s", self.node_id, self.address.url, self._trouble)
        # One line while it lasts, not one for each attempt. What was not logged, since another line came just
        # before, is told at the next attempt.
        elif self._trouble != self._told and self._log.note(
            f"node {self.node_id} at {self.address.url}: {self._trouble}"
        ):
            self._told = self._trouble


async def _wait_closed(stream: trio.abc.Stream) -> None:
    """Return when the peer closes a stream on which only this node speaks, or breaks that rule."""
    try:
        await stream.receive_some(1)
    except CONNECTION_ERRORS:
        pass  # closed all the same
