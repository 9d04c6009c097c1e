"""Virtual time: actions in the order of their moments, and the trace of what they did."""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

#: A moment that never comes.
NEVER = float("inf")


class Timeline:
    """Actions on a virtual clock, of which any number can share a moment: the one planned first is first.

    Attributes:
        now: seconds since the beginning.
        events: how many actions were taken.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._planned: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[..., object], *arguments: Any) -> None:
        """Plan an action; one for a moment that has passed is taken next."""
        self._count += 1
        heapq.heappush(self._planned, (max(when, self.now), self._count, action, arguments))

    def after(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now + delay_s, action, *arguments)

    @property
    def next_at(self) -> float:
        """The moment of the next action; NEVER where nothing is planned."""
        return self._planned[0][0] if self._planned else NEVER

    def step(self) -> None:
        """Take the next action; raises IndexError where nothing is planned."""
        self.now, _, action, arguments = heapq.heappop(self._planned)
        self.events += 1
        action(*arguments)

    def run_until(self, deadline: float) -> None:
        """Take all actions up to a moment, and let it be now."""
        while self.next_at <= deadline:
            self.step()
        self.now = max(self.now, deadline)


class Trace:
    """One line for everything that happens: hashed always, kept where asked for.

    Args:
        keep: keep the lines.
    """

    def __init__(self, timeline: Timeline, *, keep: bool = False) -> None:
        self.lines: list[str] | None = [] if keep else None
        self._timeline = timeline
        self._hash = blake2b(digest_size=16)

    def note(self, who: str, what: str) -> None:
        line = f"{self._timeline.now:12.6f} {who}: {what}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits: equal for equal traces."""
        return self._hash.hexdigest()
