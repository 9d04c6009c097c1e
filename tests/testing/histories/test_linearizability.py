"""The history checker: what it must accept, what it must reject, and that it agrees with a naive one."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.testing import (
    ABSENT,
    PRESENT,
    History,
    NotLinearizable,
    RecordedOperation,
    Register,
    RegisterAnswer,
    RegisterDelete,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    Seen,
    Undecided,
    check_linearizable,
)
from tests.testing.histories.naive import is_linearizable
from tests.testing.runs import random_history

RegisterHistory = History[RegisterRequest, RegisterAnswer]
Line = tuple[int, int, RegisterRequest, object]  # invoked, ended, request, and an answer or LOST or FAILED
LOST = object()
FAILED = object()


def history_of(*lines: Line) -> RegisterHistory:
    """All lines on one key."""
    history: RegisterHistory = History()
    events = sorted(
        [(invoked, number, True) for number, (invoked, _, _, _) in enumerate(lines)]
        + [(ended, number, False) for number, (_, ended, _, _) in enumerate(lines)]
    )
    open_ones: dict[int, RecordedOperation[RegisterRequest, RegisterAnswer]] = {}
    for _, number, begins in events:
        _, _, request, answer = lines[number]
        if begins:
            open_ones[number] = history.invoke(f"c{number}", "k", request)
        elif isinstance(answer, RegisterAnswer):
            history.complete(open_ones[number], answer)
        elif answer is FAILED:
            history.fail(open_ones[number])
        else:
            history.give_up(open_ones[number])
    return history


def saw(value: bytes | None, revision: int | None = None) -> RegisterAnswer:
    return RegisterAnswer(seen=ABSENT if value is None else Seen(True, value, revision))


APPLIED = RegisterAnswer()
A, B, C = RegisterPut(b"a"), RegisterPut(b"b"), RegisterPut(b"c")
REVISION_1 = Seen(True, revision=1)

GOOD: dict[str, list[Line]] = {
    "nothing": [],
    "a read before any write": [(1, 2, RegisterGet(), saw(None))],
    "concurrent writes in either order": [
        (1, 9, A, APPLIED),
        (2, 8, B, APPLIED),
        (10, 11, RegisterGet(), saw(b"a")),
    ],
    "reads during a write see it or not": [
        (1, 9, A, APPLIED),
        (2, 3, RegisterGet(), saw(None)),
        (4, 5, RegisterGet(), saw(b"a")),
    ],
    "a lost write that nobody saw": [(1, 2, A, LOST), (3, 4, RegisterGet(), saw(None))],
    "a lost write seen later": [
        (1, 2, A, LOST),
        (3, 4, RegisterGet(), saw(None)),
        (5, 6, RegisterGet(), saw(b"a")),
    ],
    "a lost write that overwrites much later": [
        (1, 2, A, LOST),
        (3, 4, B, APPLIED),
        (5, 6, RegisterGet(), saw(b"b")),
        (7, 8, RegisterGet(), saw(b"a")),
    ],
    "a lost delete": [(1, 2, A, APPLIED), (3, 4, RegisterDelete(), LOST), (5, 6, RegisterGet(), saw(None))],
    "a lost compare-and-set on a lost write": [
        (1, 2, A, LOST),
        (3, 4, RegisterPut(b"b", Seen(True, b"a")), LOST),
        (5, 6, RegisterGet(), saw(None)),
        (7, 8, RegisterGet(), saw(b"b")),
    ],
    "a lost write that made a compare-and-set fail, seen by nobody else": [
        (1, 2, A, APPLIED),
        (3, 4, B, LOST),
        (5, 6, RegisterPut(b"c", Seen(True, b"a")), RegisterAnswer(applied=False)),
        (7, 8, A, APPLIED),
        (9, 10, RegisterGet(), saw(b"a")),
    ],
    "two lost writes of one value, of which the one with a condition must come first": [
        (1, 3, B, LOST),
        (2, 6, RegisterPut(b"b", ABSENT), LOST),
        (4, 7, RegisterPut(b"c", REVISION_1), RegisterAnswer(applied=False, seen=Seen(True, revision=3))),
        (5, 8, RegisterGet(), saw(b"b", 2)),
    ],
    "the revision of a lost write, learnt by whoever sees it": [
        (1, 2, A, LOST),
        (
            3,
            4,
            RegisterPut(b"c", Seen(True, revision=7)),
            RegisterAnswer(applied=False, seen=Seen(True, revision=5)),
        ),
        (5, 6, RegisterGet(), saw(b"a", 5)),
    ],
    "a failed write that did nothing": [(1, 2, A, FAILED), (3, 4, RegisterGet(), saw(None))],
    "compare-and-set in a chain": [
        (1, 2, RegisterPut(b"a", ABSENT), RegisterAnswer(revision=1)),
        (3, 6, RegisterPut(b"b", REVISION_1), RegisterAnswer(revision=2)),
        (4, 5, RegisterPut(b"c", REVISION_1), RegisterAnswer(applied=False, seen=Seen(True, revision=2))),
        (7, 8, RegisterGet(), saw(b"b", 2)),
    ],
    "delete and create again": [
        (1, 2, A, RegisterAnswer(revision=1)),
        (3, 4, RegisterDelete(PRESENT), APPLIED),
        (5, 6, RegisterPut(b"a", ABSENT), RegisterAnswer(revision=3)),
    ],
}

BAD: dict[str, list[Line]] = {
    "a value that nobody wrote": [(1, 2, RegisterGet(), saw(b"a"))],
    "a stale read": [(1, 2, A, APPLIED), (3, 4, B, APPLIED), (5, 6, RegisterGet(), saw(b"a"))],
    "a lost update": [(1, 2, A, APPLIED), (3, 4, RegisterGet(), saw(None))],
    "two reads that go back in time": [
        (1, 9, A, APPLIED),
        (2, 3, RegisterGet(), saw(b"a")),
        (4, 5, RegisterGet(), saw(None)),
    ],
    "a read from the future": [(1, 2, RegisterGet(), saw(b"a")), (3, 4, A, APPLIED)],
    "a failed write that was applied": [(1, 2, A, FAILED), (3, 4, RegisterGet(), saw(b"a"))],
    "a lost write seen, gone, and seen again": [
        (1, 2, A, LOST),
        (3, 4, B, APPLIED),
        (5, 6, RegisterGet(), saw(b"a")),
        (7, 8, RegisterGet(), saw(b"b")),
        (9, 10, RegisterGet(), saw(b"a")),
    ],
    "a lost write seen before it was invoked": [(1, 2, RegisterGet(), saw(b"a")), (3, 4, A, LOST)],
    "two creations of one key": [
        (1, 4, RegisterPut(b"a", ABSENT), APPLIED),
        (2, 3, RegisterPut(b"b", ABSENT), APPLIED),
    ],
    "two compare-and-sets on one revision": [
        (1, 2, A, RegisterAnswer(revision=1)),
        (3, 6, RegisterPut(b"b", REVISION_1), RegisterAnswer(revision=2)),
        (4, 5, RegisterPut(b"c", REVISION_1), RegisterAnswer(revision=3)),
    ],
    "a compare-and-set that failed without a reason": [
        (1, 2, A, APPLIED),
        (3, 4, RegisterPut(b"b", Seen(True, b"a")), RegisterAnswer(applied=False)),
    ],
    "one write applied twice": [
        (1, 2, A, RegisterAnswer(revision=1)),
        (3, 4, RegisterGet(), saw(b"a", 1)),
        (5, 6, RegisterGet(), saw(b"a", 2)),
    ],
    "revisions that go back": [(1, 2, A, RegisterAnswer(revision=2)), (3, 4, B, RegisterAnswer(revision=1))],
    "writes seen in two orders": [
        (1, 2, A, APPLIED),
        (3, 8, B, APPLIED),
        (3, 8, C, APPLIED),
        (9, 10, RegisterGet(), saw(b"b")),
        (11, 12, RegisterGet(), saw(b"c")),
    ],
    "a delete of what was there already gone": [
        (1, 2, A, APPLIED),
        (3, 4, RegisterDelete(), RegisterAnswer(seen=PRESENT)),
        (5, 6, RegisterDelete(), RegisterAnswer(seen=PRESENT)),
    ],
    "a delete undone": [
        (1, 2, A, APPLIED),
        (3, 4, RegisterDelete(), APPLIED),
        (5, 6, RegisterGet(), saw(b"a")),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_linearizable_histories_are_accepted(name: str) -> None:
    """A history that some order explains is accepted, unknown outcomes and hidden revisions included."""
    check_linearizable(history_of(*GOOD[name]), Register())


@pytest.mark.parametrize("name", BAD)
def test_other_histories_are_rejected(name: str) -> None:
    """A history that no order explains is rejected."""
    with pytest.raises(NotLinearizable):
        check_linearizable(history_of(*BAD[name]), Register())


def test_the_explanation_names_what_contradicts() -> None:
    """Of sixty operations, the text shows the stale read, the write that it missed, and few others."""
    lines: list[Line] = []
    for number in range(20):
        position = 10 * number
        lines.append(
            (position, position + 1, RegisterPut(b"%d" % number), RegisterAnswer(revision=number + 1))
        )
        lines.append((position + 2, position + 4, RegisterGet(), saw(b"%d" % number, number + 1)))
        lines.append((position + 3, position + 5, RegisterGet(), saw(b"%d" % number, number + 1)))
    for revision in (None, 10):
        stale = (106, 107, RegisterGet(), saw(b"9", revision))
        with pytest.raises(NotLinearizable) as caught:
            check_linearizable(history_of(*lines, stale), Register())
        text = str(caught.value)
        assert f"c60: get -> {saw(b'9', revision)}" in text
        assert "c30: put b'10' -> revision 11" in text
        assert len(text.splitlines()) <= 10, text


def test_a_bounded_search_that_ends_early_is_a_failure() -> None:
    """Undecided is raised, never success, when the bound of steps is reached."""
    history = random_history(random.Random(1), operations=50)
    with pytest.raises(Undecided):
        check_linearizable(history, Register(), max_steps=10)


def test_keys_are_judged_alone() -> None:
    """Each key has a state of its own, and one bad key among good ones is found and named."""
    history: RegisterHistory = History()
    for key in ("one", "two", "three"):
        history.complete(history.invoke("c", key, A), APPLIED)
    check_linearizable(history, Register())
    history.complete(history.invoke("c", "two", RegisterGet()), saw(b"b"))
    with pytest.raises(NotLinearizable, match="'two'"):
        check_linearizable(history, Register())


def test_an_operation_ends_once() -> None:
    """A second end of an operation is an error of its recorder, and does not change the history."""
    history: RegisterHistory = History()
    operation = history.invoke("c", "k", RegisterGet())
    history.give_up(operation)
    with pytest.raises(ValueError, match="ends once"):
        history.complete(operation, saw(None))


def test_a_completed_operation_has_an_answer() -> None:
    """None, which would have the checker pass over the operation, is no answer."""
    history: History[str, str | None] = History()
    with pytest.raises(ValueError, match="has an answer"):
        history.complete(history.invoke("c", "k", "get"), None)


@given(st.randoms(use_true_random=False), st.integers(2, 5), st.floats(0, 0.5))
@settings(max_examples=300, deadline=None)
def test_histories_of_a_true_register_are_accepted(rng: random.Random, clients: int, lost: float) -> None:
    """No false alarm: histories of concurrent clients of a real register are linearizable."""
    check_linearizable(random_history(rng, operations=40, clients=clients, lost_share=lost), Register())


@given(st.randoms(use_true_random=False), st.data())
@settings(max_examples=200, deadline=None)
def test_a_planted_stale_read_is_found(rng: random.Random, data: st.DataObject) -> None:
    """A read that is given the version before the one it had to see at least is rejected."""
    history = random_history(rng, operations=40, lost_share=0.2)
    stale = [
        (read, old)
        for read in history.operations
        if isinstance(read.request, RegisterGet) and read.answer
        for new in history.operations
        if new.ended and new.ended < read.invoked and new.answer and new.answer.revision
        for old in history.operations
        if isinstance(old.request, RegisterPut) and old.ended and old.ended < new.invoked
        if old.answer and old.answer.revision
    ]
    if stale:
        read, old = data.draw(st.sampled_from(stale))
        assert isinstance(old.request, RegisterPut)
        assert old.answer is not None
        read.answer = saw(old.request.value, data.draw(st.sampled_from([None, old.answer.revision])))
        with pytest.raises(NotLinearizable):
            check_linearizable(history, Register())


# ---------------------------------------------------------------- against the naive checker

values = st.sampled_from([b"a", b"b"])
revisions = st.integers(1, 3)
seen = st.just(ABSENT) | st.builds(Seen, st.just(True), st.none() | values, st.none() | revisions)
requests = (
    st.just(RegisterGet())
    | st.builds(RegisterPut, values, st.none() | seen)
    | st.builds(RegisterDelete, st.none() | seen)
)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """One operation with an answer that may or may not make sense, but says all that it must."""
    invoked = draw(st.integers(0, 8))
    ended = invoked + draw(st.integers(1, 6))
    request = draw(requests)
    if draw(st.integers(0, 3)) == 0:
        return invoked, ended, request, draw(st.sampled_from([LOST, LOST, FAILED]))
    if isinstance(request, RegisterGet):
        return invoked, ended, request, RegisterAnswer(seen=draw(seen))
    if request.expects is not None and draw(st.booleans()):
        must_say = request.expects.revision is not None
        told = st.just(ABSENT) | st.builds(Seen, st.just(True), st.none() | values, revisions)
        return invoked, ended, request, RegisterAnswer(False, draw(told if must_say else st.none() | seen))
    revision = draw(st.none() | revisions) if isinstance(request, RegisterPut) else None
    return invoked, ended, request, RegisterAnswer(True, draw(st.none() | seen), revision)


@given(st.lists(lines(), max_size=6))
@settings(max_examples=2000, deadline=None)
def test_it_agrees_with_a_naive_checker(some: list[Line]) -> None:
    """On tiny histories the search decides as trying every order does."""
    history = history_of(*some)
    try:
        check_linearizable(history, Register())
        found = True
    except NotLinearizable:
        found = False
    assert found == is_linearizable(history.operations)


@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_operations_are_decided_in_few_steps(seed: int) -> None:
    """3,000 operations on ten keys, 5 % of them unknown, take a step or two an operation."""
    history = random_history(random.Random(seed), operations=3000, keys=10, clients=20, lost_share=0.05)
    assert check_linearizable(history, Register()) < 10_000
