"""Virtual time: planned actions run in the order of their moments; the trace says what they did."""

import heapq
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

#: A moment that never comes.
NEVER = float("inf")


class Timeline:
    """Planned actions on a virtual clock; actions of the same moment run in the order of planning.

    Attributes:
        now: seconds since the beginning.
        events: number of actions run so far.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._planned: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[..., object], *arguments: Any) -> None:
        """Plan an action for a moment; if that has passed, the action runs next."""
        self._count += 1
        heapq.heappush(self._planned, (max(when, self.now), self._count, action, arguments))

    def after(self, delay_s: float, action: Callable[..., object], *arguments: Any) -> None:
        """Plan an action for `delay_s` from now."""
        self.at(self.now + delay_s, action, *arguments)

    @property
    def next_at(self) -> float:
        """The moment of the next action; NEVER if nothing is planned."""
        return self._planned[0][0] if self._planned else NEVER

    def step(self) -> None:
        """Run the next action; raises IndexError if nothing is planned."""
        self.now, _, action, arguments = heapq.heappop(self._planned)
        self.events += 1
        action(*arguments)

    def run_until(self, deadline: float) -> None:
        """Run all actions up to `deadline`, and set the clock to it."""
        while self.next_at <= deadline:
            self.step()
        self.now = max(self.now, deadline)


class Trace:
    """One line for everything that happens, hashed so that runs can be compared.

    Attributes:
        lines: all lines; None unless they are kept.

    Args:
        keep: whether to keep the lines.
    """

    def __init__(self, timeline: Timeline, *, keep: bool = False) -> None:
        self.lines: list[str] | None = [] if keep else None
        self._timeline = timeline
        self._hash = blake2b(digest_size=16)

    def note(self, source: str, what: str) -> None:
        """Add a line, with the present moment."""
        line = f"{self._timeline.now:12.6f} {source}: {what}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits: equal for equal traces."""
        return self._hash.hexdigest()
