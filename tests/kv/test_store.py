"""The store's revisions, conditions, hash and snapshots."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.kv import Compare, Delete, Put, Store, Txn, TxnResult, encode_txn
from raftkv_trio.machine import Committed


def apply(store: Store, *txns: Txn) -> list[TxnResult]:
    return store.apply([Committed(1, 1, encode_txn(txn)) for txn in txns])


def test_revisions_count_changes() -> None:
    """A change takes one revision, and a txn that changes nothing takes none."""
    store = Store()
    first, second, none = apply(
        store, Txn((), (Put(b"a", b"1"),)), Txn((), (Put(b"a", b"2"),)), Txn((), (Delete(b"b"),))
    )
    assert (first.revision, second.revision, none.revision) == (2, 3, 3)
    found = store.get(b"a")
    assert found is not None
    assert (found.create_revision, found.mod_revision, found.version) == (2, 3, 2)


def test_a_condition_is_judged_when_the_entry_is_applied() -> None:
    """Of two compare-and-sets on one revision in the same batch only the first succeeds."""
    store = Store()
    apply(store, Txn((), (Put(b"a", b"1"),)))
    txn = Txn((Compare(b"a", "mod", "=", 2),), (Put(b"a", b"2"),))
    assert [r.succeeded for r in apply(store, txn, txn)] == [True, False]


@given(st.binary())
def test_nonsense_is_a_result(command: bytes) -> None:
    """Bytes that are no command change nothing and raise nothing."""
    store = Store()
    (result,) = store.apply([Committed(1, 1, command)])
    assert result.error is not None or store.revision >= 1


@given(st.lists(st.tuples(st.binary(max_size=2), st.none() | st.binary(max_size=2))))
def test_a_snapshot_restores_the_same_state(changes: list[tuple[bytes, bytes | None]]) -> None:
    """A restored store has the same hash and gives the same snapshot, pinned before later changes."""
    store = Store()
    apply(store, *(Txn((), (Delete(k) if v is None else Put(k, v),)) for k, v in changes))
    state_hash, chunks = store.state_hash, store.snapshot()
    apply(store, Txn((), (Put(b"later", b""),)))
    restored = Store()
    restored.restore(chunks)
    assert restored.state_hash == state_hash
    assert restored.get(b"later") is None
