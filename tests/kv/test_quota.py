"""The quota of a txn: it bounds what puts make of the store, and nothing else; the log alone decides."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compare,
    Delete,
    Get,
    OverQuota,
    Put,
    QuotaExceeded,
    Store,
    Txn,
    TxnResult,
    encode_txn,
)
from raftkv_trio.state_machine import Committed
from tests.kv.strategies import old_txns as txns


def apply(store: Store, txn: Txn) -> object:
    (result,) = store.apply([Committed(1, 1, encode_txn(txn))])
    return result


def put(key: bytes, value: bytes, quota_bytes: int | None) -> Txn:
    return Txn(success=(Put(key, value),), quota_bytes=quota_bytes)


def test_the_quota_is_the_last_byte_that_fits() -> None:
    """Keys count as values do; one byte more is refused, and changes neither revision nor hash."""
    store = Store()
    assert isinstance(apply(store, put(b"/k", b"12345678", 10)), TxnResult)
    before = (store.revision, store.state_hash, store.size_bytes)
    assert apply(store, put(b"/k", b"123456789", 10)) == OverQuota(size_bytes=10, quota_bytes=10)
    assert apply(store, put(b"/", b"", 10)) == OverQuota(10, 10)
    assert (store.revision, store.state_hash, store.size_bytes) == before
    with pytest.raises(QuotaExceeded, match="10 bytes"):
        store.run(put(b"/", b"", 10))


def test_what_makes_nothing_larger_goes_on() -> None:
    """Over its quota, a store takes deletes, reads, and puts of values that are no larger."""
    store = Store()
    apply(store, put(b"/k", b"12345678", None))
    for operation in (Put(b"/k", b"87654321"), Put(b"/k", b"1"), Get(b"/k"), Delete(b"/", TO_THE_LAST)):
        assert isinstance(apply(store, Txn(success=(operation,), quota_bytes=1)), TxnResult)
    assert store.size_bytes == 0


def test_only_the_list_that_is_run_counts() -> None:
    """A compare that fails leads to its own list, whatever the other one would have put."""
    store = Store()
    txn = Txn((Compare.exists(b"/k"),), (Put(b"/k", bytes(100)),), (Get(b"/k"),), quota_bytes=10)
    assert isinstance(apply(store, txn), TxnResult)
    assert isinstance(apply(store, txn._replace(success=txn.failure, failure=txn.success)), OverQuota)


def test_each_command_has_its_own_quota() -> None:
    """Members of different flags stamp different quotas, and every store decides by the stamp."""
    store = Store()
    assert isinstance(apply(store, put(b"/a", bytes(100), 200)), TxnResult)
    assert isinstance(apply(store, put(b"/b", bytes(10), 50)), OverQuota)
    assert isinstance(apply(store, put(b"/b", bytes(10), 200)), TxnResult)
    assert isinstance(apply(store, put(b"/c", bytes(500), None)), TxnResult)


@given(st.lists(txns, max_size=6), st.lists(txns, max_size=4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_restored_store_decides_the_same(before: list[Txn], after: list[Txn]) -> None:
    """The size is a part of the state, so a snapshot brings it back."""
    one, other = Store(), Store()
    for txn in before:
        apply(one, txn)
    other.restore(list(one.snapshot()))
    assert other.size_bytes == one.size_bytes
    for txn in after:
        assert apply(one, txn) == apply(other, txn)
    assert (one.size_bytes, one.state_hash) == (other.size_bytes, other.state_hash)
