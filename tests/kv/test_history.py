"""The history: any revision can be read until it is compacted, and all of it is in hash and snapshot."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compact,
    CompactedRevision,
    Compare,
    Delete,
    Failed,
    Failure,
    FutureRevision,
    Get,
    InvalidTxn,
    LeaseCommand,
    Operation,
    Put,
    Relation,
    Result,
    Store,
    Target,
    Txn,
    TxnResult,
    encode_command,
    history_snapshot,
)
from raftkv_trio.kv.history import in_order, runs_of
from raftkv_trio.state_machine import Committed
from tests.kv.model import Model
from tests.kv.random_commands import Drawing
from tests.kv.strategies import KEYS

seeds = st.integers(0, 2**32)
counts = st.integers(1, 40)
ALL = Get(b"\0", TO_THE_LAST)


def apply(store: Store, command: Txn | Compact | LeaseCommand) -> Result:
    (result,) = store.apply([Committed(1, 1, encode_command(command))])
    return result


def put(store: Store, *keys: bytes, value: bytes = b"v") -> int:
    result = apply(store, Txn(success=tuple(Put(key, value) for key in keys)))
    assert isinstance(result, TxnResult)
    return result.revision


def delete(store: Store, key: bytes, range_end: bytes | None = None) -> int:
    result = apply(store, Txn(success=(Delete(key, range_end),)))
    assert isinstance(result, TxnResult)
    return result.revision


def run_both(drawing: Drawing, store: Store, model: Model, count: int) -> Iterator[None]:
    """Run random commands on both, and compare their results; yields after each."""
    for _ in range(count):
        drawing.revision = model.revision
        command = drawing.command()
        assert apply(store, command) == model.run_command(command), command
        yield


def compare_all(store: Store, model: Model) -> None:
    """Compare all that can be read."""
    assert (store.revision, store.compacted_revision) == (model.revision, model.compacted)
    assert store.size_bytes == model.size_bytes
    for revision in [None, *range(max(0, model.revision + 2))]:
        gets = [
            ALL._replace(revision=revision),
            Get(b"/ab", b"\xff", 1, revision),
            Get(b"/b", None, None, revision),
        ]
        for get in gets:
            assert read(store, get) == model.read(get)
    assert list(map(store.leases.get, store.leases.records)) == list(model.leases.values())
    for lease_id in model.leases:
        assert store.leases.keys_of(lease_id) == model.keys_of(lease_id)
        assert store.leases.key_count(lease_id) == len(model.keys_of(lease_id))
    after = max(model.compacted, 1) + 1
    assert store.changes(after) == [(r, model.changes[r]) for r in range(after, model.revision + 1)]


def read(store: Store, get: Get) -> object:
    try:
        return store.read(get)
    except (FutureRevision, CompactedRevision) as error:
        return Failed(error.failure)


def restored(store: Store) -> Store:
    chunks = list(store.snapshot())
    store.verify(chunks)
    copy = Store()
    put(copy, b"/of before")
    copy.restore(chunks)
    return copy


# ------------------------------------------------------------ against the model


@given(seeds, counts)
@settings(max_examples=150, deadline=None)
def test_like_the_model(seed: int, count: int) -> None:
    """Any commands have the model's results, and any revision can be read as the model has it."""
    store, model = Store(), Model()
    for _ in run_both(Drawing(Random(seed)), store, model, count):
        pass
    compare_all(store, model)


@given(seeds, counts, counts)
@settings(max_examples=80, deadline=None)
def test_a_restored_store_goes_on_like_the_first(seed: int, before: int, after: int) -> None:
    """A restored store has the same hashes and reads, and results of whatever comes next."""
    store, model, drawing = Store(), Model(), Drawing(Random(seed))
    for _ in run_both(drawing, store, model, before):
        pass
    copy = restored(store)
    compare_all(copy, model)
    assert contents(copy) == contents(store)
    for _ in range(after):
        drawing.revision = store.revision
        command = drawing.command()
        assert apply(store, command) == apply(copy, command)
        assert copy.state_hash == store.state_hash
    assert contents(copy) == contents(store)


