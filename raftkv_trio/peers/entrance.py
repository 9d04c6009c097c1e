"""How many connections may introduce themselves at once, and how often.

A handshake costs about half a millisecond of the loop, and whoever can reach the port can ask for one. So the
number of handshakes at once has a bound, and so has their rate, of one host and of all; what comes more often
waits, and each host has one place in the queue for the turns of all. A host whose connections say nothing, or
come too often, keeps away hardly anybody else: where one has to give way, it is one of the host that has the
most.
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
#: So long a handshake may last before its connection may have to give way.
MIN_HANDSHAKE_S = 0.3
#: So many connections are accepted in a second while there are too many: one costs about 0.3 ms of the loop.
RATE_OF_ACCEPTING = 500

T = TypeVar("T")


class GaveWay(PeerProtocolError):
    """Others have come before a connection had introduced itself."""


class _Stay(NamedTuple):
    """A connection that has not introduced itself yet."""

    host: str
    began_at: float | None  # its handshake; None: it waits for its turn


class Entrance:
    """The connections that have not introduced themselves yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stays: dict[trio.CancelScope, _Stay] = {}  # by arrival, or where its turn has come, by that
        self._paces = Paces(clock, RATE_OF_HOST, BURST_OF_HOST)
        self._pace_of_all = Pace(clock, RATE_OF_ALL, BURST_OF_ALL)
        self._pace_of_accepting = Pace(clock, RATE_OF_ACCEPTING, 0)

    def __len__(self) -> int:
        return len(self._stays)

    async def wait_room(self) -> None:
        """Return when one more connection may be accepted: others wait in the listener's backlog.

        At once, unless there are too many. Then it takes a bounded part of the loop to accept them only to
        close them; but no longer than a member waits, which may be in the backlog behind them. Cancellation
        leaves nothing behind.
        """
        if len(self._stays) >= MAX_HANDSHAKES:
            await self._pace_of_accepting.wait_turn()

    async def admit(self, host: str, handshake: Callable[[], Awaitable[T]]) -> T:
        """Let a connection of a host introduce itself, when it is its turn; return what `handshake` does.

        Raises GaveWay if it had to give way meanwhile, and what `handshake` raises. Cancellation leaves
        nothing behind.
        """
        with trio.CancelScope() as scope:
            self._stays[scope] = _Stay(host, None)
            try:
                if len(self._stays) > MAX_HANDSHAKES:
                    self._give_way()
                await self._paces.of(host).wait_turn(self._pace_of_all)
                if self._stays.pop(scope, None):  # else it has given way, and is cancelled next
                    self._stays[scope] = _Stay(host, self._clock.now())
                return await handshake()
            finally:
                self._stays.pop(scope, None)
        raise GaveWay(f"{MAX_HANDSHAKES} others came before it had introduced itself")

    def _giving_way(self) -> trio.CancelScope:
        counts = Counter(stay.host for stay in self._stays.values())
        greediest = max(counts, key=counts.__getitem__)
        stays = [(scope, stay.began_at) for scope, stay in self._stays.items() if stay.host == greediest]
        waiting = [scope for scope, began_at in stays if began_at is None]
        speaking = [(scope, began_at) for scope, began_at in stays if began_at is not None]
        # Of those that had their turn the oldest, not the newest: a member introduces itself within a moment,
        # so that the oldest belongs to a node that says nothing.
        if speaking and (not waiting or speaking[0][1] + MIN_HANDSHAKE_S <= self._clock.now()):
            return speaking[0][0]
        # Of those that wait the newest: if the oldest had to go, under a flood none would ever have its turn,
        # since each would go when it is the next. They wait for the pace, not for each other to speak.
        return waiting[-1]

    def _give_way(self) -> None:
        scope = self._giving_way()
        del self._stays[scope]
        scope.cancel()
