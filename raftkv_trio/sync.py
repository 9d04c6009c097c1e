"""How tasks reach each other: wakeups, queues that are bounded in bytes, blocks that an event ends."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Wakeup:
    """Wakes the one task that waits for it. However often it is set before a `wait`, it ends one wait.

    It is an auto-reset event. Trio's `Event` stays set, so its waiter would have to replace it each time.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        """Whether it was set after it was last cleared."""
        return self._event.is_set()

    def set(self) -> None:
        """Wake the waiting task, or let its next `wait` return at once."""
        self._event.set()

    def clear(self) -> None:
        """The task is about to look for work: a `set` from now on wakes the task again."""
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return when set, and clear. Cancellation clears nothing."""
        await self._event.wait()
        self.clear()


class ByteBoundedQueue(Generic[T]):
    """A queue bounded in bytes. `put` waits for room, so a full queue slows its producers down.

    An item larger than the bound is accepted if the queue is empty. So no item waits for ever. An item of
    size 0 is always accepted: its producer bounds how many there are.

    Args:
        wakeup: set with each item; of the task that drains the queue. Several queues may share it.

    Attributes:
        drains: how often it was drained.
    """

    def __init__(self, wakeup: Wakeup, max_bytes: int) -> None:
        self._wakeup = wakeup
        self._max_bytes = max_bytes
        self._items: deque[T] = deque()
        self._waiting_bytes = 0
        self._drained = trio.Event()
        self.drains = 0

    async def wait_drained(self) -> None:
        """Return when it is drained the next time. Cancellation leaves nothing behind."""
        await self._drained.wait()

    async def put(self, item: T, size_bytes: int) -> None:
        """Queue an item once there is room. Cancellation queues nothing."""
        await trio.lowlevel.checkpoint()
        while not self.try_put(item, size_bytes):
            await self._drained.wait()

    def try_put(self, item: T, size_bytes: int) -> bool:
        """Queue an item if there is room; return whether there was."""
        if size_bytes and self._waiting_bytes and self._waiting_bytes + size_bytes > self._max_bytes:
            return False
        self._items.append(item)
        self._waiting_bytes += size_bytes
        self._wakeup.set()
        return True

    def drain(self) -> deque[T]:
        """Take out everything that waits, oldest first."""
        items, self._items = self._items, deque()
        self._waiting_bytes = 0
        self.drains += 1
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