def contents(store: Store) -> tuple[object, ...]:
    """All that a snapshot must bring back, also what no read shows."""
    history = store._space.history
    assert history is not None
    return (
        store.state_hash,
        list(store.snapshot()),
        {key: list(records) for key, records in history.past.items()},
        list(history.dead),
        history.changes,
        history.orders,
        (history.past_count, history.past_bytes, store.history_bytes, store.size_bytes),
    )


@given(seeds, counts, st.integers(1, 4), st.sampled_from([1, 60, 300]))
@settings(max_examples=120, deadline=None)
def test_a_snapshot_is_of_its_moment(seed: int, before: int, every: int, chunk_bytes: int) -> None:
    """Whatever changes, or is compacted, between two chunks, they are those of the moment of the call."""
    store, model, drawing = Store(), Model(), Drawing(Random(seed))
    for _ in run_both(drawing, store, model, before):
        pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_snapshot, "CHUNK_BYTES", chunk_bytes)
        expected = list(store.snapshot())
        chunks = []
        overlapping: list[tuple[list[bytes], list[bytes], Iterator[bytes]]] = []
        for number, chunk in enumerate(store.snapshot()):
            chunks.append(chunk)
            if number % every == 0:
                for _ in run_both(drawing, store, model, 2):
                    pass
            if number == 2:
                overlapping.append((list(store.snapshot()), [], store.snapshot()))
        assert chunks == expected
        for wanted, got, rest in overlapping:
            got += rest
            assert got == wanted
    compare_all(store, model)


@given(seeds, counts)
@settings(max_examples=60, deadline=None)
def test_the_hash_of_a_revision_stays(seed: int, count: int) -> None:
    """Until the next compaction, the hash of a revision is the one that it had when it was the newest."""
    store, model = Store(), Model()
    hashes: dict[tuple[int, int], int] = {}
    for _ in run_both(Drawing(Random(seed)), store, model, count):
        hashes[store.compacted_revision, store.revision] = store.hash_at()
        for (compacted, revision), value in hashes.items():
            if compacted == store.compacted_revision:
                assert store.hash_at(revision) == value


@given(seeds, counts)
@settings(max_examples=60, deadline=None)
def test_compacting_in_steps_makes_no_difference(seed: int, count: int) -> None:
    """One compaction leaves what many up to its revision leave."""
    store, model = Store(), Model()
    for _ in run_both(Drawing(Random(seed)), store, model, count):
        pass
    other = restored(store)
    if store.compacted_revision < store.revision:
        store.compact(store.revision)
        for revision in range(other.compacted_revision + 1, other.revision + 1):
            other.compact(revision)
    assert contents(store) == contents(other)
    assert store.changes(store.revision + 1) == []


@given(st.permutations([b"%d" % n for n in range(6)]))
def test_runs_tell_an_order(keys: list[bytes]) -> None:
    """An order can be made again from its runs and the sorted keys."""
    runs = runs_of(tuple(keys))
    ascending = tuple(sorted(keys))
    assert (runs == ()) == (tuple(keys) == ascending)
    assert not runs or in_order(ascending, runs) == tuple(keys)


@given(st.lists(st.integers(0, 7), max_size=8))
@example([0, 3])
@example([3, 2**62])
def test_other_numbers_are_no_runs(numbers: list[int]) -> None:
    """What `runs_of` does not make of an order is refused."""
    ascending = (b"a", b"b", b"c")
    ordered = in_order(ascending, tuple(numbers))
    assert ordered is None or (sorted(ordered) == list(ascending) and runs_of(ordered) == tuple(numbers))


# ------------------------------------------------------------ etcd's rules, one by one


def test_reads_of_past_revisions() -> None:
    """A past revision shows what it left: values, versions, what was deleted since, and nothing later."""
    store = Store()
    first = put(store, b"a", b"b")
    second = put(store, b"a", value=b"2")
    third = delete(store, b"b")
    fourth = put(store, b"b", value=b"new")
    keys = [
        [(kv.key, kv.value, kv.version) for kv in store.read(ALL._replace(revision=revision)).key_values]
        for revision in (1, first, second, third, fourth)
    ]
    assert keys == [
        [],
        [(b"a", b"v", 1), (b"b", b"v", 1)],
        [(b"a", b"2", 2), (b"b", b"v", 1)],
        [(b"a", b"2", 2)],
        [(b"a", b"2", 2), (b"b", b"new", 1)],
    ]
    limited = store.read(Get(b"a", b"z", 1, first))
    assert (len(limited.key_values), limited.in_range, limited.revision) == (1, 2, fourth)


