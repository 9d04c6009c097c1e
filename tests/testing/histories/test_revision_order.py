"""Histories of a whole store: what the order of revisions explains, and what it must not."""

from random import Random

import pytest

from raftkv_trio.testing.campaign.requests import read_of
from raftkv_trio.testing.histories.history import History
from raftkv_trio.testing.histories.linearizability import NotLinearizable, Undecided
from raftkv_trio.testing.histories.revision_order import (
    StoreHistory,
    StoreOperationRecord,
    check_revisions,
)
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreCompactAnswer,
    StoreCompare,
    StoreDelete,
    StoreDeleteAnswer,
    StoreFailure,
    StoreGet,
    StoreGetAnswer,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
)
from tests.testing.store_runs import random_store_history

LOST = object()
FAILED = object()
Line = tuple[int, int, StoreRequest, object]  # invoked, ended, request, and an answer or LOST or FAILED


def history_of(*lines: Line) -> StoreHistory:
    history: StoreHistory = History()
    events = [(invoked, number, True) for number, (invoked, _, _, _) in enumerate(lines)]
    events += [(ended, number, False) for number, (_, ended, _, _) in enumerate(lines)]
    open_ones: dict[int, StoreOperationRecord] = {}
    for _, number, begins in sorted(events):
        _, _, request, answer = lines[number]
        if begins:
            open_ones[number] = history.invoke(f"c{number}", None, request)
        elif isinstance(answer, StoreTxnAnswer | StoreCompactAnswer | StoreFailure):
            history.complete(open_ones[number], answer)
        elif answer is FAILED:
            history.fail(open_ones[number])
        else:
            history.give_up(open_ones[number])
    return history


def record(
    key: bytes, value: bytes, changed: int, created: int | None = None, version: int = 1
) -> StoreRecord:
    return StoreRecord(key, value, changed if created is None else created, changed, version)


def put(key: bytes, value: bytes) -> StoreTxn:
    return StoreTxn(success=(StorePut(key, value),))


def has_put(made: StoreRecord, previous: StoreRecord | None = None) -> StoreTxnAnswer:
    return StoreTxnAnswer(True, made.changed, (StorePutAnswer(made, previous),))


def saw(revision: int, *records: StoreRecord, in_range: int | None = None) -> StoreTxnAnswer:
    count = len(records) if in_range is None else in_range
    return StoreTxnAnswer(True, revision, (StoreGetAnswer(records, count, revision),))


def has_deleted(revision: int, *previous: StoreRecord) -> StoreTxnAnswer:
    return StoreTxnAnswer(True, revision, (StoreDeleteAnswer(len(previous), previous),))


def past(key: bytes, revision: int) -> StoreTxn:
    return StoreTxn(success=(StoreGet(key, revision=revision),))


ALL = StoreTxn(success=(StoreGet(b"a", b"\0"),))
DELETE_A = StoreTxn(success=(StoreDelete(b"a"),))
GET_A = read_of(b"a")
A2 = record(b"a", b"1", 2)
A3 = record(b"a", b"2", 3, 2, 2)
A4 = record(b"a", b"3", 4, 2, 3)
B3 = record(b"b", b"2", 3)
# Both keys in one txn, at revision 3.
BOTH = StoreTxn(
    (StoreCompare(b"a", "changed", "=", 2),),
    (StorePut(b"a", b"x"), StorePut(b"b", b"y"), StoreGet(b"a", b"c")),
    (StoreGet(b"a"),),
)
BOTH_A, BOTH_B = record(b"a", b"x", 3, 2, 2), record(b"b", b"y", 3)
HAS_DONE_BOTH = StoreTxnAnswer(
    True,
    3,
    (StorePutAnswer(BOTH_A, A2), StorePutAnswer(BOTH_B, None), StoreGetAnswer((BOTH_A, BOTH_B), 2, 3)),
)
FIRST: Line = (1, 2, put(b"a", b"1"), has_put(A2))
SECOND: Line = (3, 4, put(b"a", b"2"), has_put(A3, A2))
THIRD: Line = (5, 6, put(b"a", b"3"), has_put(A4, A3))
COMPACTED_AT_3: Line = (7, 8, StoreCompact(3), StoreCompactAnswer(4))

