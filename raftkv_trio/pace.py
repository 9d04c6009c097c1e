"""How often something may happen: in the long run so many times a second, and some times more at once.

Who asks before it does something takes a turn. Turns for what was done without asking are charged afterwards,
and those who come next wait until they are paid for.
"""

from collections import deque
from collections.abc import Callable
from math import inf

import trio

from raftkv_trio.world import Clock

#: More are looked through, for those that matter no more.
_MANY = 256


class Pace:
    """Lets tasks go on at a rate, in the order in which they have come.

    Args:
        rate: how many a second, in the long run.
        burst: how many more at once.
        max_debt: so many turns at most that were had without asking count at a time; those who come next do
            not wait longer for them.
    """

    def __init__(self, clock: Clock, rate: float, burst: int, max_debt: float = inf) -> None:
        self._clock = clock
        self._rate = rate
        self._burst_s = burst / rate
        self._max_debt_s = max_debt / rate
        # Two queues, whose first ones have their turns alternately: of tasks, and of those that may give up.
        self._queue, self._turn = trio.Lock(), trio.Lock()
        self._second_queue: deque[_Waiter] = deque()
        self._paid_at = 0.0  # at the rate, all was paid for by then; it may be in the future

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and no turn of the past matters any more."""
        return self._paid_at <= self._clock.now() and not self._is_waited_for

    @property
    def is_spent(self) -> bool:
        """Whether the next one would have to wait for its turn."""
        return self._is_waited_for or self._clock.now() < self._paid_at - self._burst_s

    @property
    def _is_waited_for(self) -> bool:
        return self._turn.locked() or bool(self._second_queue)

    def take_turn(self) -> bool:
        """Have a turn at once, if there is one and nobody waits for it."""
        if self.is_spent:
            return False
        self._pay()
        return True

    def charge(self, turns: float) -> None:
        """Count so many turns for what has happened already."""
        now = self._clock.now()
        paid_at = max(self._paid_at, now) + turns / self._rate
        self._paid_at = max(self._paid_at, min(paid_at, now + self._burst_s + self._max_debt_s))

    def _pay(self) -> None:
        self._paid_at = max(self._paid_at, self._clock.now()) + 1 / self._rate

    async def wait_turn(self, of_all: "Pace | None" = None) -> None:
        """Return when it is this task's turn. Cancellation takes none.

        Args:
            of_all: a pace that several have in common, in which a turn is taken too. One task at a time waits
                for it, so each of the several has one place in its queue.
        """
        async with self._queue, self._turn:
            await self._clock.sleep_until(self._paid_at - self._burst_s)
            while self._clock.now() < (due := self._paid_at - self._burst_s):  # more was charged meanwhile
                await self._clock.sleep_until(due)
            if of_all is not None:
                await of_all.wait_turn()
            self._pay()

    async def wait_turn_unless(self, is_over: Callable[[], bool]) -> bool:
        """Wait for a turn in the second queue; False, and no turn, if it is over by then.

        Who has given up is passed over then, and keeps nobody waiting. Cancellation takes no turn.
        """
        waiter = _Waiter(is_over)
        queue = self._second_queue
        queue.append(waiter)
        try:
            if waiter is not queue[0]:
                await waiter.is_first.wait()
            if waiter.is_passed_over:
                return False
            async with self._turn:
                while not is_over():
                    due = self._paid_at - self._burst_s
                    if self._clock.now() >= due:
                        self._pay()
                        return True
                    await self._clock.sleep_until(due)
            return False
        finally:
            if not waiter.is_passed_over:
                queue.remove(waiter)
                self._pass_over()

    def _pass_over(self) -> None:
        """Dismiss at once all at the head of the second queue that have given up; wake the next one."""
        queue = self._second_queue
        while queue and queue[0].is_over():
            waiter = queue.popleft()
            waiter.is_passed_over = True
            waiter.is_first.set()
        if queue:
            queue[0].is_first.set()


class _Waiter:
    """One of the second queue.

    Attributes:
        is_over: whether it has given up.
        is_first: set when it is the first one of the queue, or is not in it any more.
        is_passed_over: whether it was dismissed.
    """

    __slots__ = ("is_first", "is_over", "is_passed_over")

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self.is_over = is_over
        self.is_first = trio.Event()
        self.is_passed_over = False


class Paces:
    """A pace of each host."""

    def __init__(self, clock: Clock, rate: float, burst: int, max_debt: float = inf) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._max_debt = max_debt
        self._paces: dict[str, Pace] = {}

    def __len__(self) -> int:
        return len(self._paces)

    def of(self, host: str) -> Pace:
        """The pace of a host; to be used at once, since it is forgotten when it matters no more."""
        if host not in self._paces:
            if len(self._paces) > _MANY:
                self._paces = {name: pace for name, pace in self._paces.items() if not pace.is_idle}
            self._paces[host] = Pace(self._clock, self._rate, self._burst, self._max_debt)
        return self._paces[host]
