"""What waits for one peer's connection: bounded in bytes, and dropped rather than waited for.

Raft repairs a dropped message by itself; a dropped Forward is handed back to whoever offered it.
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
    """Roughly what an item takes on the wire and in memory, in bytes."""
    if isinstance(item, Message):
        entries = sum([len(e.data) for e in item.entries]) + 16 * len(item.entries)
        return _OVERHEAD_BYTES + entries + (len(item.snapshot.data) if item.snapshot else 0)
    if isinstance(item, Forward):
        return _OVERHEAD_BYTES + sum([_OVERHEAD_BYTES + len(command) for _, command in item.proposals])
    if isinstance(item, ForwardChange):
        return _OVERHEAD_BYTES + len(item.request)
    return _OVERHEAD_BYTES * (1 + len(item.ids))


class Outbox:
    """One peer's queue. It takes nothing while there is no connection."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._filled = trio.Event()
        self.connected = False
        self.dropped_messages = 0
        self.dropped_bytes = 0

    def offer(self, items: Sequence[Item]) -> bool:
        """Queue all of `items`, or none: False where there is no connection or no room."""
        size = sum([size_of(item) for item in items])
        if not self.connected or (self._items and self._bytes + size > self._max_bytes):
            self.dropped_messages += len(items)
            self.dropped_bytes += size
            return False
        self._items.extend(items)
        self._bytes += size
        self._filled.set()
        return True

    async def take_frame(self) -> bytes:
        """Wait for items and encode the oldest into one frame. Cancellation takes nothing out."""
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

    def clear(self) -> list[Item]:
        """The connection is gone: what had not been taken yet, and so certainly never left."""
        unsent, self._items = list(self._items), deque()
        self.dropped_messages += len(unsent)
        self.dropped_bytes += self._bytes
        self._bytes = 0
        self.connected = False
        return unsent

    def _pop(self) -> Item:
        item = self._items.popleft()
        self._bytes -= size_of(item)
        return item


class Post(Protocol):
    """Takes what is for another member, all or nothing; False where it cannot (see `Peers.offer`)."""

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool: ...

    def send_snapshot(self, message: Message) -> bool:
        """Begin to send a snapshot; how that ends, the driver's `snapshot_sent` is told."""
        ...
