"""How fresh this node's state is: what `max-stale` promises, measured by rounds of ReadIndex.

A round that began at some time gives an index that covers everything that was acknowledged before it began
(`reads.py`). So once the state machine has applied up to that index, the state is *fresh as of* the begin of
the round. Nothing else proves that: a heartbeat that arrives now may have waited in a socket while this node
was paused, may come from a leader that is deposed already, and says nothing of what is applied here.

The begin is noted before the question leaves, on a clock that counts a suspended machine too. So whatever
happens afterwards (a pause, a suspend, a full disk, a slow apply) makes the state seem older, never newer.
"""

from collections.abc import Callable


class Freshness:
    """Fresh as of when? Rounds of ReadIndex tell it what they have proved.

    Args:
        applied_index: tells how far the state machine is.
        now: tells the time, in seconds, on a clock that goes on while the machine is suspended.
    """

    def __init__(self, applied_index: Callable[[], int], now: Callable[[], float]) -> None:
        self.now = now
        self._applied_index = applied_index
        self._as_of: float | None = None
        # Rounds whose index is not applied yet: the first of them, and the newest. Those in between are left
        # out, so that a node that applies slowly keeps two of them, and seems older than it is.
        self._next: tuple[int, float] | None = None
        self._newest: tuple[int, float] | None = None
        self._is_wanted = False

    def proved(self, begun_at: float, index: int) -> None:
        """A round that began at `begun_at` was answered with `index`."""
        if self._next is None:
            self._next = (index, begun_at)
        else:
            self._newest = (index, begun_at)

    @property
    def as_of(self) -> float | None:
        """The state holds all that was acknowledged before this time; None if no round has proved any."""
        while self._next is not None and self._next[0] <= self._applied_index():
            self._as_of = self._next[1]
            self._next, self._newest = self._newest, None
        return self._as_of

    def is_within(self, seconds: float) -> bool:
        """Whether the state holds all that was acknowledged up to so many seconds ago.

        It asks for a round at the next tick if half of that time has passed since the last one began. So a
        node that is asked often stays within it, if a quorum answers.
        """
        as_of = self.as_of
        age_s = None if as_of is None else self.now() - as_of
        self._is_wanted = self._is_wanted or age_s is None or age_s > seconds / 2
        return age_s is not None and age_s <= seconds

    def take_wanted(self) -> bool:
        """Whether somebody wants a round that no read waits for; asked once a tick."""
        is_wanted, self._is_wanted = self._is_wanted, False
        return is_wanted
