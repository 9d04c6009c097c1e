"""Whether the order of its revisions explains a history of a store with many keys.

Each change has a revision of its own, and each answer tells the store's revision. So the order need not be
searched for, as `linearizability.py` does for one key: the changes are replayed in the order of their
revisions in a model of the store, and each answer is compared with the model's. This takes linear time, and
judges what is said of many keys at once: both halves of a txn, ranges, counts, past revisions.

What is asked for besides:
- Time: what ended before a write was invoked has a lower revision; what ended before a read was invoked has
  no higher one. A stale read (`StoreStaleRead`) may be of any past state, but of no future one.
- A read at a past revision shows what that revision left. It may fail as compacted only if a compaction that
  may have come before it covers that revision; and must, if one that certainly did come before does.
- Compactions have no revision of their own. Those that succeeded must have an order in which each goes
  further than the one before, which agrees with the store's revision in their answers, and with time.
- A request that failed in the state of the store must fail in one that the store had meanwhile.
- A failed operation (`Outcome.FAILED`) is not in the order.

A *lost* write, of unknown outcome, may have made a revision that no answer names. Which one made it is
decided by what was seen of that revision, and else tried: the first that explains all answers is as good as
any. The search goes back only when a later answer contradicts. Ten revisions of which nobody saw anything may
take it too long. Who knows better can say which order to try first; that changes no verdict but `Undecided`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raftkv_trio.testing.histories.compactions import check_compactions
from raftkv_trio.testing.histories.history import History, Outcome, RecordedOperation
from raftkv_trio.testing.histories.linearizability import NotLinearizable, Undecided
from raftkv_trio.testing.histories.sightings import Sightings
from raftkv_trio.testing.histories.store_model import FIRST_REVISION, StoreModel
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreFailure,
    StoreGet,
    StoreGetAnswer,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
    has_changed,
    may_change,
)
from raftkv_trio.testing.histories.time_bounds import TimeBounds

StoreOperationRecord = RecordedOperation[StoreRequest, StoreAnswer]
StoreHistory = History[StoreRequest, StoreAnswer]

MAX_STEPS = 50_000


def check_revisions(
    history: StoreHistory,
    *,
    tried_first: Sequence[StoreOperationRecord] = (),
    max_steps: int = MAX_STEPS,
) -> int:
    """Check that the order of its revisions explains `history`; return the number of writes tried.

    Args:
        tried_first: lost writes in an order that is likely to be the right one; others are tried later.
        max_steps: bound of these; beyond it the search is given up.

    Raises:
        NotLinearizable: the text shows an answer that cannot be explained, and what explains it best.
        Undecided: `max_steps` was reached; a test should count this as a failure too.
    """
    bounds = TimeBounds(history.operations)
    check_compactions(history.operations, bounds)
    search = _Replay(history, bounds, tried_first, max_steps)
    search.run()
    return search.steps


class _Reached(NamedTuple):
    """The best explanation so far ends at this revision, for this reason."""

    revision: int
    why: str


class _Replay:
    """The replay of all changes in the order of their revisions; `steps` counts the writes tried."""

    def __init__(
        self,
        history: StoreHistory,
        bounds: TimeBounds,
        tried_first: Sequence[StoreOperationRecord],
        max_steps: int,
    ) -> None:
        self.steps = 0
        self._max_steps = max_steps
        self._bounds = bounds
        self._model = StoreModel()
        self._last = bounds.last
        self._writes: dict[int, StoreOperationRecord] = {}  # by revision
        self._reads: dict[int, list[StoreOperationRecord]] = {}  # by revision
        self._past: dict[int, list[tuple[StoreOperationRecord, StoreGet, StoreGetAnswer]]] = {}
        self._failed: dict[int, list[StoreOperationRecord]] = {}  # by the latest revision they may have met
        self._lost: list[StoreOperationRecord] = []
        for operation in history.operations:
            self._sort(operation)
        gaps = [r for r in range(FIRST_REVISION + 1, self._last + 1) if r not in self._writes]
        self._sightings = Sightings(history.operations, gaps)
        self._turn = {operation: turn for turn, operation in enumerate(tried_first)}
        self._placed: list[StoreOperationRecord] = []
        self._used: set[StoreOperationRecord] = set()
        self._reached = _Reached(0, "")

    def run(self) -> None:
        """Raises NotLinearizable, Undecided."""
        path: list[Iterator[StoreOperationRecord]] = []
        placed = self._placed
        if self._is_explained():
            path.append(self._options())
        while path and self._model.revision < self._last:
            option = next(path[-1], None)
            if option is not None:
                if self._place(option):
                    placed.append(option)
                    path.append(self._options())
                continue
            path.pop()
            if placed:
                self._used.discard(placed.pop())
                self._model.undo()
        if not path:
            raise NotLinearizable(
                f"no order of revisions explains what was told; the best one ends at revision"
                f" {self._reached.revision}:\n{self._reached.why}"
            )

    def _sort(self, operation: StoreOperationRecord) -> None:
        answer = operation.answer
        if isinstance(answer, StoreTxnAnswer):
            for get, seen in _gets_of_the_past(operation.request, answer):
                self._past.setdefault(get.revision or 0, []).append((operation, get, seen))
        if operation.outcome is Outcome.UNKNOWN and may_change(operation.request):
            self._lost.append(operation)
        elif isinstance(answer, StoreFailure):
            self._failed.setdefault(self._bounds.latest(operation), []).append(operation)
        elif answer is None or isinstance(operation.request, StoreCompact):
            pass
        elif not has_changed(answer):
            self._reads.setdefault(answer.revision, []).append(operation)
        elif (first := self._writes.setdefault(answer.revision, operation)) is not operation:
            raise NotLinearizable(f"two writes have the same revision:\n  {first}\n  {operation}")

    def _options(self) -> Iterator[StoreOperationRecord]:
        """The writes that may have made the next revision."""
        revision = self._model.revision + 1
        if revision in self._writes:
            return iter((self._writes[revision],))
        possible = [
            o for o in self._lost if o not in self._used and self._bounds.earliest_change(o) <= revision
        ]
        # What is known by its values to have made another revision comes last. And what was passed over when
        # its turn came has changed nothing then, so it is tried after those whose turn is still to come.
        last = self._turn.get(self._placed[-1], -1) if self._placed else -1
        possible.sort(
            key=lambda o: (
                self._turn.get(o, len(self._turn)) < last,
                self._turn.get(o, len(self._turn)),
                self._sightings.shows_elsewhere(o.request, revision),
            )
        )
        self._note(
            revision,
            f"nothing is left that can have made revision {revision}, as told by\n  {self._teller()}",
        )
        return iter(possible)

    def _teller(self) -> StoreOperationRecord | None:
        """An operation whose answer tells that there was a next revision."""
        for revision in range(self._model.revision + 1, self._last):
            if revision in self._writes:
                return self._writes[revision]
            if revision in self._reads:
                return self._reads[revision][0]
        return self._bounds.newest

    def _place(self, operation: StoreOperationRecord) -> bool:
        """Let this write make the next revision; False, and nothing has changed, if it cannot have."""
        if self.steps == self._max_steps:
            raise Undecided(f"undecided after {self.steps} steps; {self._reached.why}")
        self.steps += 1
        revision = self._model.revision + 1
        assert isinstance(operation.request, StoreTxn)
        answer, changes = self._model.run(operation.request, self._model.revision)
        if operation.answer is None:
            if not changes or not self._sightings.allow(revision, changes, self._model):
                return False
        elif answer != operation.answer:
            self._note(revision, _contradiction(operation, answer, revision))
            return False
        self._model.commit(changes)
        self._used.add(operation)
        if not self._is_explained():
            self._used.discard(operation)
            self._model.undo()
            return False
        return True

    def _is_explained(self) -> bool:
        """Whether the state explains all that was read in it, and what had to fail until then."""
        revision = self._model.revision
        for operation in self._reads.get(revision, ()):
            request = operation.request
            txn = request.txn if isinstance(request, StoreStaleRead) else request
            assert isinstance(txn, StoreTxn)
            answer, _ = self._model.run(txn, revision)
            if answer != operation.answer:
                self._note(revision, _contradiction(operation, answer, revision))
                return False
        # Not only where the answer stands: many revisions later it would be too late to find what was wrong.
        for operation, get, seen in self._past.get(revision, ()):
            answer, _ = self._model.run(StoreTxn(success=(get,)), revision)
            assert isinstance(answer, StoreTxnAnswer)
            result = answer.results[0]
            assert isinstance(result, StoreGetAnswer)
            if result[:2] != seen[:2]:
                self._note(revision, f"  {operation}\nbut revision {revision} has left\n  {result}")
                return False
        for operation in self._failed.get(revision, ()):
            if not self._may_fail(operation):
                self._note(revision, f"this fails so in no state that it can have met:\n  {operation}")
                return False
        return True

    def _may_fail(self, operation: StoreOperationRecord) -> bool:
        if self._bounds.latest(operation) >= self._last and any(
            lost not in self._used and lost.invoked < (operation.ended or 0) for lost in self._lost
        ):
            return True  # it may have met a revision after the last one that anybody was told of
        request, failure = operation.request, operation.answer
        states = range(self._bounds.earliest(operation), self._bounds.latest(operation) + 1)
        if isinstance(request, StoreCompact):
            # `check_compactions` has judged those that are refused as compacted.
            return failure is not StoreFailure.FUTURE_REVISION or request.revision > states[0]
        txn = request.txn if isinstance(request, StoreStaleRead) else request
        compacted = self._bounds.may_be_compacted_below(operation)
        return any(failure in self._model.failures(txn, at, compacted) for at in states)

    def _note(self, revision: int, why: str) -> None:
        if revision >= self._reached.revision:
            self._reached = _Reached(revision, why)


def _gets_of_the_past(
    request: StoreRequest, answer: StoreTxnAnswer
) -> Iterator[tuple[StoreGet, StoreGetAnswer]]:
    txn = request.txn if isinstance(request, StoreStaleRead) else request
    assert isinstance(txn, StoreTxn)
    operations = txn.success if answer.succeeded else txn.failure
    for operation, result in zip(operations, answer.results, strict=False):
        match operation, result:
            case StoreGet(revision=int()), StoreGetAnswer():
                yield operation, result
            case StoreTxn(), StoreTxnAnswer():
                yield from _gets_of_the_past(operation, result)


def _contradiction(operation: StoreOperationRecord, answer: StoreAnswer, revision: int) -> str:
    return f"  {operation}\nbut at revision {revision} the answer is\n  {answer}"
