"""Whether the compactions of a history have an order, and what was read could be read.

A compaction changes no revision. So its place among reads of the same revision is known by time alone.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from raftkv_trio.testing.histories.history import RecordedOperation
from raftkv_trio.testing.histories.linearizability import NotLinearizable
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreCompactAnswer,
    StoreFailure,
    StoreGet,
    StoreOperation,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
    has_changed,
)
from raftkv_trio.testing.histories.time_bounds import TimeBounds

_Operation = RecordedOperation[StoreRequest, StoreAnswer]


def check_compactions(operations: Sequence[_Operation], bounds: TimeBounds) -> None:
    """Raise NotLinearizable if a compaction, or a read at a past revision, cannot have been answered so."""
    done = [o for o in operations if isinstance(o.answer, StoreCompactAnswer)]
    done.sort(key=_compacted)
    for earlier, later in pairwise(done):
        assert earlier.ended is not None
        assert later.ended is not None
        in_time = earlier.invoked < later.ended
        if _compacted(earlier) == _compacted(later) or _met(earlier) > _met(later) or not in_time:
            raise NotLinearizable(f"these compactions have no order:\n  {later}\n  {earlier}")
    for operation in operations:
        request, answer = operation.request, operation.answer
        if isinstance(request, StoreCompact):
            _check_compact(operation, request, bounds)
        elif isinstance(answer, StoreTxnAnswer):
            _check_reads(operation, request, answer, done)


def _check_compact(operation: _Operation, request: StoreCompact, bounds: TimeBounds) -> None:
    answer = operation.answer
    if isinstance(answer, StoreCompactAnswer) and request.revision > answer.revision:
        raise NotLinearizable(f"a revision was compacted that did not exist:\n  {operation}")
    if answer is StoreFailure.COMPACTED and request.revision > bounds.may_be_compacted_below(operation):
        raise NotLinearizable(f"no compaction can have made this one fail:\n  {operation}")


def _check_reads(
    operation: _Operation,
    request: StoreTxn | StoreStaleRead,
    answer: StoreTxnAnswer,
    done: Sequence[_Operation],
) -> None:
    is_stale = isinstance(request, StoreStaleRead)
    txn = request.txn if isinstance(request, StoreStaleRead) else request
    oldest = min(_past_revisions(txn, answer), default=None)
    if oldest is None:
        return
    base = answer.revision - has_changed(answer)
    for compaction in done:
        assert compaction.ended is not None
        # A store that has a later revision has run the compaction too.
        is_before = _met(compaction) < base or (not is_stale and compaction.ended < operation.invoked)
        if is_before and _compacted(compaction) > oldest:
            raise NotLinearizable(
                f"revision {oldest} was read after it was compacted:\n  {operation}\n  {compaction}"
            )


def _past_revisions(txn: StoreTxn, answer: StoreTxnAnswer) -> Iterator[int]:
    """The past revisions that were read, in the list that was run."""
    operations: tuple[StoreOperation, ...] = txn.success if answer.succeeded else txn.failure
    for operation, result in zip(operations, answer.results, strict=False):
        if isinstance(operation, StoreGet) and operation.revision is not None:
            yield operation.revision
        elif isinstance(operation, StoreTxn) and isinstance(result, StoreTxnAnswer):
            yield from _past_revisions(operation, result)


def _compacted(operation: _Operation) -> int:
    assert isinstance(operation.request, StoreCompact)
    return operation.request.revision


def _met(operation: _Operation) -> int:
    """The store's revision when the compaction was done."""
    assert isinstance(operation.answer, StoreCompactAnswer)
    return operation.answer.revision
