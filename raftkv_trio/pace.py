"""How often something may happen: in the long run so many times a second, and some times more at once.

Who asks before it does something takes a turn. Turns for what was done without asking are charged afterwards,
and those who come next wait until they are paid for.
"""

from collections.abc import Callable

import trio

from raftkv_trio.world import Clock

#: More are looked through, for those that matter no more.
_MANY = 256


class Pace:
    """Lets tasks go on at a rate, in the order in which they have come.

    Args:
        rate: how many a second, in the long run.
        burst: how many more at once.
    """

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst_s = burst / rate
        self._turn = trio.Lock()
        self._paid_at = 0.0  # at the rate, all was paid for by then; it may be in the future

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and no turn of the past matters any more."""
        return self._paid_at <= self._clock.now() and not self._turn.locked()

    @property
    def is_spent(self) -> bool:
        """Whether the next one would have to wait for its turn."""
        return self._turn.locked() or self._clock.now() < self._paid_at - self._burst_s

    def take_turn(self) -> bool:
        """Have a turn at once, if there is one and nobody waits for it."""
        if self.is_spent:
            return False
        self.charge(1)
        return True

    def charge(self, turns: float) -> None:
        """Count so many turns for what has happened already."""
        self._paid_at = max(self._paid_at, self._clock.now()) + turns / self._rate

    async def wait_turn(self, of_all: "Pace | None" = None) -> None:
        """Return when it is this task's turn. Cancellation takes none.

        Args:
            of_all: a pace that several have in common, in which a turn is taken too. One task at a time waits
                for it, so each of the several has one place in its queue.
        """
        async with self._turn:
            await self._clock.sleep_until(self._paid_at - self._burst_s)
            while self._clock.now() < (due := self._paid_at - self._burst_s):  # more was charged meanwhile
                await self._clock.sleep_until(due)
            if of_all is not None:
                await of_all.wait_turn()
            self.charge(1)

    async def wait_turn_unless(self, is_over: Callable[[], bool]) -> bool:
        """Wait as `wait_turn` does; False, and no turn, if it is over when those before have had theirs.

        Who has given up is passed over then, and keeps nobody waiting. Cancellation takes no turn.
        """
        async with self._turn:
            while not is_over():
                due = self._paid_at - self._burst_s
                if self._clock.now() >= due:
                    self.charge(1)
                    return True
                await self._clock.sleep_until(due)
        return False


class Paces:
    """A pace of each host."""

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._paces: dict[str, Pace] = {}

    def __len__(self) -> int:
        return len(self._paces)

    def of(self, host: str) -> Pace:
        """The pace of a host; to be used at once, since it is forgotten when it matters no more."""
        if host not in self._paces:
            if len(self._paces) > _MANY:
                self._paces = {name: pace for name, pace in self._paces.items() if not pace.is_idle}
            self._paces[host] = Pace(self._clock, self._rate, self._burst)
        return self._paces[host]
