"""What waits for the stream to one member. It is bounded in bytes: if it is full, items are dropped.

Raft repairs the loss of a message by itself. A Forward that was dropped before it left is given back, so that
its proposals can be forwarded again.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import trio

from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    Refused,
    encode_forward,
    encode_forward_change,
    encode_messages,
    encode_refused,
)
from raftkv_trio.raft.types import Message

#: Messages are merged into frames of about this size.
FRAME_BYTES = 1024 * 1024
_OVERHEAD_BYTES = 64

Item = Message | Forward | ForwardChange | Refused


def size_of(item: Item) -> int:
    """About how many bytes an item takes on the wire and in memory."""
    if isinstance(item, Message):
        entries = sum([len(e.data) for e in item.entries]) + 16 * len(item.entries)
        return _OVERHEAD_BYTES + entries + (len(item.snapshot.data) if item.snapshot else 0)
    if isinstance(item, Forward):
        return _OVERHEAD_BYTES + sum([_OVERHEAD_BYTES + len(command) for _, command in item.proposals])
    if isinstance(item, ForwardChange):
        return _OVERHEAD_BYTES + len(item.request)
    return _OVERHEAD_BYTES * (1 + len(item.ids))


class Outbox:
    """The queue of one member's stream. It is closed, and takes nothing, while there is no connection.

    Attributes:
        is_open: whether there is a connection.
        dropped_messages, dropped_bytes: of all items that were refused, or given back by `close`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._filled = trio.Event()
        self.is_open = False
        self.dropped_messages = 0
        self.dropped_bytes = 0

    def offer(self, items: Sequence[Item]) -> bool:
        """Queue all of `items` or none of them; False if there is no connection or no room.

        Items that are larger than the whole bound are taken if nothing else waits, so that they can leave.
        """
        size = sum([size_of(item) for item in items])
        if not self.is_open or (self._items and self._bytes + size > self._max_bytes):
            self.dropped_messages += len(items)
            self.dropped_bytes += size
            return False
        self._items.extend(items)
        self._bytes += size
        self._filled.set()
        return True

    async def take_frame(self) -> bytes:
        """Wait for items, and encode the oldest ones into one frame. Cancellation takes nothing out."""
        while not self._items:
            self._filled = trio.Event()
            await self._filled.wait()
        first = self._pop()
        if isinstance(first, Forward):
            return encode_forward(first)
        if isinstance(first, ForwardChange):
            return encode_forward_change(first)
        if isinstance(first, Refused):
            return encode_refused(first)
        messages = [first]
        size = size_of(first)
        while self._items and size < FRAME_BYTES and isinstance(message := self._items[0], Message):
            self._pop()
            size += size_of(message)
            messages.append(message)
        return encode_messages(messages)

    def open(self) -> None:
        """There is a connection: items are taken from now on."""
        self.is_open = True

    def close(self) -> list[Item]:
        """The connection has ended: return the items that were not taken, and so certainly never left."""
        unsent, self._items = list(self._items), deque()
        self.dropped_messages += len(unsent)
        self.dropped_bytes += self._bytes
        self._bytes = 0
        self.is_open = False
        return unsent

    def _pop(self) -> Item:
        item = self._items.popleft()
        self._bytes -= size_of(item)
        return item


class PeerTransport(Protocol):
    """What the driver sends with: `Peers`, or its simulated form. Neither method waits."""

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        """Queue items for a member, all or none; False if they cannot be sent now."""
        ...

    def send_snapshot(self, message: Message) -> bool:
        """Begin to send the file of a SNAP message; the driver's `snapshot_sent` is told how it ends.

        False if the addressee is unknown; then `snapshot_sent` is not called.
        """
        ...
