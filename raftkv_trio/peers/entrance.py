"""How many connections may introduce themselves at once, and how often.

A handshake costs about half a millisecond of the loop, and whoever can reach the port can ask for one. So the
number of handshakes at once has a bound, and so has their rate, of one host and of all; what comes more often
waits, and each host has one place in the queue for the turns of all. A host whose connections say nothing, or
come too often, keeps away hardly anybody else: where one has to give way, it is the oldest of the host that
has the most.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.pace import Pace, Paces
from raftkv_trio.world import Clock

MAX_HANDSHAKES = 64
#: So many handshakes in a second, in the long run, and so many more at once. A correct node connects once,
#: and again when a connection has broken.
RATE_OF_HOST, BURST_OF_HOST = 50, 64
RATE_OF_ALL, BURST_OF_ALL = 100, 128
#: So long a connection may stay before it has to give way.
MIN_STAY_S = 0.2

T = TypeVar("T")


class GaveWay(PeerProtocolError):
    """Others have come before a connection had introduced itself."""


class _Stay(NamedTuple):
    """A connection that has not introduced itself yet."""

    host: str
    since: float


class Entrance:
    """The connections that have not introduced themselves yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stays: dict[trio.CancelScope, _Stay] = {}  # oldest first
        self._paces = Paces(clock, RATE_OF_HOST, BURST_OF_HOST)
        self._pace_of_all = Pace(clock, RATE_OF_ALL, BURST_OF_ALL)

    def __len__(self) -> int:
        return len(self._stays)

    async def wait_room(self) -> None:
        """Return when one more connection may be accepted: others wait in the listener's backlog.

        So a host that opens connections without an end cannot have each of them accepted only to be closed.
        Cancellation leaves nothing behind.
        """
        while len(self._stays) >= MAX_HANDSHAKES:
            may_go_at = self._stays[self._giving_way()].since + MIN_STAY_S
            if may_go_at <= self._clock.now():
                return
            await self._clock.sleep_until(may_go_at)

    async def admit(self, host: str, handshake: Callable[[], Awaitable[T]]) -> T:
        """Let a connection of a host introduce itself, when it is its turn; return what `handshake` does.

        Raises GaveWay if it had to give way meanwhile, and what `handshake` raises. Cancellation leaves
        nothing behind.
        """
        with trio.CancelScope() as scope:
            self._stays[scope] = _Stay(host, self._clock.now())
            try:
                if len(self._stays) > MAX_HANDSHAKES:
                    self._give_way()
                await self._paces.of(host).wait_turn()
                await self._pace_of_all.wait_turn()
                return await handshake()
            finally:
                self._stays.pop(scope, None)
        raise GaveWay(f"{MAX_HANDSHAKES} others came before it had introduced itself")

    def _giving_way(self) -> trio.CancelScope:
        # The oldest, not the newest: a member introduces itself within a moment, so that the oldest belongs
        # to a node that says nothing. Refusing the newest would let silent connections keep members away.
        counts = Counter(stay.host for stay in self._stays.values())
        greediest = max(counts, key=counts.__getitem__)
        return next(scope for scope, stay in self._stays.items() if stay.host == greediest)

    def _give_way(self) -> None:
        scope = self._giving_way()
        del self._stays[scope]
        scope.cancel()
