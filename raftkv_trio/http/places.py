"""Which clients' connections may stay when there are too many: the places of one server.

- When all places are taken, the connection that has been idle for the longest time gives way to a new one.
- One host has nine tenths of the places at most, so it cannot keep all others out. A host that has as many
  gives up an idle connection of its own for a new one. A proxy in front of the node is one host too: it lacks
  the last tenth.
- A connection with a request in progress never gives way. If there is no other, the new one is turned away.
- Connections whose TLS handshake is under way take the places of idle ones up to a tenth of all; then one of
  them gives way instead, the oldest of the host that has the most. So a crowd that never ends its handshake
  drops hardly any connection of a client that has ended its own.
"""

from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from raftkv_trio.addresses import host_of


class Stoppable(Protocol):
    """A connection, as far as its place is concerned."""

    def stop(self) -> None:
        """Drop the connection, which is idle, or in its handshake."""
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
        self._most_shaking = max(1, count // 10)
        self._hosts: dict[ConnectionT, str] = {}
        self._held: Counter[str] = Counter()
        self._idle: dict[ConnectionT, float] = {}  # since when; the one that has been idle longest first
        self._shaking: dict[str, dict[ConnectionT, None]] = {}  # in their handshake, by host; oldest first

    def take(self, connection: ConnectionT, address: str, *, shakes_hands: bool = False) -> bool:
        """Give a new connection a place; False if there is none for it.

        Args:
            address: of the client, as text.
            shakes_hands: whether its handshake is still to be made, until `idle_now`; else it is idle.
        """
        host = host_of(address)
        if self._held[host] >= self._most_of_one_host:
            is_free = self._give_up(self._giving_way_of(host))
        elif len(self._hosts) >= self._count:
            is_free = self._give_up(self._giving_way())
        else:
            is_free = True
        if is_free:
            self._hosts[connection] = host
            self._held[host] += 1
            if shakes_hands:
                self._shaking.setdefault(host, {})[connection] = None
            else:
                self._idle[connection] = self._now()
        return is_free

    def _giving_way(self) -> ConnectionT | None:
        shaking = sum(map(len, self._shaking.values()))
        if shaking and (shaking >= self._most_shaking or not self._idle):
            greediest = max(self._shaking, key=lambda host: len(self._shaking[host]))
            return next(iter(self._shaking[greediest]))
        return next(iter(self._idle), None)

    def _giving_way_of(self, host: str) -> ConnectionT | None:
        shaking = self._shaking.get(host, {})
        idle = next((c for c in self._idle if self._hosts[c] == host), None)
        if shaking and (len(shaking) >= self._most_shaking or idle is None):
            return next(iter(shaking))
        return idle

    def idle_now(self, connection: ConnectionT, is_idle: bool) -> None:
        """A connection has become idle, or has a request in progress from now on."""
        self._forget_state(connection)
        if is_idle and connection in self._hosts:  # else it has given its place up
            self._idle[connection] = self._now()

    def idle_since(self, time: float) -> list[ConnectionT]:
        """The connections that became idle at this time or earlier."""
        return list(takewhile(lambda connection: self._idle[connection] <= time, self._idle))

    def leave(self, connection: ConnectionT) -> None:
        """A connection has ended; does nothing if it has given its place up before."""
        self._forget_state(connection)
        host = self._hosts.pop(connection, None)
        if host is not None:
            self._held[host] -= 1
            if not self._held[host]:
                del self._held[host]

    def _forget_state(self, connection: ConnectionT) -> None:
        self._idle.pop(connection, None)
        host = self._hosts.get(connection, "")
        shaking = self._shaking.get(host)
        if shaking is not None:
            shaking.pop(connection, None)
            if not shaking:
                del self._shaking[host]

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
