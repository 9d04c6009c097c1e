"""Everything that a load counts, while it runs and when it has ended."""

from collections import Counter
from dataclasses import dataclass, field

from raftkv_trio.client.load.latencies import Latencies
from raftkv_trio.client.load.load import SUCCESS, Load
from raftkv_trio.foreign_text import printable


class Outcomes:
    """What became of the requests of one operation.

    Attributes:
        latencies: of those that succeeded.
        statuses: how many had each status.
        failures: how many got no response, by reason.
        refusals: what the server said with a status when that came first, by status.
    """

    def __init__(self, operation: str) -> None:
        self._success = SUCCESS[operation]
        self.latencies = Latencies()
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.refusals: dict[int, str] = {}

    def answered(self, status: int, duration_s: float, refusal: bytes = b"") -> bool:
        """Count a response, and return whether it is one of success; `refusal` is what it says if not."""
        self.statuses[status] += 1
        if status == self._success:
            self.latencies.observe(duration_s)
            return True
        if refusal and status not in self.refusals:
            self.refusals[status] = sentence_of(refusal)
        return False

    @property
    def errors(self) -> dict[str, int]:
        """How many did not succeed, by status or reason."""
        refused = {str(status): n for status, n in sorted(self.statuses.items()) if status != self._success}
        return {**refused, **self.failures}


@dataclass(slots=True)
class Tally:
    """The counts of one run. Clients add to it at any time, so a run that is cut short has one too.

    Attributes:
        outcomes: by operation.
        unreached: how often a server could not be reached, by reason.
        filled: how many keys have been written before the run.
        began_s, ended_s: the run, on the clock `time.perf_counter`; None before.
        longest_stall_s: the longest time of the run in which no request succeeded.
    """

    outcomes: dict[str, Outcomes]
    unreached: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    began_s: float | None = None
    ended_s: float | None = None
    longest_stall_s: float = 0.0
    _last_success_s: float = 0.0

    @classmethod
    def of(cls, load: Load) -> "Tally":
        """An empty one."""
        return cls({operation: Outcomes(operation) for operation in load.operations})

    def begin(self, now_s: float) -> None:
        """The run begins."""
        self.began_s = self._last_success_s = now_s

    def end(self, now_s: float) -> None:
        """The run has ended."""
        self.ended_s = now_s
        self._note_stall(now_s)

    def answered(self, operation: str, status: int, began_s: float, ended_s: float, refusal: bytes) -> None:
        """Count a response to a request that was sent at `began_s`."""
        if self.outcomes[operation].answered(status, ended_s - began_s, refusal):
            self._note_stall(ended_s)

    def _note_stall(self, now_s: float) -> None:
        if (stall_s := now_s - self._last_success_s) > self.longest_stall_s:
            self.longest_stall_s = stall_s
        self._last_success_s = now_s

    @property
    def succeeded(self) -> int:
        """How many requests succeeded, of all operations."""
        return sum(outcomes.latencies.count for outcomes in self.outcomes.values())

    @property
    def failed(self) -> int:
        """How many requests did not succeed, and attempts to reach a server."""
        errors = [count for outcomes in self.outcomes.values() for count in outcomes.errors.values()]
        return sum(errors) + self.unreached.total()

    @property
    def elapsed_s(self) -> float:
        """How long the run was; 0 if it has not begun."""
        if self.began_s is None or self.ended_s is None:
            return 0.0
        return self.ended_s - self.began_s


def sentence_of(refusal: bytes) -> str:
    """What a server says, fit for a line."""
    return printable(refusal.decode(errors="replace").strip())
