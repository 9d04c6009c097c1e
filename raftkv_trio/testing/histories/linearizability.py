"""Whether a history can be explained by operations that take effect one at a time (Herlihy and Wing, 1990).

Each key is judged alone, which is enough: linearizability is local. The search is Wing and Gong's, with
Lowe's memory of configurations ("Testing for linearizability", 2017). It orders completed operations one by
one, each before all operations that were invoked after its end, and keeps the state that the model is in. If
answers tell of a common order, as revisions do, most orders are ruled out before they are tried
(`Model.rank`).

A *lost* operation, one of unknown outcome, may take effect at any time after its invocation, or never.
Without further rules every subset of the lost operations would have to be tried at every place. Three rules
keep them few; every order that they exclude can be replaced by one that they allow:
- A lost operation comes only right before an operation that may see it (`Model.may_see`), completed or lost;
  anywhere else it may as well come later, or never. So lost operations that nothing sees are dropped first.
- Of equal lost operations the earliest is used first.
- A state that was reached before with a subset of the lost operations used now is not examined again.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from raftkv_trio.testing.histories.history import Answer, History, Outcome, RecordedOperation, Request

S = TypeVar("S", bound=Hashable)
RequestContra = TypeVar("RequestContra", contravariant=True)
AnswerContra = TypeVar("AnswerContra", contravariant=True)
Place = TypeVar("Place", bound=Hashable)

MAX_STEPS = 1_000_000
SHOWN_BEFORE = 5  # operations, in an explanation


class Model(Protocol[S, RequestContra, AnswerContra]):
    """The sequential specification of one key. States and requests are hashable, immutable values."""

    def initial(self, key: Hashable) -> S:
        """The state of `key` before any operation."""
        ...

    def step(self, state: S, request: RequestContra, answer: AnswerContra | None) -> Sequence[S]:
        """The states that `request` may leave behind; none if `answer` contradicts `state`.

        If `answer` is None: the states that `request` leaves if it is applied; none if it would do nothing.
        """
        ...

    def only_reads(self, request: RequestContra, answer: AnswerContra) -> bool:
        """Whether `request` with `answer` changes no state in any order; it may narrow what is unknown."""
        ...

    def rank(self, request: RequestContra, answer: AnswerContra) -> int | None:
        """A number that never falls along an order, such as a revision; None if the answer has none."""
        ...

    def may_see(self, request: RequestContra, answer: AnswerContra | None, write: RequestContra) -> bool:
        """Whether `request` may be possible only because the lost `write` came right before it.

        False only if this holds in any state: `request` with that answer cannot come right after `write`, or
        it could as well come right before `write` or without it. True if in doubt.
        """
        ...


class HistoryError(AssertionError):
    """A history that could not be shown to be linearizable; the text says why."""


class NotLinearizable(HistoryError):
    """No order of the operations explains the answers."""


class Undecided(HistoryError):
    """The search was given up after its bound of steps."""


def check_linearizable(
    history: History[Request, Answer], model: Model[S, Request, Answer], *, max_steps: int = MAX_STEPS
) -> int:
    """Check that every key of `history` is linearizable; return the number of model steps it took.

    Args:
        max_steps: bound of the model's steps for one key; beyond it the search is given up.

    Raises:
        NotLinearizable: the text shows the longest order found, and what cannot follow it.
        Undecided: `max_steps` was reached; a test should count this as a failure too.
    """
    by_key: dict[Hashable, list[RecordedOperation[Request, Answer]]] = {}
    for operation in history.operations:
        by_key.setdefault(operation.key, []).append(operation)
    steps = 0
    for key, operations in by_key.items():
        search = Search(model, key, operations, max_steps)
        found = search.run()
        steps += search.steps
        if found is None:
            raise Undecided(f"key {key!r} is undecided after {search.steps} steps\n{search.explain()}")
        if not found:
            raise NotLinearizable(f"key {key!r} is not linearizable\n{search.explain()}")
    return steps


class _Configuration(NamedTuple, Generic[S]):
    """An order so far: bits of its completed and of its lost operations, and the state it leads to."""

    done: int
    lost: int
    state: S


class _Completed(NamedTuple, Generic[Request, Answer]):
    """`lower`: bits of the completed operations of lower rank; `sees`: of lost operations it may see."""

    operation: RecordedOperation[Request, Answer]
    ended: int
    answer: Answer
    only_reads: bool
    lower: int
    sees: int


class _Lost(NamedTuple, Generic[Request]):
    """`sees`: bits of the lost operations it may see."""

    invoked: int
    request: Request
    sees: int


class _OutOfSteps(Exception):
    pass


class Search(Generic[S, Request, Answer]):
    """One search for an order of one key's operations; `steps` counts the model's steps."""

    def __init__(
        self,
        model: Model[S, Request, Answer],
        key: Hashable,
        operations: Iterable[RecordedOperation[Request, Answer]],
        max_steps: int,
    ) -> None:
        self.steps = 0
        self._model = model
        self._max_steps = max_steps
        operations = sorted(operations, key=lambda o: o.invoked)
        completed = [
            (o, o.ended, o.answer)
            for o in operations
            if o.outcome is Outcome.COMPLETED
            if o.ended is not None and o.answer is not None  # as `History.complete` sees to
        ]
        lost = _seen_ones(model, operations)
        self._lost = [
            _Lost(o.invoked, o.request, _bits(model.may_see(o.request, None, w.request) for w in lost))
            for o in lost
        ]
        lower = _lower_ones([model.rank(o.request, answer) for o, _, answer in completed])
        self._completed = [
            _Completed(
                operation=o,
                ended=ended,
                answer=answer,
                only_reads=model.only_reads(o.request, answer),
                lower=below,
                sees=_bits(w.invoked < ended and model.may_see(o.request, answer, w.request) for w in lost),
            )
            for (o, ended, answer), below in zip(completed, lower, strict=True)
        ]
        self._visited: dict[tuple[int, S], list[int]] = {}
        self._longest = _Configuration(0, 0, model.initial(key))

    def run(self) -> bool | None:
        """Whether an order exists; None if the bound of steps was reached first."""
        everything = (1 << len(self._completed)) - 1
        path = [iter([self._longest])]
        try:
            while path:
                configuration = next(path[-1], None)
                if configuration is None:
                    path.pop()
                elif configuration.done == everything:
                    return True
                elif _is_news(self._visited, (configuration.done, configuration.state), configuration.lost):
                    path.append(self._successors(configuration))
                    self._longest = max(self._longest, configuration, key=lambda c: c.done.bit_count())
        except _OutOfSteps:
            return None
        return False

    def explain(self) -> str:
        """Where the longest order found ends: what came last in it, and what had to come next and cannot."""
        done, _, state = self._longest
        placed = [self._completed[number] for number in _numbers(done)]
        present, _ = self._present_ones(done)
        earlier = _union(self._completed[number].lower for number in present) & ~done
        due = sorted({*present, *_numbers(earlier)})
        return "\n".join(
            [
                f"{len(placed)} of {len(self._completed)} completed operations can be put in order and leave"
                f" {state}; the last of them are (invoked..ended client: request -> answer):",
                *(f"  {one.operation}" for one in sorted(placed, key=lambda p: p.ended)[-SHOWN_BEFORE:]),
                "and none of these can come next:",
                *(f"  {self._completed[number].operation}" for number in due),
            ]
        )

    def _successors(self, configuration: _Configuration[S]) -> Iterator[_Configuration[S]]:
        done, lost, state = configuration
        next_ones, horizon = self._next_ones(done)
        for number in next_ones:
            one = self._completed[number]
            # A read that fits may as well come now: it changes nothing for the operations after it.
            if one.only_reads and tuple(self._step(state, one.operation.request, one.answer)) == (state,):
                yield _Configuration(done | 1 << number, lost, state)
                return
        for used, before, last in self._with_lost(configuration, next_ones, horizon):
            for number in next_ones:
                one = self._completed[number]
                if last is None or one.sees >> last & 1:
                    for after in self._step(before, one.operation.request, one.answer):
                        yield _Configuration(done | 1 << number, used, after)

    def _next_ones(self, done: int) -> tuple[list[int], int]:
        """The completed operations that may come next, earliest end first; and the first end of all left."""
        present, horizon = self._present_ones(done)
        found = [number for number in present if not self._completed[number].lower & ~done]
        return sorted(found, key=lambda number: self._completed[number].ended), horizon

    def _present_ones(self, done: int) -> tuple[list[int], int]:
        """The operations left that were invoked before the first of them ended, and that end."""
        present = []
        first_left = (~done & (done + 1)).bit_length() - 1
        horizon = self._completed[first_left].ended
        for number in range(first_left, len(self._completed)):
            one = self._completed[number]
            if one.operation.invoked > horizon:
                break
            if not done >> number & 1:
                present.append(number)
                horizon = min(horizon, one.ended)
        return present, horizon

    def _with_lost(
        self, configuration: _Configuration[S], next_ones: Sequence[int], horizon: int
    ) -> Iterator[tuple[int, S, int | None]]:
        """The states after chains of lost operations, shortest chain (none) first, each with its last one.

        In a chain each operation is seen by the next.
        """
        _, used, state = configuration
        useful = self._useful_lost(next_ones)
        reached: dict[S, list[int]] = {}
        queue: deque[tuple[int, S, int | None]] = deque([(used, state, None)])
        while queue:
            used, state, last = queue.popleft()
            if not _is_news(reached, state, used):
                continue
            yield used, state, last
            for number in self._lost_next(useful & ~used, horizon):
                one = self._lost[number]
                if last is None or one.sees >> last & 1:
                    queue.extend(
                        (used | 1 << number, after, number) for after in self._step(state, one.request, None)
                    )

    def _useful_lost(self, next_ones: Iterable[int]) -> int:
        """Bits of the lost operations that one of `next_ones` or another useful lost operation may see."""
        useful = 0
        found = _union(self._completed[number].sees for number in next_ones)
        while found:
            useful |= found
            found = _union(self._lost[number].sees for number in _numbers(found)) & ~useful
        return useful

    def _lost_next(self, among: int, horizon: int) -> Iterator[int]:
        """The lost operations in `among` that may come before `horizon`; of equal ones the first."""
        equal: set[Request] = set()
        for number in _numbers(among):
            one = self._lost[number]
            if one.invoked > horizon:
                return
            if one.request not in equal:
                equal.add(one.request)
                yield number

    def _step(self, state: S, request: Request, answer: Answer | None) -> Sequence[S]:
        if self.steps == self._max_steps:
            raise _OutOfSteps
        self.steps += 1
        return self._model.step(state, request, answer)


def _is_news(known: dict[Place, list[int]], place: Place, used: int) -> bool:
    """Note that `place` is reached with the lost operations `used`; False if a subset was enough before."""
    ways = known.setdefault(place, [])
    if any(way & used == way for way in ways):
        return False
    ways.append(used)
    return True


def _seen_ones(
    model: Model[S, Request, Answer], operations: Iterable[RecordedOperation[Request, Answer]]
) -> list[RecordedOperation[Request, Answer]]:
    """The lost operations that a completed operation may see, or a lost one that is seen itself."""
    lost = [o for o in operations if o.outcome is Outcome.UNKNOWN]
    seers = [o for o in operations if o.outcome is Outcome.COMPLETED]
    seen: set[int] = set()
    while seers:
        found = [
            w
            for w in lost
            if w.invoked not in seen
            if any(
                (o.outcome is Outcome.UNKNOWN or (o.ended or 0) > w.invoked)
                and model.may_see(o.request, o.answer, w.request)
                for o in seers
            )
        ]
        seen.update(w.invoked for w in found)
        seers = found
    return [w for w in lost if w.invoked in seen]


def _lower_ones(ranks: Sequence[int | None]) -> list[int]:
    """For each rank, the bits of the operations of lower rank."""
    of_rank: dict[int, int] = {}
    for number, rank in enumerate(ranks):
        if rank is not None:
            of_rank[rank] = of_rank.get(rank, 0) | 1 << number
    lower: dict[int | None, int] = {None: 0}
    below = 0
    for rank in sorted(of_rank):
        lower[rank] = below
        below |= of_rank[rank]
    return [lower[rank] for rank in ranks]


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << number for number, flag in enumerate(flags) if flag)


def _union(sets: Iterable[int]) -> int:
    union = 0
    for bits in sets:
        union |= bits
    return union


def _numbers(bits: int) -> Iterator[int]:
    """The bits that are set, lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
