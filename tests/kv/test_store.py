"""The store against a naive model, and etcd's rules of revisions one by one."""

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    InvalidTxn,
    KeyValue,
    Operation,
    Put,
    PutResult,
    Rejected,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    encode_txn,
    prefix_end,
)
from raftkv_trio.kv.record import pack
from raftkv_trio.state_machine import Committed
from tests.kv.model import Model
from tests.kv.strategies import KEYS, keys, range_ends
from tests.kv.strategies import old_txns as txns


def put(store: Store, key: bytes, value: bytes = b"v") -> KeyValue:
    (result,) = store.run(Txn(success=(Put(key, value),))).results
    assert isinstance(result, PutResult)
    return result.key_value


def delete(store: Store, key: bytes, range_end: bytes | None = None) -> int:
    (result,) = store.run(Txn(success=(Delete(key, range_end),))).results
    assert isinstance(result, DeleteResult)
    return result.deleted


@given(st.lists(txns, max_size=12), keys, range_ends)
@settings(max_examples=150)
def test_like_the_model(history: list[Txn], start: bytes, end: bytes | None) -> None:
    """For any txns, every result, revision and read is that of the naive model."""
    store, model = Store(), Model()
    for index, txn in enumerate(history, 1):
        assert store.apply([Committed(1, index, encode_txn(txn))]) == [model.run(txn)]
    assert (store.revision, store.size_bytes) == (model.revision, model.size_bytes)
    assert store.range(b"") == [model.records[key] for key in sorted(model.records)]
    assert [store.get(key) for key in KEYS] == [model.records.get(key) for key in KEYS]
    if end is not None:
        inside = [k for k in sorted(model.records) if k >= start and (end == TO_THE_LAST or k < end)]
        assert store.range(start, end, 2) == [model.records[k] for k in inside[:2]]


@given(st.lists(txns, max_size=12), st.integers(0, 12))
def test_batches_do_not_matter(history: list[Txn], cut: int) -> None:
    """How the log is cut into batches changes neither results nor state hash."""
    commands = [Committed(1, index, encode_txn(txn)) for index, txn in enumerate(history, 1)]
    whole, parts = Store(), Store()
    assert whole.apply(commands) == parts.apply(commands[:cut]) + parts.apply(commands[cut:])
    assert whole.state_hash == parts.state_hash


def test_an_empty_store_is_at_revision_1() -> None:
    """As in etcd, an empty store is at 1, after reads and a restore too, and the first put makes 2."""
    store = Store()
    assert store.revision == 1
    assert store.run(Txn(success=(Get(b"/k"),))).revision == 1
    store.restore(list(store.snapshot()))
    assert store.revision == 1
    assert put(store, b"/k") == KeyValue(b"/k", b"v", create_revision=2, mod_revision=2, version=1)
    assert store.revision == 2


def test_revisions_of_a_key() -> None:
    """A key keeps its create revision over puts and counts them; deleted and put again it begins anew."""
    store = Store()
    assert put(store, b"/k", b"1") == KeyValue(b"/k", b"1", 2, 2, 1)
    put(store, b"/other")
    assert put(store, b"/k", b"2") == KeyValue(b"/k", b"2", 2, 4, 2)
    assert delete(store, b"/k") == 1
    assert store.get(b"/k") is None
    assert put(store, b"/k", b"3") == KeyValue(b"/k", b"3", 6, 6, 1)


def test_a_txn_takes_one_revision() -> None:
    """All changes of a txn have the same new revision."""
    store = Store()
    result = store.run(Txn(success=(Put(b"a", b""), Put(b"b", b""), Delete(b"c"))))
    assert (result.revision, store.revision) == (2, 2)
    assert {record.mod_revision for record in store.range(b"")} == {2}


def test_nothing_changed_takes_no_revision() -> None:
    """Reads, deletes of what is not there, compares that fail and nonsense leave revision and hash alone."""
    store = Store()
    put(store, b"a")
    before = (store.revision, store.state_hash)
    store.run(Txn(success=(Get(b"a"), Delete(b"x"), Delete(b"x", b"z"))))
    store.run(Txn((Compare.absent(b"a"),), success=(Put(b"a", b"2"),)))
    assert isinstance(store.apply([Committed(1, 9, b"nonsense")])[0], Rejected)
    assert (store.revision, store.state_hash) == before


@pytest.mark.parametrize("target", list(Target))
def test_an_operand_of_the_wrong_type_is_refused(target: Target) -> None:
    """A compare whose operand does not fit its target is an error, and the txn changes nothing."""
    operand = 1 if target is Target.VALUE else b"1"
    store = Store()
    put(store, b"a")
    before = (store.revision, store.state_hash)
    with pytest.raises(InvalidTxn, match="operand"):
        store.run(Txn((Compare(b"a", target, Relation.GREATER, operand),), success=(Put(b"b", b""),)))
    assert (store.revision, store.state_hash) == before


