"""Snapshots: pinned, lazy, the same bytes everywhere, and checked when they are restored."""

import tracemalloc
from collections.abc import Iterator, Sized

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv_trio.errors import CorruptLog, UpgradeNeeded
from raftkv_trio.kv import (
    TO_THE_LAST,
    CommandFailed,
    Delete,
    KeyValue,
    Put,
    QuotaExceeded,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.kv.snapshot import CHUNK_BYTES
from raftkv_trio.state_machine import Committed
from tests.kv.strategies import old_txns as txns

BIG = bytes(CHUNK_BYTES)  # a value that makes a chunk of its own, so that few keys make many chunks


def run(store: Store, txn: Txn) -> object:
    """The result of a txn; what `Store.run` raises counts as one."""
    try:
        return store.run(txn)
    except (QuotaExceeded, CommandFailed) as error:
        return str(error)


def store_of(history: list[Txn], level: int = 4) -> Store:
    store = Store()
    store.set_level(level)
    for txn in history:
        run(store, txn)
    return store


def restored(chunks: list[bytes], level: int = 4) -> Store:
    store = Store()
    store.set_level(level)
    store.run(Txn(success=(Put(b"/of before", b"x"),)))
    store.restore(chunks)
    return store


def state(store: Store) -> tuple[int, str, list[KeyValue]]:
    return store.revision, store.state_hash, store.range(b"")


levels = pytest.mark.parametrize("level", [1, 2, 3, 4])


@levels
@given(st.lists(txns, max_size=8))
@settings(max_examples=50, deadline=None)
def test_round_trip(level: int, history: list[Txn]) -> None:
    """A restored store has revision, hash and key-values of the one that was written, and goes on like it."""
    store = store_of(history, level)
    again = restored(list(store.snapshot()), level)
    assert state(again) == state(store)
    for txn in history:
        assert run(again, txn) == run(store, txn)
    assert again.state_hash == store.state_hash


@levels
@given(st.lists(txns, max_size=6), st.lists(txns, max_size=8), st.integers(1, 4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pinned_while_applying(level: int, before: list[Txn], meanwhile: list[Txn], every: int) -> None:
    """Whatever is applied between two chunks, the bytes are those of the moment of the call."""
    big = [_enlarged(txn) for txn in before]
    expected = list(store_of(big, level).snapshot())
    store = store_of(big, level)
    chunks: list[bytes] = []
    pending = iter(meanwhile)
    for number, chunk in enumerate(store.snapshot()):
        chunks.append(chunk)
        if number % every == 0:
            for txn in (next(pending, None), next(pending, None)):
                if txn is not None:
                    run(store, txn)
    assert chunks == expected
    assert state(restored(chunks, level)) == state(store_of(big, level))


def _enlarged(txn: Txn) -> Txn:
    success = tuple(o._replace(value=o.value + BIG) if isinstance(o, Put) else o for o in txn.success)
    return Txn(txn.compares, success, txn.failure)


@levels
@given(st.lists(txns, max_size=6), st.lists(txns, min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_snapshots_that_overlap(level: int, before: list[Txn], between: list[Txn]) -> None:
    """Two snapshots that are consumed at the same time each show their own moment."""
    store = store_of(before, level)
    first = store.snapshot()
    chunks = [next(first)]
    for txn in between:
        run(store, txn)
    second = list(store.snapshot())
    store.run(Txn(success=(Delete(b"\0", TO_THE_LAST),)))
    assert state(restored(chunks + list(first), level)) == state(store_of(before, level))
    assert state(restored(second, level)) == state(store_of(before + between, level))


def test_nothing_is_copied_before_it_is_asked_for() -> None:
    """A snapshot of 20,000 keys takes no memory when it is called, and that of a chunk or two later."""
    store = Store()
    for number in range(20_000):
        store.run(Txn(success=(Put(b"/%06d" % number, b"v" * 50),)))
    tracemalloc.start()
    try:
        chunks = store.snapshot()
        at_call = tracemalloc.get_traced_memory()[0]
        while next(chunks, None) is not None:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert at_call < 10_000
    assert peak < 10 * CHUNK_BYTES


@levels
def test_an_abandoned_snapshot_keeps_nothing(level: int) -> None:
    """Once its iterator is dropped, changes are not kept for it any more."""
    store = store_of([Txn(success=(Put(b"/k", b"v"),))], level)
    history = store._space.history
    views: Sized = store._space.views if history is None else history.views
    chunks: Iterator[bytes] | None = store.snapshot()
    assert chunks is not None
    assert len(views) == 1
    del chunks
    assert len(views) == 0


def test_a_snapshot_outlives_a_restore() -> None:
    """A snapshot that is being consumed while the store is replaced still shows its own moment."""
    store = store_of([Txn(success=(Put(b"/%d" % n, BIG),)) for n in range(3)])
    expected = list(store.snapshot())
    chunks = store.snapshot()
    begun = [next(chunks)]
    store.restore(list(store_of([Txn(success=(Put(b"/x", b""),))]).snapshot()))
    store.run(Txn(success=(Delete(b"\0", TO_THE_LAST),)))
    assert begun + list(chunks) == expected


def test_chunks_are_bounded() -> None:
    """A chunk is not much larger than its bound, unless one value is; and none is empty."""
    small = store_of([Txn(success=(Put(b"/%05d" % n, b"v" * 50),)) for n in range(5000)])
    sizes = [len(chunk) for chunk in small.snapshot()]
    assert len(sizes) > 5
    assert all(0 < size < 2 * CHUNK_BYTES for size in sizes)


def _sample(level: int = 3) -> list[bytes]:
    return list(store_of([Txn(success=(Put(b"/%d" % n, BIG),)) for n in range(4)], level).snapshot())


@levels
def test_every_lost_or_doubled_chunk_is_noticed(level: int) -> None:
    """Chunks that are missing, doubled, exchanged or added raise CorruptLog."""
    chunks = _sample(level)
    assert len(chunks) == 6
    for n in range(len(chunks)):
        with pytest.raises(CorruptLog):
            Store().restore(chunks[:n] + chunks[n + 1 :])
        with pytest.raises(CorruptLog):
            Store().restore(chunks[: n + 1] + chunks[n:])
    with pytest.raises(CorruptLog):
        Store().restore([chunks[0], chunks[2], chunks[1], *chunks[3:]])


def _with_all_parts(level: int) -> list[bytes]:
    """Chunks of each kind that the level has: records, and at level 2 tombstones, orders and requests."""
    history = [Txn(success=(Put(b"/%d" % n, b"value"),)) for n in range(3)]
    store = store_of([*history, Txn(success=(Delete(b"/0"), Put(b"/1", b"new"), Put(b"/", b"")))], level)
    command = encode_command(Txn(success=(Put(b"/2", b""),)), request_id=b"request")
    store.apply([Committed(1, 1, command)])
    return list(store.snapshot())


@levels
@given(st.integers(0, 5), st.integers(0, 300), st.integers(1, 255))
@settings(max_examples=300)
def test_every_changed_byte_is_noticed(level: int, chunk: int, offset: int, flip: int) -> None:
    """A byte that changed anywhere raises CorruptLog; if it makes the version a newer one, UpgradeNeeded."""
    chunks = _with_all_parts(level)
    assert len(chunks) == (3 if level == 1 else 5)
    chunk %= len(chunks)
    damaged = bytearray(chunks[chunk])
    damaged[offset % len(damaged)] ^= flip
    chunks[chunk] = bytes(damaged)
    with pytest.raises((CorruptLog, UpgradeNeeded)):
        Store().restore(chunks)


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_nonsense_is_corruption(chunks: list[bytes]) -> None:
    """Chunks of random bytes raise CorruptLog, or UpgradeNeeded if they begin as a newer version."""
    with pytest.raises((CorruptLog, UpgradeNeeded)):
        Store().restore(chunks)


def test_another_version_is_refused() -> None:
    """A snapshot of a version that this program does not know is refused with a sentence that says so."""
    first, *rest = _sample()
    for begin in [5, *cbor2.loads(first)[1:]], [5]:
        with pytest.raises(UpgradeNeeded, match="version 5"):
            Store().restore([cbor2.dumps(begin), *rest])
    for nonsense in [0, 1], [True, 1, 1], [2, 1, 1], [3, 1, 1], [4, 1, 1], [1, 1], ["1", 1, 1], [1.0, 1, 1]:
        with pytest.raises(CorruptLog):
            Store().restore([cbor2.dumps(nonsense), *rest])


@levels
def test_a_snapshot_is_verified_without_a_look_at_the_store(level: int) -> None:
    """`verify` accepts and refuses what `restore` does, and the store stays as it is."""
    source = store_of([Txn(success=(Put(b"/%d" % i, bytes(1000)),)) for i in range(200)], level)
    chunks = list(source.snapshot())
    assert len(chunks) > 3
    other = store_of([Txn(success=(Put(b"/other", b"value"),))])
    before = other.state_hash
    other.verify(iter(chunks))
    damaged = [
        [],
        [b"garbage"],
        chunks[:-1],
        chunks[:1] + chunks[2:],
        [*chunks, b"\x80"],
        [*chunks[:-1], cbor2.dumps([bytes(16)])],
        [cbor2.dumps([3, 1, 1]), *chunks[1:]],
    ]
    for wrong in damaged:
        with pytest.raises((CorruptLog, UpgradeNeeded)):
            other.verify(iter(wrong))
    assert other.state_hash == before