def test_the_errors_of_compactions() -> None:
    """A compaction goes forward, and not beyond the store's revision; before the first one, 0 is forward."""
    store = Store()
    put(store, b"a")
    put(store, b"a")
    assert store.compacted_revision == -1
    assert apply(store, Compact(0)) == (store.revision,)
    assert apply(store, Compact(0)) == Failed(Failure.COMPACTED)
    assert apply(store, Compact(4)) == Failed(Failure.FUTURE_REVISION)
    assert apply(store, Compact(2)) == (store.revision,)
    for revision in (1, 2):
        assert apply(store, Compact(revision)) == Failed(Failure.COMPACTED)
    assert store.read(Get(b"a", revision=2)).key_values[0].mod_revision == 2
    with pytest.raises(CompactedRevision, match="revision 1 has been compacted, at 2"):
        store.read(Get(b"a", revision=1))
    with pytest.raises(FutureRevision, match="at revision 3, and has not reached 4"):
        store.read(Get(b"a", revision=4))
    with pytest.raises(CompactedRevision):
        store.hash_at(1)
    with pytest.raises(CompactedRevision):
        store.changes(1)
    with pytest.raises(FutureRevision):
        store.changes(3, 4)


def test_what_the_compacted_revision_changed() -> None:
    """It is told as long as it is known: a watch may begin there, but after a restart it may not."""
    store = Store()
    put(store, b"a")
    put(store, b"b")
    deleted = delete(store, b"a")
    put(store, b"a")
    assert store.first_change == store.compacted_revision == -1
    for compacted, keys in ((3, (b"b",)), (deleted, (b"a",))):
        store.compact(compacted)
        assert store.first_change == compacted
        assert store.changes(compacted)[0] == (compacted, keys)
        assert store.changes(compacted, compacted) == [(compacted, keys)]
        with pytest.raises(CompactedRevision):
            store.changes(compacted - 1)
    copy = restored(store)
    assert copy.first_change == deleted + 1
    with pytest.raises(CompactedRevision):
        copy.changes(deleted)
    assert copy.changes(deleted + 1) == store.changes(deleted + 1)


def test_a_compaction_drops_what_no_read_sees() -> None:
    """The last record up to its revision stays, unless it is a tombstone; a deleted key leaves nothing."""
    store = Store()
    for value in (b"1", b"2", b"3"):
        put(store, b"a", value=value)
    put(store, b"b")
    deleted = delete(store, b"b")
    assert store.history_bytes > 0
    store.compact(3)
    assert [kv.value for r in (3, 4) for kv in store.read(Get(b"a", revision=r)).key_values] == [b"2", b"3"]
    store.compact(deleted)
    assert (store.history_bytes, store.read(ALL._replace(revision=deleted)).in_range) == (0, 1)
    assert contents(restored(store)) == contents(store)


def test_all_that_is_run_is_checked_before_anything_is_changed() -> None:
    """A failure in an inner txn, behind puts, changes nothing; in a list that is not run it is none."""
    store = Store()
    put(store, b"a")
    put(store, b"b")
    store.compact(2)
    before = (store.revision, store.state_hash)
    failing: dict[Operation, Failure] = {
        Get(b"a", revision=1): Failure.COMPACTED,
        Get(b"a", revision=4): Failure.FUTURE_REVISION,
        Put(b"x", b"", 7): Failure.LEASE_NOT_FOUND,
        Put(b"x", b"", keeps_value=True): Failure.KEY_NOT_FOUND,
        Put(b"x", b"", keeps_lease=True): Failure.KEY_NOT_FOUND,
    }
    for operation, failure in failing.items():
        txn = Txn(success=(Put(b"c", b""), Txn(success=(operation,))))
        assert apply(store, txn) == Failed(failure)
        assert apply(store, Txn((Compare.absent(b"a"),), (operation,))) == TxnResult(False, 3, ())
    # As etcd: puts are checked before gets, wherever they stand.
    both = Txn(success=(Get(b"a", revision=9), Put(b"x", b"", 7)))
    assert apply(store, both) == Failed(Failure.LEASE_NOT_FOUND)
    assert (store.revision, store.state_hash) == before


