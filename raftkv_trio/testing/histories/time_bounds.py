"""Which states of a store an operation can have met, by the time at which it began and ended."""

from collections.abc import Sequence

from raftkv_trio.testing.histories.history import Outcome, RecordedOperation
from raftkv_trio.testing.histories.linearizability import NotLinearizable
from raftkv_trio.testing.histories.store_model import FIRST_REVISION
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreFailure,
    StoreRequest,
    StoreStaleRead,
    has_changed,
)

_Operation = RecordedOperation[StoreRequest, StoreAnswer]


class TimeBounds:
    """For each operation the revisions that it can have met.

    Raises NotLinearizable if an answer tells another one: older than what had ended before it was invoked, or
    newer than what was invoked after its end.

    Attributes:
        last: the highest revision that an answer tells.
        newest: an operation whose answer tells it; None if no answer tells of a change.
    """

    def __init__(self, operations: Sequence[_Operation]) -> None:
        self._begins = {o.invoked: o for o in operations}
        self._ends = {o.ended: o for o in operations if o.ended is not None}
        self._positions = sorted([*self._begins, *self._ends])
        self._earliest: dict[_Operation, int] = {}
        self._compacted: dict[_Operation, int] = {}
        self._latest: dict[_Operation, int] = {}
        self.last, self.newest = self._forward()
        self._backward()

    def earliest(self, operation: _Operation) -> int:
        """The lowest revision of the store that the operation can have met."""
        return FIRST_REVISION if isinstance(operation.request, StoreStaleRead) else self._earliest[operation]

    def earliest_change(self, operation: _Operation) -> int:
        """The lowest revision that the operation can have made."""
        return self._earliest[operation] + 1

    def latest(self, operation: _Operation) -> int:
        """The highest revision of the store that a completed operation can have met, before it changed it."""
        return self._latest[operation]

    def may_be_compacted_below(self, operation: _Operation) -> int:
        """The highest revision at which a compaction can have come before the end of the operation."""
        return self._compacted[operation]

    def _forward(self) -> tuple[int, _Operation | None]:
        known, told_by = FIRST_REVISION, None
        compacted = 0
        for position in self._positions:
            if position in self._begins:
                operation = self._begins[position]
                self._earliest[operation] = known
                request = operation.request
                if isinstance(request, StoreCompact) and _may_be_done(operation):
                    compacted = max(compacted, request.revision)
                continue
            operation = self._ends[position]
            self._compacted[operation] = compacted
            revision = revision_of(operation)
            if revision is None:
                continue
            if revision - _changes(operation) < self.earliest(operation):
                raise NotLinearizable(
                    f"an answer is older than what had been told before:\n  {operation}\n  {told_by}"
                )
            if revision > known:
                known, told_by = revision, operation
        return known, told_by

    def _backward(self) -> None:
        bound, told_by = self.last, None
        for position in reversed(self._positions):
            if position in self._ends:
                operation = self._ends[position]
                self._latest[operation] = bound
                revision = revision_of(operation)
                if revision is not None and revision > bound:
                    raise NotLinearizable(
                        f"an answer tells of what was asked after its end:\n  {operation}\n  {told_by}"
                    )
                continue
            operation = self._begins[position]
            revision = revision_of(operation)
            if revision is not None and not isinstance(operation.request, StoreStaleRead):
                before = revision - _changes(operation)
                if before < bound:
                    bound, told_by = before, operation


def revision_of(operation: _Operation) -> int | None:
    """The store's revision that the answer tells; None if there is no such answer."""
    answer = operation.answer
    return None if answer is None or isinstance(answer, StoreFailure) else answer.revision


def _changes(operation: _Operation) -> bool:
    return operation.answer is not None and has_changed(operation.answer)


def _may_be_done(operation: _Operation) -> bool:
    return operation.outcome is not Outcome.FAILED and not isinstance(operation.answer, StoreFailure)