GOOD: dict[str, list[Line]] = {
    "nothing": [],
    "a read before any write": [(1, 2, ALL, saw(1))],
    "writes one after the other": [FIRST, SECOND, (5, 6, GET_A, saw(3, A3))],
    "writes at the same time, in the order of their revisions": [
        (1, 9, put(b"a", b"2"), has_put(A3, A2)),
        (2, 8, put(b"a", b"1"), has_put(A2)),
    ],
    "a txn of two keys": [FIRST, (3, 4, BOTH, HAS_DONE_BOTH), (5, 6, ALL, saw(3, BOTH_A, BOTH_B))],
    "a txn whose compare does not hold": [
        FIRST,
        SECOND,
        (5, 6, BOTH, StoreTxnAnswer(False, 3, (StoreGetAnswer((A3,), 1, 3),))),
    ],
    "a delete of what is not there takes no revision": [
        (1, 2, DELETE_A, has_deleted(1)),
        (3, 4, put(b"a", b"1"), has_put(A2)),
    ],
    "a limit, and the count without it": [
        FIRST,
        (3, 4, put(b"b", b"2"), has_put(B3)),
        (5, 6, StoreTxn(success=(StoreGet(b"a", b"\0", limit=1),)), saw(3, A2, in_range=2)),
    ],
    "a read of the past": [FIRST, SECOND, (5, 6, past(b"a", 2), saw(3, A2)), (7, 8, past(b"a", 1), saw(3))],
    "a lost write that nobody saw": [FIRST, (3, 4, put(b"a", b"2"), LOST), (5, 6, GET_A, saw(2, A2))],
    "a lost write seen late": [
        FIRST,
        (3, 4, put(b"a", b"2"), LOST),
        (5, 6, GET_A, saw(2, A2)),
        (7, 8, GET_A, saw(3, A3)),
    ],
    "a lost write that only its revision tells of": [
        FIRST,
        (3, 4, put(b"a", b"2"), LOST),
        (5, 6, put(b"b", b"5"), LOST),
        (7, 8, put(b"c", b"3"), has_put(record(b"c", b"3", 4))),
        (9, 10, GET_A, saw(4, A2)),
    ],
    "two lost writes whose order a later answer tells": [
        (1, 2, put(b"a", b"1"), LOST),
        (1, 3, StoreTxn(success=(StoreDelete(b"a"), StorePut(b"b", b"9"))), LOST),
        (4, 5, put(b"c", b"3"), has_put(record(b"c", b"3", 4))),
        (6, 7, ALL, saw(4, record(b"b", b"9", 3), record(b"c", b"3", 4))),
        (8, 9, past(b"a", 2), saw(4, A2)),
    ],
    "a stale read of any past state": [
        FIRST,
        SECOND,
        (5, 6, StoreStaleRead(GET_A), saw(2, A2)),
        (7, 8, StoreStaleRead(GET_A), saw(1)),
    ],
    "a compaction, and what it leaves": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, past(b"a", 3), saw(4, A3)),
        (9, 11, past(b"a", 2), StoreFailure.COMPACTED),
        (9, 12, StoreCompact(3), StoreFailure.COMPACTED),
        (9, 13, StoreCompact(5), StoreFailure.FUTURE_REVISION),
    ],
    "a stale read of what is compacted elsewhere": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, StoreStaleRead(past(b"a", 2)), saw(4, A2)),
        (9, 10, StoreStaleRead(past(b"a", 4)), StoreFailure.FUTURE_REVISION),
    ],
    "a lost compaction": [FIRST, SECOND, (5, 6, StoreCompact(3), LOST), (7, 8, past(b"a", 2), saw(3, A2))],
    "a lost compaction that was done": [
        FIRST,
        SECOND,
        (5, 6, StoreCompact(3), LOST),
        (7, 8, past(b"a", 2), StoreFailure.COMPACTED),
    ],
    "a value kept": [
        FIRST,
        (
            3,
            4,
            StoreTxn(success=(StorePut(b"a", b"", keeps_value=True),)),
            has_put(record(b"a", b"1", 3, 2, 2), A2),
        ),
        (5, 6, StoreTxn(success=(StorePut(b"b", b"", keeps_value=True),)), StoreFailure.KEY_NOT_FOUND),
    ],
    "compares of an inner txn look at the state before": [
        (
            1,
            2,
            StoreTxn(
                success=(
                    StorePut(b"a", b"1"),
                    StoreTxn((StoreCompare(b"a", "created", "=", 0),), (StoreGet(b"a"),)),
                )
            ),
            StoreTxnAnswer(
                True,
                2,
                (StorePutAnswer(A2, None), StoreTxnAnswer(True, 2, (StoreGetAnswer((A2,), 1, 2),))),
            ),
        )
    ],
}