def test_compares_of_inner_txns_look_at_the_state_before() -> None:
    """As in etcd, an inner txn's compares do not see what the outer txn puts before it."""
    store = Store()
    inner = Txn((Compare(b"a", Target.VALUE, Relation.EQUAL, b"v"),), (Get(b"a"),), ())
    result = apply(store, Txn(success=(Put(b"a", b"v"), inner)))
    assert isinstance(result, TxnResult)
    assert result.results[1] == TxnResult(False, 2, ())


@pytest.mark.parametrize("target", list(Target))
def test_a_compare_of_an_empty_range(target: Target) -> None:
    """As in etcd, nothing has numbers of 0 and no value."""
    operand = b"" if target is Target.VALUE else 0
    store = Store()
    put(store, b"a")
    for relation in Relation:
        compare = Compare(b"x", target, relation, operand, b"z")
        expected = relation is Relation.EQUAL and target is not Target.VALUE
        assert store.read_txn(Txn((compare,))).succeeded == expected


def test_previous_is_what_was_replaced() -> None:
    """A put tells what it replaced, and a delete what it deleted."""
    store = Store()
    put(store, b"a", b"b")
    before = store.range(b"")
    replaced = apply(store, Txn(success=(Put(b"a", b"2"), Put(b"c", b""))))
    deleted = apply(store, Txn(success=(Delete(b"b", b"c"),)))
    assert isinstance(replaced, TxnResult)
    assert isinstance(deleted, TxnResult)
    assert [result.previous for result in replaced.results] == [before[0], None]  # type: ignore[union-attr]
    assert deleted.results[0].previous == (before[1],)  # type: ignore[union-attr]


def test_a_txn_that_may_write_is_not_read() -> None:
    """`read_txn` refuses puts and deletes in whatever list, also of inner txns."""
    store = Store()
    writes: list[Operation] = [Put(b"a", b""), Delete(b"a"), Txn(failure=(Put(b"a", b""),))]
    for write in writes:
        with pytest.raises(InvalidTxn, match="may write"):
            store.read_txn(Txn(failure=(write,)))
    assert store.read_txn(Txn(success=(Txn(success=(Get(b"a"),)),))).succeeded


def test_the_order_of_changes_is_in_the_hash() -> None:
    """Two stores that differ only in the order in which one revision changed its keys have other hashes."""
    one, other = Store(), Store()
    put(one, b"a", b"b", b"c")
    put(other, b"a", b"c", b"b")
    assert one.range(b"") == other.range(b"")
    assert one.changes(2) == [(2, (b"a", b"b", b"c"))]
    assert other.changes(2) == [(2, (b"a", b"c", b"b"))]
    assert one.state_hash != other.state_hash
    assert one.hash_at() != other.hash_at()


def test_past_and_compaction_are_in_the_hash() -> None:
    """The same present keys with another past, or another compacted revision, have another hash."""
    hashes = set()
    for value, compacted in [(b"1", -1), (b"2", -1), (b"1", 2), (b"1", 3)]:
        store = Store()
        put(store, b"a", value=value)
        put(store, b"a", value=b"x")
        if compacted > 0:
            store.compact(compacted)
        hashes.add((store.state_hash, store.hash_at()))
    assert len(hashes) == 4
    assert len({state for state, _ in hashes}) == 4
    assert len({at for _, at in hashes}) == 4


def test_a_key_changed_twice_by_one_txn() -> None:
    """etcd lets a txn put a key and delete it to the last key; only what the txn leaves is history."""
    store = Store()
    put(store, b"a", value=b"before")
    assert apply(store, Txn(success=(Put(b"a", b"1"), Put(b"b", b"1"), Delete(b"a", TO_THE_LAST))))
    assert [kv.value for kv in store.read(ALL._replace(revision=2)).key_values] == [b"before"]
    assert store.read(ALL).in_range == store.read(ALL._replace(revision=3)).in_range == 0
    assert store.changes(3) == [(3, (b"a", b"b"))]
    put(store, b"a", value=b"x")
    apply(store, Txn(success=(Delete(b"a", TO_THE_LAST), Put(b"a", b"again"))))
    assert store.read(Get(b"a", revision=4)).key_values[0].value == b"x"
    (again,) = store.read(Get(b"a")).key_values
    assert (again.create_revision, again.version) == (5, 1)
    assert contents(restored(store)) == contents(store)


