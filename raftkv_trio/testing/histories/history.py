"""What clients did and were told: the evidence that a history checker judges.

An operation is invoked, and ends in one of three ways: completed (with an answer), failed (certainly not
applied), or unknown (applied at any time after its invocation, or never). An operation that has not ended is
unknown too. Only the order of the calls counts; times are for the reader.
"""

from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Outcome(Enum):
    """What a client knows of the end of its operation."""

    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class RecordedOperation(Generic[Request, Answer]):
    """One operation on one key. Made by `History.invoke`, and changed by its history only.

    Attributes:
        client: name of the client; for the reader only.
        invoked, ended: positions in the history; `ended` is None while the operation is pending.
        invoked_at, ended_at: seconds on the history's clock; None if it has no clock.
        answer: None unless the operation is completed.
    """

    __slots__ = (
        "answer",
        "client",
        "ended",
        "ended_at",
        "invoked",
        "invoked_at",
        "key",
        "outcome",
        "request",
    )

    def __init__(
        self, client: str, key: Hashable, request: Request, invoked: int, invoked_at: float | None
    ) -> None:
        self.client = client
        self.key = key
        self.request = request
        self.invoked = invoked
        self.invoked_at = invoked_at
        self.ended: int | None = None
        self.ended_at: float | None = None
        self.outcome = Outcome.UNKNOWN
        self.answer: Answer | None = None

    def __repr__(self) -> str:
        end = "" if self.ended is None else str(self.ended)
        told = self.outcome.value if self.answer is None else str(self.answer)
        return f"{self.invoked}..{end} {self.client}: {self.request} -> {told}"


class History(Generic[Request, Answer]):
    """Records the operations of any number of concurrent clients in one thread.

    Args:
        now: clock of the operations' times, in seconds; None: they have no times.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now
        self._position = 0
        self._operations: list[RecordedOperation[Request, Answer]] = []

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def operations(self) -> Sequence[RecordedOperation[Request, Answer]]:
        """All operations, in the order of their invocation."""
        return self._operations

    def invoke(self, client: str, key: Hashable, request: Request) -> RecordedOperation[Request, Answer]:
        """Record that `client` is about to send `request`; call it before anything is sent."""
        operation: RecordedOperation[Request, Answer] = RecordedOperation(
            client, key, request, self._next_position(), self._time()
        )
        self._operations.append(operation)
        return operation

    def complete(self, operation: RecordedOperation[Request, Answer], answer: Answer) -> None:
        """Record the operation's answer; call it after the answer has arrived.

        Raises ValueError if the operation has ended before, or if `answer` is None, which means unknown.
        """
        if answer is None:
            raise ValueError(f"a completed operation has an answer, not None: {operation}")
        self._end(operation, Outcome.COMPLETED)
        operation.answer = answer

    def fail(self, operation: RecordedOperation[Request, Answer]) -> None:
        """Record that it was not and will not be applied. Raises ValueError if it has ended before."""
        self._end(operation, Outcome.FAILED)

    def give_up(self, operation: RecordedOperation[Request, Answer]) -> None:
        """Record that the client stopped waiting: unknown. Raises ValueError if it has ended before."""
        self._end(operation, Outcome.UNKNOWN)

    def _end(self, operation: RecordedOperation[Request, Answer], outcome: Outcome) -> None:
        if operation.ended is not None:
            raise ValueError(f"an operation ends once: {operation}")
        operation.ended = self._next_position()
        operation.ended_at = self._time()
        operation.outcome = outcome

    def _next_position(self) -> int:
        self._position += 1
        return self._position

    def _time(self) -> float | None:
        return None if self._now is None else self._now()
