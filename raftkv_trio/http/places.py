"""Which clients' connections may stay when there are too many: the places of one server.

- When all places are taken, the connection that has been idle for the longest time gives way to a new one.
- One host has nine tenths of the places at most, so it cannot keep all others out. A host that has as many
  gives up an idle connection of its own for a new one. A proxy in front of the node is one host too: it lacks
  the last tenth.
- A connection with a request in progress never gives way. If there is no other, the new one is turned away.
"""

from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from raftkv_trio.addresses import host_of


class Stoppable(Protocol):
    """A connection, as far as its place is concerned."""

    def stop(self) -> None:
        """Drop the connection, which is idle."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=Stoppable)


class Places(Generic[ConnectionT]):
    """The places for connections, and who has them.

    Args:
        count: how many there are, at least 1.
        now: the time, in seconds.
    """

    def __init__(self, count: int, now: Callable[[], float]) -> None:
        self._count = count
        self._now = now
        self._most_of_one_host = count - count // 10
        self._hosts: dict[ConnectionT, str] = {}
        self._held: Counter[str] = Counter()
        self._idle: dict[ConnectionT, float] = {}  # since when; the one that has been idle longest first

    def take(self, connection: ConnectionT, address: str) -> bool:
        """Give a new connection a place, in which it is idle; False if there is none for it.

        Args:
            address: of the client, as text.
        """
        host = host_of(address)
        if self._held[host] >= self._most_of_one_host:
            is_free = self._give_up(next((c for c in self._idle if self._hosts[c] == host), None))
        elif len(self._hosts) >= self._count:
            is_free = self._give_up(next(iter(self._idle), None))
        else:
            is_free = True
        if is_free:
            self._hosts[connection] = host
            self._held[host] += 1
            self._idle[connection] = self._now()
        return is_free

    def idle_now(self, connection: ConnectionT, is_idle: bool) -> None:
        """A connection has become idle, or has a request in progress from now on."""
        self._idle.pop(connection, None)
        if is_idle and connection in self._hosts:  # else it has given its place up
            self._idle[connection] = self._now()

    def idle_since(self, time: float) -> list[ConnectionT]:
        """The connections that became idle at this time or earlier."""
        return list(takewhile(lambda connection: self._idle[connection] <= time, self._idle))

    def leave(self, connection: ConnectionT) -> None:
        """A connection has ended; does nothing if it has given its place up before."""
        host = self._hosts.pop(connection, None)
        self._idle.pop(connection, None)
        if host is not None:
            self._held[host] -= 1
            if not self._held[host]:
                del self._held[host]

    def all(self) -> list[ConnectionT]:
        """All that have a place."""
        return list(self._hosts)

    def _give_up(self, connection: ConnectionT | None) -> bool:
        if connection is None:
            return False
        # Its place is free now: it closes its socket in a moment.
        self.leave(connection)
        connection.stop()
        return True
