"""Gets of large ranges: the result of one moment, though tasks go on between the pages."""

from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.access import large_reads
from raftkv_trio.errors import TooLarge
from raftkv_trio.kv import (
    TO_THE_LAST,
    Compact,
    CompactedRevision,
    Delete,
    Get,
    Put,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.state_machine import Committed
from tests.kv.random_commands import Drawing


def put_many(store: Store, count: int, value: bytes = b"value") -> None:
    for first in range(0, count, 100):
        store.run(Txn((), tuple(Put(b"%07d" % n, value) for n in range(first, first + 100)), ()))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_pages_are_the_range(seed: int) -> None:
    """All pages together are what one read shows, at each revision, however small the pages are."""
    random = Random(seed)
    store, drawing = Store(), Drawing(random)
    for index in range(30):
        drawing.revision = store.revision
        store.apply([Committed(1, 2 + index, encode_command(drawing.command()))])
    for revision in (None, *range(max(2, store.compacted_revision), store.revision + 1)):
        get = Get(b"a", random.choice([b"b", TO_THE_LAST]), None, revision)
        for most, most_bytes in ((1, 10_000), (3, 10_000), (1000, 0)):
            pages = list(store.pages(get, most, most_bytes))
            assert all(len(page) <= most for page in pages)
            assert [kv for page in pages for kv in page] == list(store.read(get).key_values)


@pytest.mark.parametrize("limit", [None, 700, 5000])
async def test_a_read_of_one_moment(limit: int | None) -> None:
    """What other tasks write between the pages does not show, at the present as at a past revision."""
    store = Store()
    put_many(store, 2000)
    past = store.revision
    store.run(Txn((), (Delete(b"0000100", b"0000200"),), ()))
    turns = 0

    async def write() -> None:
        nonlocal turns
        while True:
            turns += 1
            store.run(Txn((), (Put(b"0001999", b"%d" % turns), Delete(b"%07d" % (turns + 500))), ()))
            await trio.lowlevel.checkpoint()

    for revision in (None, past):
        get = Get(b"0", TO_THE_LAST, limit, revision)
        expected = store.read(get)
        turns = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            assert await large_reads.read(store, get) == expected
            nursery.cancel_scope.cancel()
        assert turns > 0


async def test_a_read_that_a_compaction_overtakes() -> None:
    """One of the present begins again; one of the past fails, as it would have failed a moment later."""
    store = Store()
    put_many(store, 2000)
    past = store.revision

    async def compact() -> None:
        while True:
            store.run(Txn((), (Put(b"new", b""),), ()))
            store.apply([Committed(1, 2, encode_command(Compact(store.revision)))])
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compact)
        result = await large_reads.read(store, Get(b"0", TO_THE_LAST))
        assert result.in_range == len(result.key_values) == 2001
        with pytest.raises(CompactedRevision):
            await large_reads.read(store, Get(b"0", TO_THE_LAST, None, past))
        nursery.cancel_scope.cancel()


async def test_a_read_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends before the memory is taken."""
    store = Store()
    put_many(store, 1000, bytes(2000))
    monkeypatch.setattr(large_reads, "MAX_BYTES", 1_000_000)
    with pytest.raises(TooLarge, match="read it in parts"):
        await large_reads.read(store, Get(b"0", TO_THE_LAST))
    assert len((await large_reads.read(store, Get(b"0", TO_THE_LAST, 10))).key_values) == 10
