"""What simulated clients ask for: all of the store's requests, and none that it refuses to run."""

from collections import Counter
from random import Random

from raftkv_trio.kv import check_txn
from raftkv_trio.testing.campaign.kv_requests import txn_of
from raftkv_trio.testing.campaign.requests import Asking
from raftkv_trio.testing.histories.store_requests import (
    StoreCompact,
    StoreDelete,
    StoreGet,
    StorePut,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
    may_change,
)
from raftkv_trio.testing.schedules.draw import draw_schedule
from tests.testing.store_runs import random_store_history


def drawn(seeds: int, requests: int) -> list[StoreRequest]:
    asking = [Asking(b"1", draw_schedule(seed), Random(seed)) for seed in range(seeds)]
    return [one.draw() for one in asking for _ in range(requests)]


def test_no_request_is_malformed() -> None:
    """The store would run each txn that is drawn."""
    for request in drawn(100, 100):
        if isinstance(request, StoreStaleRead):
            assert not may_change(request.txn)
        if not isinstance(request, StoreCompact):
            txn = request.txn if isinstance(request, StoreStaleRead) else request
            check_txn(txn_of(txn))


def test_all_kinds_are_drawn() -> None:
    """Puts, deletes and reads of one key and of ranges; txns in txns; the past; compactions."""
    kinds: Counter[str] = Counter()

    def count(txn: StoreTxn, *, is_inner: bool) -> None:
        kinds["inner txn"] += is_inner
        kinds["compare of a range"] += any(c.range_end is not None for c in txn.compares)
        for operation in (*txn.success, *txn.failure):
            match operation:
                case StoreTxn():
                    count(operation, is_inner=True)
                case StoreGet(_, range_end, limit, revision):
                    kinds["get of a range" if range_end else "get"] += 1
                    kinds["limit"] += limit is not None
                    kinds["past"] += revision is not None
                case StorePut(keeps_value=keeps_value):
                    kinds["put that keeps" if keeps_value else "put"] += 1
                case StoreDelete(_, range_end):
                    kinds["delete of a range" if range_end else "delete"] += 1

    for operation in [
        o for seed in range(10) for o in random_store_history(Random(seed), operations=200).operations
    ]:
        request = operation.request
        if isinstance(request, StoreCompact):
            kinds["compaction"] += 1
        elif isinstance(request, StoreStaleRead):
            kinds["stale read"] += 1
        else:
            count(request, is_inner=False)
        if isinstance(operation.answer, StoreTxnAnswer):
            kinds["succeeded" if operation.answer.succeeded else "not succeeded"] += 1
    assert len(kinds) == 14
    assert min(kinds.values()) >= 3, kinds


def test_values_are_different() -> None:
    """No two puts have one value, so that a value tells who put it."""
    values: list[bytes] = []

    def gather(txn: StoreTxn) -> None:
        for operation in (*txn.success, *txn.failure):
            if isinstance(operation, StoreTxn):
                gather(operation)
            elif isinstance(operation, StorePut) and not operation.keeps_value:
                values.append(operation.value)

    for request in drawn(1, 500):
        if isinstance(request, StoreTxn):
            gather(request)
    assert len(values) > 100
    assert len(set(values)) == len(values)