def test_operations_see_those_before_them() -> None:
    """A get reads what the same txn wrote before it, and not what it writes after."""
    store = Store()
    put(store, b"b", b"old")
    result = store.run(Txn(success=(Get(b"a"), Put(b"a", b"1"), Get(b"a"), Delete(b"b"), Get(b"b"))))
    before, _, after, _, gone = result.results
    assert before == GetResult((), 0, 2)
    assert after == GetResult((KeyValue(b"a", b"1", 3, 3, 1),), 1, 3)
    assert gone == GetResult((), 0, 3)


def test_limit_bounds_the_keys_and_not_the_count() -> None:
    """A get of a range with a limit still says how many keys the range holds."""
    store = Store()
    for key in (b"a", b"b", b"c"):
        put(store, key)
    (found,) = store.run(Txn(success=(Get(b"a", TO_THE_LAST, 2),))).results
    assert isinstance(found, GetResult)
    assert ([record.key for record in found.key_values], found.in_range) == ([b"a", b"b"], 3)


def test_an_absent_key_in_compares() -> None:
    """An absent key has revisions and version 0; its value stands in no relation to anything."""
    store = Store()
    for target in (Target.VERSION, Target.CREATE_REVISION, Target.MOD_REVISION):
        assert store.run(Txn((Compare(b"k", target, Relation.EQUAL, 0),))).succeeded
    for relation in Relation:
        assert not store.run(Txn((Compare(b"k", Target.VALUE, relation, b""),))).succeeded


def test_failure_runs_when_a_compare_fails() -> None:
    """One compare that fails is enough for the failure list to run instead."""
    store = Store()
    txn = Txn((Compare.absent(b"k"), Compare.exists(b"k")), (Put(b"s", b""),), (Put(b"f", b""),))
    assert store.run(txn) == TxnResult(False, 2, (PutResult(b"f", pack(b"", 2, 2, 1, None)),))
    assert store.get(b"s") is None


def test_delete_of_a_range() -> None:
    """A range is deleted from its start up to and without its end, and counted."""
    store = Store()
    for key in (b"/a", b"/a/1", b"/a/2", b"/b"):
        put(store, key)
    assert delete(store, b"/a/", prefix_end(b"/a/")) == 2
    assert [record.key for record in store.range(b"")] == [b"/a", b"/b"]
    assert delete(store, b"/b", b"/a") == 0
    assert delete(store, b"\0", TO_THE_LAST) == 2


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=2), st.binary(max_size=3))
def test_prefix_end(prefix: bytes, rest: bytes, other: bytes) -> None:
    """The range up to `prefix_end` holds exactly the keys that begin with the prefix."""
    store = Store()
    for key in {prefix + rest, other or b"-"}:
        put(store, key)
    inside = [record.key for record in store.range(prefix, prefix_end(prefix))]
    assert inside == sorted(k for k in {prefix + rest, other or b"-"} if k.startswith(prefix))


def test_the_state_hash_tells_states_apart() -> None:
    """Each part of a state is in its hash: key, value, revisions, version, lease, and where a key ends."""
    hashes = []
    histories: list[list[Operation]] = [
        [],
        [Put(b"a", b"")],
        [Put(b"b", b"")],
        [Put(b"a", b"b")],
        [Put(b"ab", b"")],
        [Put(b"a", b"", 0)],
        [Put(b"a", b""), Put(b"a", b"")],
        [Put(b"a", b""), Delete(b"a")],
        [Put(b"a", b""), Delete(b"a"), Put(b"a", b"")],
        [Put(b"x", b""), Put(b"a", b"")],
        [Put(b"a", b""), Put(b"x", b"")],
    ]
    for history in histories:
        store = Store()
        for operation in history:
            store.run(Txn(success=(operation,)))
        hashes.append(store.state_hash)
    assert len(set(hashes)) == len(hashes)
    assert all(len(h) == 32 for h in hashes)


def test_what_a_key_costs() -> None:
    """At most 300 bytes beside key and value, and no object that the garbage collector visits."""
    keys = 5_000
    store = Store()
    tracemalloc.start()
    try:
        for number in range(keys):
            store.apply([Committed(1, number, encode_txn(Txn(success=(Put(b"/%06d" % number, b"v"),))))])
        gc.collect()
        taken_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken_bytes / keys - 8 < 300
    assert not any(map(gc.is_tracked, store._space.records.values()))