BAD: dict[str, list[Line]] = {
    "a lost write": [FIRST, (3, 4, GET_A, saw(1))],
    "a lost write whose revision is used again": [
        FIRST,
        (3, 4, put(b"a", b"2"), has_put(record(b"a", b"2", 2))),
    ],
    "a revision that nobody made": [FIRST, (3, 4, GET_A, saw(3, A2))],
    "a refused write that was done": [FIRST, (3, 4, put(b"a", b"2"), FAILED), (5, 6, GET_A, saw(3, A3))],
    "a stale read": [FIRST, SECOND, (5, 6, GET_A, saw(2, A2))],
    "a read that is stale only by its value": [FIRST, SECOND, (5, 6, GET_A, saw(3, A2))],
    "a read of the future": [(1, 2, GET_A, saw(2, A2)), (3, 4, put(b"a", b"1"), has_put(A2))],
    "a stale read of the future": [
        (1, 2, StoreStaleRead(GET_A), saw(2, A2)),
        (3, 4, put(b"a", b"1"), has_put(A2)),
    ],
    "a stale read of a state that never was": [FIRST, SECOND, (5, 6, StoreStaleRead(GET_A), saw(2, A3))],
    "half a txn": [FIRST, (3, 4, BOTH, HAS_DONE_BOTH), (5, 6, ALL, saw(3, BOTH_A))],
    "half a txn, and it says so": [
        FIRST,
        (3, 4, BOTH, HAS_DONE_BOTH._replace(results=HAS_DONE_BOTH.results[:2])),
    ],
    "half a lost txn": [FIRST, (3, 4, BOTH, LOST), (5, 6, ALL, saw(3, BOTH_A))],
    "the wrong list of a txn": [
        FIRST,
        SECOND,
        (
            5,
            6,
            BOTH,
            StoreTxnAnswer(
                True,
                4,
                (
                    StorePutAnswer(record(b"a", b"x", 4, 2, 3), A3),
                    StorePutAnswer(record(b"b", b"y", 4), None),
                    StoreGetAnswer((record(b"a", b"x", 4, 2, 3), record(b"b", b"y", 4)), 2, 4),
                ),
            ),
        ),
    ],
    "a txn that fails without a reason": [
        FIRST,
        (3, 4, BOTH, StoreTxnAnswer(False, 2, (StoreGetAnswer((A2,), 1, 2),))),
    ],
    "a wrong previous value": [FIRST, (3, 4, put(b"a", b"2"), has_put(A3, A2._replace(value=b"0")))],
    "no previous value": [FIRST, (3, 4, put(b"a", b"2"), has_put(A3))],
    "a wrong version": [FIRST, (3, 4, put(b"a", b"2"), has_put(A3._replace(version=1), A2))],
    "a wrong creation": [FIRST, (3, 4, put(b"a", b"2"), has_put(A3._replace(created=3), A2))],
    "a delete of nothing that deletes": [FIRST, (3, 4, DELETE_A, has_deleted(2))],
    "a wrong deleted value": [FIRST, (3, 4, DELETE_A, has_deleted(3, A2._replace(value=b"0")))],
    "a wrong count": [FIRST, (3, 4, ALL, saw(2, A2, in_range=2))],
    "a limit that is not kept": [
        FIRST,
        (3, 4, put(b"b", b"2"), has_put(B3)),
        (5, 6, StoreTxn(success=(StoreGet(b"a", b"\0", limit=1),)), saw(3, A2, B3)),
    ],
    "the present told as the past": [FIRST, SECOND, (5, 6, past(b"a", 2), saw(3, A3))],
    "two values of one revision": [
        (1, 2, put(b"a", b"1"), LOST),
        (3, 4, GET_A, saw(2, A2)),
        (5, 6, GET_A, saw(2, A2._replace(value=b"0"))),
    ],
    "two orders of lost writes": [
        (1, 2, put(b"a", b"1"), LOST),
        (1, 2, put(b"a", b"2"), LOST),
        (3, 4, GET_A, saw(3, A3)),
        (5, 6, past(b"a", 2), saw(3, A3._replace(changed=2, version=1))),
    ],
    "one lost write, seen twice": [
        (1, 2, put(b"a", b"1"), LOST),
        (3, 4, DELETE_A, has_deleted(3, A2)),
        (5, 6, GET_A, saw(4, record(b"a", b"1", 4))),
    ],
    "a compaction that lost a visible value": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, past(b"a", 3), saw(4)),
    ],
    "a compacted revision that is read": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, past(b"a", 2), saw(4, A2)),
    ],
    "a compacted revision that is read after a later write": [
        FIRST,
        SECOND,
        (5, 12, StoreCompact(3), StoreCompactAnswer(3)),
        (6, 7, put(b"a", b"3"), has_put(A4, A3)),
        (8, 9, StoreStaleRead(past(b"a", 2)), saw(4, A2)),
    ],
    "a compaction that nobody asked for": [FIRST, SECOND, (5, 6, past(b"a", 2), StoreFailure.COMPACTED)],
    "a compaction that goes too far": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, past(b"a", 3), StoreFailure.COMPACTED),
    ],
    "a compaction done twice": [FIRST, SECOND, THIRD, COMPACTED_AT_3, (9, 10, *COMPACTED_AT_3[2:])],
    "compactions backwards": [
        FIRST,
        SECOND,
        THIRD,
        COMPACTED_AT_3,
        (9, 10, StoreCompact(2), StoreCompactAnswer(4)),
    ],
    "compactions whose revisions are in another order": [
        FIRST,
        SECOND,
        (4, 20, StoreCompact(3), StoreCompactAnswer(3)),
        (5, 20, StoreCompact(2), StoreCompactAnswer(4)),
        (5, 6, put(b"a", b"3"), has_put(A4, A3)),
    ],
    "a compaction refused without a reason": [FIRST, SECOND, (5, 6, StoreCompact(2), StoreFailure.COMPACTED)],
    "a compaction of the future": [FIRST, (3, 4, StoreCompact(3), StoreCompactAnswer(2))],
    "a compaction refused as one of the future": [
        FIRST,
        SECOND,
        (5, 6, StoreCompact(3), StoreFailure.FUTURE_REVISION),
    ],
    "a future that is past": [FIRST, SECOND, (5, 6, past(b"a", 3), StoreFailure.FUTURE_REVISION)],
    "a future that is read": [FIRST, (3, 4, past(b"a", 3), saw(2, A2))],
    "a missing key that is there": [
        FIRST,
        (3, 4, StoreTxn(success=(StorePut(b"a", b"", keeps_value=True),)), StoreFailure.KEY_NOT_FOUND),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_revisions_explain(name: str) -> None:
    """A history that a store can have is accepted."""
    check_revisions(history_of(*GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_what_no_order_of_revisions_explains(name: str) -> None:
    """A history with one answer that no store gives is refused, and the text shows an operation."""
    with pytest.raises(NotLinearizable, match=r"c[0-9]: |made both"):
        check_revisions(history_of(*BAD[name]))


def test_the_text_shows_what_contradicts() -> None:
    """The answer, and what the replay has instead."""
    with pytest.raises(NotLinearizable) as error:
        check_revisions(history_of(*BAD["a read that is stale only by its value"]))
    assert "[get a] -> [[a=1@2/2/1] of 1 at 3] revision 3" in str(error.value)
    assert "but at revision 3 the answer is\n  [[a=2@2/3/2] of 1 at 3] revision 3" in str(error.value)


def test_the_search_is_bounded() -> None:
    """Lost writes that could have any order are given up after so many steps."""
    lost: list[Line] = [(1, 2, put(b"%d" % i, b"x"), LOST) for i in range(8)]
    with pytest.raises(Undecided):
        check_revisions(history_of(*lost, (3, 4, read_of(b"0"), saw(9))), max_steps=100)


def test_what_was_seen_late_bounds_the_search() -> None:
    """A key's creation and version tell when it was deleted and put, although nobody saw it meanwhile."""
    lost: list[Line] = [(3, 4, put(b"other%d" % i, b"x"), LOST) for i in range(7)]
    lost += [(3, 4, request, LOST) for request in (DELETE_A, *(put(b"a", value) for value in (b"x", b"y")))]
    last: Line = (3, 4, put(b"a", b"z"), LOST)
    seen = record(b"a", b"z", 11, 4, 3)
    assert check_revisions(history_of(FIRST, *lost, last, (5, 6, GET_A, saw(11, seen)))) < 200


@pytest.mark.parametrize("seed", range(20))
def test_the_real_store_is_explained(seed: int) -> None:
    """The answers of the store itself to concurrent clients, some of whose answers are lost, are accepted."""
    history = random_store_history(Random(seed), operations=300, lost_share=0.1)
    assert check_revisions(history) < 3000


@pytest.mark.parametrize("seed", range(20))
def test_one_wrong_answer_among_many_is_found(seed: int) -> None:
    """Any answer whose records have another value than they had is found."""
    random = Random(seed)
    history = random_store_history(random, operations=200, lost_share=0.1)
    wrong = random.choice([o for o in history.operations if _with_another_value(o.answer) != o.answer])
    wrong.answer = _with_another_value(wrong.answer)
    with pytest.raises(NotLinearizable):
        check_revisions(history)


def _with_another_value(answer: StoreAnswer | None) -> StoreAnswer | None:
    """The answer with one character of the first value that a get shows changed."""
    if not isinstance(answer, StoreTxnAnswer):
        return answer
    results = list(answer.results)
    for position, result in enumerate(results):
        if isinstance(result, StoreGetAnswer) and result.records:
            first, *others = result.records
            records = (first._replace(value=first.value + b"!"), *others)
            results[position] = result._replace(records=records)
            break
    return answer._replace(results=tuple(results))
