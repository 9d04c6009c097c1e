"""How much one peer may bring into one turn of the driver, so that no peer holds up the others.

The driver steps all that waits in one turn, and nothing else happens on the loop meanwhile. Bytes alone would
let a broken peer bring in 16,000 small messages: a second's work, in which no heartbeat leaves.
"""

from collections.abc import Iterator

import trio

from raftkv_trio.payload.cbor import MAX_ITEMS
from raftkv_trio.peers.wire import Forward, ForwardChange, Members, PeerFrame, Refused, SingleFrame
from raftkv_trio.sync import ByteBoundedQueue
from raftkv_trio.world import Clock

#: So many raft messages, or what takes as long, come from one peer in one turn: a few milliseconds' work.
MAX_A_TURN = 256
#: So many in a second, in the long run. Correct peers send far less: this is 200,000 entries a second.
RATE = 25_600
#: So many of these take about as long as a message.
_ENTRIES_A_MESSAGE = _PROPOSALS_A_MESSAGE = 8
_IDS_A_MESSAGE = 3
#: A member takes about as long as so many messages: its URL is parsed.
_MESSAGES_A_MEMBER = 2
#: A frame takes about as long to receive as a message, and so many bytes of it as one more.
_RECEIVED_BYTES_A_MESSAGE = 4096
#: So many bytes of a change of members, or of a refused frame, take at most about as long as a message.
_BYTES_A_MESSAGE = 16
#: A longer refused frame takes no longer, since the number of its items has a bound (`payload/cbor.py`).
_MAX_REFUSED_BYTES = MAX_ITEMS


def pieces_of(frame: PeerFrame) -> Iterator[PeerFrame]:
    """The frame, in pieces that fit into a turn: its raft messages have nothing to do with each other."""
    if isinstance(frame, SingleFrame):
        yield frame
        return
    for begin in range(0, len(frame), MAX_A_TURN):
        yield frame[begin : begin + MAX_A_TURN]


def cost_of(piece: PeerFrame) -> int:
    """About how long it takes to decode a piece and to act on it, in messages."""
    if not isinstance(piece, SingleFrame):
        return len(piece) + sum([len(message.entries) for message in piece]) // _ENTRIES_A_MESSAGE
    match piece:
        case Forward():
            return 1 + len(piece.proposals) // _PROPOSALS_A_MESSAGE
        case ForwardChange():
            return 1 + len(piece.request) // _BYTES_A_MESSAGE
        case Refused():
            return 1 + len(piece.ids) // _IDS_A_MESSAGE
        case Members():
            return 1 + len(piece.addresses) * _MESSAGES_A_MEMBER
        case _:
            return 1


class FairShare:
    """What one peer has brought into the inbox: since the driver has drained it, and in the long run."""

    def __init__(self, inbox: ByteBoundedQueue[tuple[int, PeerFrame]], clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        self._drains = inbox.drains
        self._taken = 0
        self._paid_at = clock.now()  # at the rate, all was paid for by then; it may be in the future

    def charge_refused(self, size_bytes: int) -> None:
        """A frame was refused, which ends the connection. It is paid for on the next one."""
        self._charge(min(size_bytes, _MAX_REFUSED_BYTES) / _BYTES_A_MESSAGE)

    async def wait_paid(self) -> None:
        """Return when all is paid for. Cancellation leaves nothing behind."""
        await self._clock.sleep_until(self._paid_at)

    async def receive(self, size_bytes: int) -> None:
        """Return when a frame may be decoded, whatever it says; at once if its peer has not said too much.

        Cancellation charges nothing.
        """
        await self._pay(1 + size_bytes / _RECEIVED_BYTES_A_MESSAGE)

    async def take(self, cost: int) -> None:
        """Return when there is room for a piece of this cost; at once if there is.

        A piece that costs more than a turn may is taken alone. Cancellation takes nothing, but the cost may
        have been charged.
        """
        # It took long to decode, and so may the next one, which may be there already: others run in between.
        if cost > MAX_A_TURN:
            await trio.lowlevel.checkpoint()
        await self._pay(cost)
        if self._drains == self._inbox.drains and self._taken and self._taken + cost > MAX_A_TURN:
            await self._inbox.wait_drained()
        if self._drains != self._inbox.drains:
            self._drains = self._inbox.drains
            self._taken = 0
        self._taken += cost

    async def _pay(self, cost: float) -> None:
        now = self._clock.now()
        if now + MAX_A_TURN / RATE < self._paid_at + cost / RATE and now < self._paid_at:
            await self._clock.sleep_until(self._paid_at)
        self._charge(cost)

    def _charge(self, cost: float) -> None:
        self._paid_at = max(self._paid_at, self._clock.now()) + cost / RATE
