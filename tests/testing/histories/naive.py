"""Linearizability by trying everything: all orders, unknown writes and hidden revisions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raftkv_trio.testing import (
    Outcome,
    RecordedOperation,
    RegisterAnswer,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    Seen,
)

Operations = Sequence[RecordedOperation[RegisterRequest, RegisterAnswer]]


class State(NamedTuple):
    """The state of the key; `revision` is None if no answer ever tells it."""

    value: bytes | None = None
    revision: int | None = None
    newest: int = 0


def is_linearizable(operations: Operations) -> bool:
    """Decide about the operations of one key; takes factorial time."""
    left = [o for o in operations if o.outcome is not Outcome.FAILED]
    return _can_finish(State(), left, sorted(_told_revisions(left)))


def _can_finish(state: State, left: Operations, revisions: list[int]) -> bool:
    if not any(o.outcome is Outcome.COMPLETED for o in left):
        return True
    for one in left:
        if any(_ends_before(other, one) for other in left):
            continue
        rest = [o for o in left if o is not one]
        if any(_can_finish(after, rest, revisions) for after in _after(state, one, revisions)):
            return True
    return False


def _ends_before(
    one: RecordedOperation[RegisterRequest, RegisterAnswer],
    other: RecordedOperation[RegisterRequest, RegisterAnswer],
) -> bool:
    return one.outcome is Outcome.COMPLETED and one.ended is not None and one.ended < other.invoked


def _after(
    state: State, one: RecordedOperation[RegisterRequest, RegisterAnswer], revisions: list[int]
) -> Iterator[State]:
    request, answer = one.request, one.answer
    if answer is not None and answer.seen is not None and not _is(state, answer.seen):
        return
    if isinstance(request, RegisterGet):
        yield state
        return
    met = request.expects is None or _is(state, request.expects)
    if met != (answer is None or answer.applied):
        return
    if not met:
        yield state
    elif isinstance(request, RegisterPut):
        told = None if answer is None else answer.revision
        if told is None:
            yield State(request.value, None, state.newest)
        for revision in revisions if told is None else [told]:
            if revision > state.newest:
                yield State(request.value, revision, revision)
    else:
        yield State(None, None, state.newest)


def _is(state: State, seen: Seen) -> bool:
    if not seen.present or state.value is None:
        return seen.present == (state.value is not None)
    return seen.value in (None, state.value) and seen.revision in (None, state.revision)


def _told_revisions(operations: Operations) -> set[int]:
    told: set[int | None] = set()
    for one in operations:
        told.add(one.answer and one.answer.revision)
        told.add(one.answer and one.answer.seen and one.answer.seen.revision)
        told.add(
            None
            if isinstance(one.request, RegisterGet)
            else one.request.expects and one.request.expects.revision
        )
    return {revision for revision in told if revision is not None}