def test_many_records_of_one_key() -> None:
    """A key with more records than a chunk holds is written in pieces, while it changes."""
    store = Store()
    for number in range(300):
        put(store, b"a", value=b"%d" % number * 500)
    expected = list(store.snapshot())
    assert len(expected) > 5
    chunks = []
    for chunk in store.snapshot():
        chunks.append(chunk)
        put(store, b"a")
        store.compact(store.revision)
    assert chunks == expected
    copy = Store()
    copy.restore(chunks)
    assert [copy.read(Get(b"a", revision=r)).key_values[0].version for r in (2, 100, 301)] == [1, 99, 300]


def test_keys_of_changes_are_not_copied() -> None:
    """A revision costs no key of its own: each stands for the one that the key's revisions before it have."""
    store = Store()
    for _ in range(20):
        put(store, b"a key")
        put(store, b"x", b"a key", b"b")
    history = store._space.history
    assert history is not None
    changed = [key for revision in range(2, 42) for key in history.changes_of(revision)]
    assert len({id(key) for key in changed}) == len(set(changed)) == 3


# ------------------------------------------------------------ feature levels


def store_of_level_1() -> Store:
    store = Store()
    store.set_level(1)
    return store


def test_level_1_is_as_it_was() -> None:
    """A store of level 1 has states, hashes and snapshots, byte for byte, of the release without history."""
    commands, steps = cbor2.loads((Path(__file__).parent / "level_1.cbor").read_bytes())
    store = store_of_level_1()
    applied = 0
    for count, revision, size_bytes, state_hash, chunks in steps:
        for command in commands[applied:count]:
            store.apply([Committed(1, 1, command)])
        applied = count
        assert (store.revision, store.size_bytes, store.state_hash) == (revision, size_bytes, state_hash)
        assert list(store.snapshot()) == chunks
        store.verify(chunks)
        copy = store_of_level_1()
        copy.restore(chunks)
        assert (copy.level, copy.state_hash, list(copy.snapshot())) == (1, state_hash, chunks)


def test_level_2_is_as_it_was() -> None:
    """A store of level 2 has states, hashes and snapshots, byte for byte, of the release without leases."""
    commands, steps = cbor2.loads((Path(__file__).parent / "level_2.cbor").read_bytes())
    store = Store()
    store.set_level(2)
    applied = 0
    for count, revision, compacted_revision, state_hash, chunks in steps:
        for command in commands[applied:count]:
            store.apply([Committed(1, 1, command)])
        applied = count
        assert (store.revision, store.compacted_revision) == (revision, compacted_revision)
        assert store.state_hash == state_hash
        assert list(store.snapshot()) == chunks
        store.verify(chunks)
        for level in (1, 2):
            copy = Store()
            copy.set_level(level)
            copy.restore(chunks)
            assert (copy.level, copy.state_hash, list(copy.snapshot())) == (2, state_hash, chunks)


def test_level_3_is_as_it_was() -> None:
    """A store of level 3 has states, hashes and snapshots, byte for byte, of the release without users."""
    commands, steps = cbor2.loads((Path(__file__).parent / "level_3.cbor").read_bytes())
    store = Store()
    store.set_level(3)
    applied = 0
    for count, revision, compacted_revision, state_hash, chunks in steps:
        for command in commands[applied:count]:
            store.apply([Committed(1, 1, command)])
        applied = count
        assert (store.revision, store.compacted_revision) == (revision, compacted_revision)
        assert store.state_hash == state_hash
        assert list(store.snapshot()) == chunks
        store.verify(chunks)
        for level in (1, 2, 3):
            copy = Store()
            copy.set_level(level)
            copy.restore(chunks)
            assert (copy.level, copy.state_hash, list(copy.snapshot())) == (3, state_hash, chunks)


def test_level_1_has_no_history() -> None:
    """At level 1 only the present can be read, and commands of version 3 are rejected."""
    store = store_of_level_1()
    put(store, b"a")
    put(store, b"a")
    assert (store.level, store.compacted_revision, store.history_bytes) == (1, 3, 0)
    assert store.read(Get(b"a", revision=3)).in_range == 1
    assert read(store, Get(b"a", revision=2)) == Failed(Failure.COMPACTED)
    before = store.state_hash
    for command in (Compact(2), Txn(success=(Txn(success=(Put(b"b", b""),)),))):
        assert apply(store, command).refused_as == "invalid"  # type: ignore[union-attr]
    assert (store.state_hash, store.revision) == (before, 3)
    with pytest.raises(CompactedRevision):
        store.changes(3)


