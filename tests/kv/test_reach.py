"""A txn reaches a bounded number of keys, since all nodes do nothing else while they apply it."""

import pytest

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compare,
    Delete,
    Failed,
    Failure,
    Get,
    GrantLease,
    Operation,
    Put,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    checks,
    encode_command,
    running,
)
from raftkv_trio.state_machine import Committed

MOST = 20
HISTORY_LEVEL = 2


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with ten keys, two of which are deleted, whose txns may reach twenty."""
    monkeypatch.setattr(running, "MAX_REACH", MOST)
    return filled(Store())


def filled(store: Store) -> Store:
    for n in range(10):
        store.run(Txn((), (Put(b"%d" % n, b"value"),), ()))
    store.run(Txn((), (Delete(b"3"), Delete(b"4")), ()))
    return store


def apply(store: Store, txn: Txn) -> object:
    [result] = store.apply([Committed(1, 2, encode_command(txn))])
    return result


def all_of(*operations: Operation, compares: tuple[Compare, ...] = ()) -> Txn:
    return Txn(compares, operations, ())


EVERY = Compare(b"0", Target.VERSION, Relation.GREATER, 0, TO_THE_LAST)
READ, READ_PAST = Get(b"0", TO_THE_LAST), Get(b"0", TO_THE_LAST, revision=11)
WITHIN = [
    all_of(READ, READ, Put(b"x", b"")),
    all_of(READ, READ_PAST),  # of the past it is ten keys
    all_of(READ, Put(b"x", b""), compares=(EVERY,)),
    all_of(Delete(b"5", TO_THE_LAST)),
    all_of(*[Get(b"0")] * 30, *[Delete(b"%d" % n) for n in range(10)]),  # no ranges
    all_of(Get(b"5", b"1"), READ, READ),  # an empty one
]
BEYOND = [
    all_of(READ, READ, READ, Put(b"x", b"")),
    all_of(READ_PAST, READ_PAST, Get(b"0", b"1")),
    all_of(READ, READ, Get(b"0", b"7")),
    all_of(Delete(b"0", b"8")),
    all_of(READ, READ, Txn((EVERY,), (), ())),
    all_of(Put(b"x", b""), compares=(EVERY,) * 3),
]


@pytest.mark.parametrize("txn", WITHIN)
def test_a_txn_within_the_bound(store: Store, txn: Txn) -> None:
    """Only ranges count: each key once, and four times if it is deleted."""
    assert isinstance(apply(store, txn), TxnResult)


@pytest.mark.parametrize("txn", BEYOND)
def test_a_txn_beyond_the_bound(store: Store, txn: Txn) -> None:
    """It changes nothing, and has a result that says why: the same on every node."""
    before = store.state_hash
    assert apply(store, txn) == Failed(Failure.TOO_MANY_KEYS)
    assert store.state_hash == before


@pytest.mark.parametrize("txn", BEYOND)
def test_before_there_was_a_bound(store: Store, txn: Txn) -> None:
    """At a lower feature level, where older programs run the same log, nothing is refused."""
    old = Store()
    old.set_level(HISTORY_LEVEL)
    filled(old)
    assert isinstance(apply(old, txn), TxnResult)


def test_a_lease_has_no_more_keys_than_a_txn_may_delete(store: Store) -> None:
    """They are deleted in one piece when it ends. Those that it has may be put again."""
    store.run_lease_command(GrantLease(7, 60), 1)
    most = MOST // checks.DELETE_REACH
    for n in range(most):
        assert isinstance(apply(store, all_of(Put(b"%d" % n, b"", 7))), TxnResult)
    before = store.state_hash
    for beyond in (Put(b"x", b"", 7), Txn((), (Put(b"6", b"", 7),), ())):
        assert apply(store, all_of(beyond)) == Failed(Failure.TOO_MANY_KEYS)
    assert store.state_hash == before
    assert isinstance(apply(store, all_of(Put(b"0", b"again", 7), Put(b"x", b""))), TxnResult)
    assert isinstance(apply(store, all_of(Put(b"0", b"detached"))), TxnResult)
    assert isinstance(apply(store, all_of(Put(b"x", b"", 7))), TxnResult)
    assert store.leases.key_count(7) == most


def test_the_bound_itself() -> None:
    """A delete of as many keys as there may be, and of one more."""
    store = Store()
    most = checks.MAX_REACH // checks.DELETE_REACH
    for first in range(0, most, 100):
        store.run(Txn((), tuple(Put(b"%06d" % n, b"") for n in range(first, first + 100)), ()))
    store.run(Txn((), (Put(b"one more", b""),), ()))
    assert apply(store, all_of(Delete(b"0", TO_THE_LAST))) == Failed(Failure.TOO_MANY_KEYS)
    assert isinstance(apply(store, all_of(Delete(b"0", b"o"))), TxnResult)
    assert len(store) == 1
