"""Sending snapshots to one member: retried as long as that brings them forward, else with longer pauses."""

import logging
from collections.abc import Awaitable, Callable
from random import Random

import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.peers.connection import CONNECTION_ERRORS
from raftkv_trio.peers.snapshot_streams import Transfer, send_snapshot
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import DiskFile, NodeStorage, SnapshotId
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import World, reason_of

logger = logging.getLogger(__name__)

#: The pause after an attempt that has brought the snapshot forward, and the first one after an attempt that
#: has not; the latter doubles with each such attempt.
RETRY_S = (0.05, 0.5)
LOG_INTERVAL_S = 1.0
#: The longest pause: 5 s if the attempt cost nothing, and more the more bytes it wasted, up to a minute.
LONGEST_RETRY_S = (5.0, 60.0)
WASTED_BYTES_PER_S = 10_000_000


class SnapshotSender:
    """Sends snapshots to one member, one at a time.

    A member that cannot take a snapshot, since its disk is full or its network too bad, would be sent it
    again and again: as soon as an attempt has failed, the core hears of the member and asks for the next one.
    So there are pauses between attempts without progress, over any number of SNAP messages. A message that
    comes in a pause counts as failed at once. The core asks again with each heartbeat, so that the attempt
    after the pause is made with the newest snapshot, whose file is still there.

    Args:
        dial: opens a connection for a snapshot to the member, after its handshake.
        world: what this node runs on.
        storage: where snapshots are read.
        ended: given the member's id and whether the snapshot that was sent last is durable there.

    Attributes:
        transfer: the one that is on its way.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[trio.abc.Stream]],
        world: World,
        storage: NodeStorage,
        ended: Callable[[int, bool], None],
    ) -> None:
        self.transfer: Transfer | None = None
        self._dial = dial
        self._clock = world.clock
        self._random = world.random
        self._worker = world.bulk_worker
        self._storage = storage
        self._ended = ended
        self._next: Message | None = None
        self._wakeup = Wakeup()
        self._sending = trio.CancelScope()
        self._connection = trio.CancelScope()  # from its dialling to its end
        self._found: tuple[SnapshotId, int] | None = None  # what the member had of which snapshot, lately
        self._attempts_in_vain = 0
        self._next_attempt_at = self._clock.now()
        self._log = LimitedLog(logger, world.clock.now, LOG_INTERVAL_S)
        self._trouble: str | None = None

    def send(self, message: Message) -> None:
        """Send the file of a SNAP message; if another one is being sent, it is given up."""
        self._next = message
        self._sending.cancel()
        self._wakeup.set()

    def end_connection(self) -> None:
        """End the connection that is under way, if there is one, as an attempt that has failed."""
        # The snapshot itself stays for the next attempt: the core would send its newest one, of which the
        # member has nothing, so that a large one would never arrive over a link that fails now and then.
        self._connection.cancel()

    async def run(self) -> None:
        """Send what `send` is given. Cancellation closes the connection."""
        while True:
            await self._wakeup.wait()
            message, self._next = self._next, None
            if message is None:
                continue
            is_sent = False
            with trio.CancelScope() as self._sending:
                is_sent = await self._send(message)
            if self._next is None:  # else the core waits for the end of the next one
                self._ended(message.to, is_sent)

    async def _send(self, message: Message) -> bool:
        """Send it, over as many connections as it takes, as long as each finds more of it at the member."""
        if self._clock.now() < self._next_attempt_at:
            return False
        assert message.snapshot is not None
        snapshot = SnapshotId(message.snapshot.term, message.snapshot.index)
        try:
            # Open for all attempts: the file may be purged meanwhile, and its bytes stay readable.
            file = await self._worker.run(self._storage.open_snapshot, snapshot)
        except FileNotFoundError:
            return False  # a newer one has replaced it, which the core sends next: no fault of the member
        except OSError as error:
            self._note_trouble(message.to, reason_of(error))
            return self._has_failed(None)
        try:
            return await self._send_file(message, file)
        finally:
            file.close()

    async def _send_file(self, message: Message, file: DiskFile) -> bool:
        is_first = True
        while True:
            await self._clock.sleep_until(self._next_attempt_at)
            try:
                await self._send_once(message, file)
            except (PeerProtocolError, *CONNECTION_ERRORS) as error:
                self._note_trouble(message.to, reason_of(error))
                has_begun = self.transfer is not None
                is_forward = self._has_failed(self.transfer)
                # The first connection may have brought something, which only the next one finds. In vain, the
                # core is asked: it sends another one, maybe a newer one, when it hears of the member.
                if not is_forward and not (is_first and has_begun):
                    return False
                is_first = False
            else:
                self._attempts_in_vain, self._trouble = 0, None
                return True
            finally:
                self.transfer = None

    async def _send_once(self, message: Message, file: DiskFile) -> None:
        with trio.CancelScope() as self._connection:
            async with await self._dial() as stream:
                await send_snapshot(stream, message, file, self._worker, self._clock, self._begun)
                return
        raise PeerProtocolError("the stream of messages to it has ended")

    def _begun(self, transfer: Transfer) -> None:
        self.transfer = transfer

    def _has_failed(self, transfer: Transfer | None) -> bool:
        """Plan the next attempt; returns whether the one that failed had found more than the one before it.

        What was sent does not count: it may lie in the buffers of a member that reads nothing.
        """
        wasted_bytes, is_forward = 0, False
        if transfer is not None:
            wasted_bytes = transfer.done_bytes - transfer.begun_bytes
            snapshot, known_bytes = self._found or (transfer.snapshot, 0)
            is_forward = transfer.begun_bytes > (known_bytes if snapshot == transfer.snapshot else 0)
            self._found = transfer.snapshot, transfer.begun_bytes
        if is_forward:
            self._attempts_in_vain, pause_s = 0, RETRY_S[0]
        else:
            shortest, longest = LONGEST_RETRY_S
            limit_s = min(shortest + wasted_bytes / WASTED_BYTES_PER_S, longest)
            pause_s = min(RETRY_S[1] * 2**self._attempts_in_vain, limit_s)
            self._attempts_in_vain = min(self._attempts_in_vain + 1, 10)
        self._next_attempt_at = self._clock.now() + jittered(pause_s, self._random)
        return is_forward

    def _note_trouble(self, node_id: int, trouble: str) -> None:
        # One line while it lasts, not one for each attempt; if it was not logged, at the next attempt.
        if trouble != self._trouble and self._log.note(
            f"sending a snapshot to node {node_id} failed, and is retried: {trouble}"
        ):
            self._trouble = trouble


def jittered(seconds: float, random: Random) -> float:
    """Between half and one and a half of it, so that nodes that failed together do not retry together."""
    return seconds * (0.5 + random.random())