def test_leases_count_from_level_2_on() -> None:
    """A store of level 1 runs a put with a lease as its release did; later there is no such lease."""
    store = store_of_level_1()
    txn = Txn(success=(Put(b"a", b"", 7),))
    assert isinstance(apply(store, txn), TxnResult)
    store.set_level(2)
    assert apply(store, txn) == Failed(Failure.LEASE_NOT_FOUND)
    lease = Compare(b"a", Target.LEASE, Relation.EQUAL, 7)
    assert store.read_txn(Txn((lease,))).succeeded


@given(seeds, counts)
@settings(max_examples=40, deadline=None)
def test_a_history_may_begin_late(seed: int, count: int) -> None:
    """A store that rises to level 4 has all keys, a history from there on, and hashes like its copies."""
    store = store_of_level_1()
    keys = Random(seed).choices(KEYS, k=5)
    for key in keys:
        put(store, key)
    chunks = list(store.snapshot())
    pinned = store.snapshot()
    store.set_level(4)
    assert (store.compacted_revision, store.revision) == (6, 6)
    late = Store()
    late.restore(chunks)  # at level 4, so its history begins with the snapshot
    assert contents(late) == contents(store)
    drawing = Drawing(Random(seed))
    for _ in range(count):
        drawing.revision = store.revision
        command = drawing.command()
        assert apply(store, command) == apply(late, command)
    assert contents(restored(store)) == contents(late)
    assert list(pinned) == chunks


def test_levels_go_up() -> None:
    """Only an empty store goes back to level 1; a level of a newer program asks for an upgrade."""
    store = Store()
    store.set_level(1)
    store.set_level(2)
    assert store.compacted_revision == 1
    store = Store()
    put(store, b"a")
    with pytest.raises(ValueError, match="does not go back"):
        store.set_level(1)
    with pytest.raises(Exception, match="version 5; this program knows versions up to 4"):
        store.set_level(5)


def test_a_read_of_level_1_that_names_a_revision() -> None:
    """Only the present one can be read, in a txn too."""
    store = Store()
    store.set_level(1)
    for value in (b"1", b"2"):
        store.run(Txn(success=(Put(b"a", value),)))
    for revision, error in ((0, CompactedRevision), (2, CompactedRevision), (4, FutureRevision)):
        for get in (Get(b"a", revision=revision), Get(b"a", TO_THE_LAST, revision=revision)):
            with pytest.raises(error):
                store.read_txn(Txn(success=(get,)))
    result = store.read_txn(Txn(success=(Get(b"a", revision=3),)))
    assert result.results == (store.read(Get(b"a")),)


@given(seeds, st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_hash_in_steps(seed: int, most: int) -> None:
    """What is applied between two steps does not change it, unless that compacts more than is hashed."""
    store, later, drawing = Store(), [], Drawing(Random(seed))
    for number in range(20):
        drawing.revision = store.revision
        command = drawing.command()
        if number < 15 or not isinstance(command, Compact):
            apply(store, command)
    for _ in range(40):
        drawing.revision = store.revision
        later.append(drawing.command())
    revision = max(store.compacted_revision, store.revision - 5, 1)
    expected, compacted = store.hash_at(revision), store.compacted_revision
    try:
        for value in store.hash_steps(revision, most):
            if value is not None:
                assert value == (
                    expected if store.compacted_revision == compacted else store.hash_at(revision)
                )
            elif later:
                apply(store, later.pop())
    except CompactedRevision:
        assert store.compacted_revision > revision


def test_a_hash_of_a_store_that_is_restored_meanwhile() -> None:
    """It is that of the new state."""
    store, other = Store(), Store()
    for value in (b"1", b"2", b"3"):
        store.run(Txn(success=(Put(b"a", value),)))
        other.run(Txn(success=(Put(b"b", value),)))
    steps = store.hash_steps(2, most=1)
    assert next(steps) is None
    store.restore(list(other.snapshot()))
    assert [value for value in steps if value is not None] == [other.hash_at(2)]
