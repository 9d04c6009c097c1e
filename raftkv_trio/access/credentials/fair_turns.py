"""One turn at a time, and hosts have their turns alternately."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from raftkv_trio.errors import Overloaded


class FairTurns:
    """Lets one task go on at a time. Those of one host wait in a queue of their own.

    Args:
        max_waiting: of one host.
        max_waiting_in_all: of all hosts.
    """

    def __init__(self, max_waiting: int, max_waiting_in_all: int) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_in_all = max_waiting_in_all
        self._is_taken = False
        self._queues: dict[str, deque[trio.Event]] = {}  # the first host has the next turn
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it in the block.

        Raises Overloaded if too many wait already. Cancellation takes no turn.
        """
        if self._is_taken:
            await self._wait(host)
        else:
            self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, host: str) -> None:
        queue = self._queues.get(host, ())
        if len(queue) >= self._max_waiting or self._waiting >= self._max_waiting_in_all:
            raise Overloaded("Too many passwords wait to be checked; retry later")
        event = trio.Event()
        self._queues.setdefault(host, deque()).append(event)
        self._waiting += 1
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():  # the turn came at the same moment
                self._pass_on()
            else:
                self._queues[host].remove(event)
                self._waiting -= 1
                if not self._queues[host]:
                    del self._queues[host]
            raise

    def _pass_on(self) -> None:
        if not self._queues:
            self._is_taken = False
            return
        host = next(iter(self._queues))
        queue = self._queues.pop(host)
        self._waiting -= 1
        queue.popleft().set()
        if queue:
            self._queues[host] = queue  # at the end
