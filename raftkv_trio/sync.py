"""How tasks reach each other: a wakeup, queues bounded in bytes that share it, an event that ends a scope."""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Wakeup:
    """Wakes the one task that waits for it. Any number of `set` before a `wait` end that one wait.

    An auto-reset event: Trio's `Event` stays set, and its waiter would have to replace it each time.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        """Whether it was set since it was last cleared."""
        return self._event.is_set()

    def set(self) -> None:
        """Wake the waiting task, or let its next `wait` return at once."""
        self._event.set()

    def clear(self) -> None:
        """The task is about to look for work: a `set` from now on wakes it again."""
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return when set, and clear. Cancellation keeps it set for the next call."""
        await self._event.wait()
        self.clear()


class ByteBoundedQueue(Generic[T]):
    """A queue bounded in bytes: `put` waits for room, so that a full queue holds its producer back.

    An item larger than the whole bound is let in alone, so that nothing can be stuck for ever.
    """

    def __init__(self, wakeup: Wakeup, max_bytes: int) -> None:
        self._wakeup = wakeup
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
        self._wakeup.set()
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
