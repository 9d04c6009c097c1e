"""How tasks reach each other: a wakeup, queues bounded in bytes that share it, blocks that an event ends."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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


@asynccontextmanager
async def cancelled_when(
    wait: Callable[[*Ts], Awaitable[object]], *args: *Ts
) -> AsyncIterator[trio.CancelScope]:
    """Run the block until it ends, or until `await wait(*args)` returns, which cancels the block.

    Gives the block's cancel scope; its `cancelled_caught` says afterwards which of the two came first. What
    `wait` raises ends the block too. Errors leave in a group, since the block is inside a nursery.
    """

    async def cancel() -> None:
        await wait(*args)
        block.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as block:
            nursery.start_soon(cancel)
            yield block
        nursery.cancel_scope.cancel()


async def wait_any(*events: trio.Event) -> None:
    """Return as soon as one of these is set. Cancellation leaves nothing behind."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event)
