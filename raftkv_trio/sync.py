"""How tasks reach each other: bounded queues that share one bell, and an event that ends a scope."""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Bell:
    """Wakes one task, however often it was rung since that task last looked."""

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def rung(self) -> bool:
        """Whether it was rung since it was last answered."""
        return self._event.is_set()

    def ring(self) -> None:
        self._event.set()

    def answer(self) -> None:
        """The task is about to look; what rings from now on wakes it again."""
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return once rung, and answer. Cancellation keeps the ring for the next call."""
        await self._event.wait()
        self.answer()


class Lane(Generic[T]):
    """A queue bounded in bytes: `put` waits for room, so that a full lane holds its producer up.

    An item larger than the whole bound is let in alone, so that nothing can be stuck for ever.
    """

    def __init__(self, bell: Bell, max_bytes: int) -> None:
        self._bell = bell
        self._max_bytes = max_bytes
        self._items: deque[T] = deque()
        self._waiting_bytes = 0
        self._drained = trio.Event()

    async def put(self, item: T, size_bytes: int) -> None:
        """Queue an item. A cancelled put has queued nothing."""
        await trio.lowlevel.checkpoint()
        while not self.try_put(item, size_bytes):
            await self._drained.wait()

    def try_put(self, item: T, size_bytes: int) -> bool:
        """Queue an item where there is room; say whether there was."""
        if self._waiting_bytes and self._waiting_bytes + size_bytes > self._max_bytes:
            return False
        self._items.append(item)
        self._waiting_bytes += size_bytes
        self._bell.ring()
        return True

    def drain(self) -> deque[T]:
        """Everything that waits, oldest first."""
        items, self._items = self._items, deque()
        self._waiting_bytes = 0
        self._drained.set()
        self._drained = trio.Event()
        return items


async def cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    """Cancel a scope when an event is set."""
    await event.wait()
    scope.cancel()
