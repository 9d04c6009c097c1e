"""A state of feature level 1 as chunks: a view pinned to one moment, and the form that is written and read.

Chunks are CBOR, version 1 (`history_snapshot.py` has version 2). Their boundaries are part of the form:

    [1, revision, number of key-values]
    [[key, value, create revision, mod revision, version, lease] ...]    any number of times, keys ascending
    [state hash]
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Any

import cbor2
from sortedcontainers import SortedDict

from raftkv_trio import strict_cbor
from raftkv_trio.errors import CorruptLog, DecodeError
from raftkv_trio.kv.record import digest_of, fields_of, pack, size_of

VERSION = 1
CHUNK_BYTES = 64 * 1024
_MAX_DEPTH = 2
#: A chunk of small key-values has fewer items: each takes `HEAD_BYTES` of `CHUNK_BYTES` at least, and is a
#: list of six. So many bytes cannot have more, and are not counted: that would take a tenth of a start.
_MAX_ITEMS = 2 * CHUNK_BYTES
NO_BEGIN = "the store's snapshot does not begin as one"
OUT_OF_ORDER = "the store's snapshot has a key-value out of order"
_NO_NATURAL = "the store's snapshot has a number that is not an integer from 0 to 2**63-1"


class PinnedView:
    """All key-values in order, as they were when the view was made, while the map goes on changing.

    Copy on write, by key: before the map's owner changes a key, it calls `keep`. So a view costs nothing if
    nothing changes, and at most one reference for each key that changes before the view has passed it.
    """

    def __init__(self, records: SortedDict) -> None:
        self._records = records
        self._kept = SortedDict()  # key -> its record; None: it did not exist. Only keys not passed yet
        self._passed: bytes | None = None
        self.count = len(records)

    def keep(self, key: bytes, old: bytes | None) -> None:
        """Note that the map is about to change `key`, which holds `old` now."""
        if self._passed is None or key > self._passed:
            self._kept.setdefault(key, old)

    def take(self, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """The next keys and their records, until they have `max_bytes` together; empty at the end."""
        taken: list[tuple[bytes, bytes]] = []
        size = 0
        previous = None
        records, kept = self._records, self._kept
        now = records.irange(self._passed, inclusive=(False, True))
        for key in merge(now, kept) if kept else now:
            # A key that is in both existed when the view was made, and has changed since.
            if key == previous:
                continue
            previous = key
            record: bytes | None = kept[key] if key in kept else records[key]
            if record is not None:
                taken.append((key, record))
                size += len(key) + len(record)
                if size >= max_bytes:
                    break
        self._pass(previous)
        return taken

    def _pass(self, key: bytes | None) -> None:
        if key is not None:
            self._passed = key
            while self._kept and self._kept.peekitem(0)[0] <= key:
                self._kept.popitem(0)


def write_snapshot(view: PinnedView, revision: int, state_hash: str) -> Iterator[bytes]:
    """Chunks of a view, each made when it is asked for."""
    yield cbor2.dumps([VERSION, revision, view.count])
    while records := view.take(CHUNK_BYTES):
        yield cbor2.dumps([fields_of(key, record) for key, record in records])
    yield cbor2.dumps([bytes.fromhex(state_hash)])


class ChunkReader:
    """The chunks of a snapshot, decoded one after the other. Raises CorruptLog for what cannot be."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def next(self, length: int | None = None) -> list[Any]:
        """The next chunk, a list that is not empty; with a `length`, one of this length."""
        try:
            value = strict_cbor.decode(next(self._chunks), max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
        except StopIteration:
            raise CorruptLog("the store's snapshot ends too early") from None
        except DecodeError as error:
            raise CorruptLog(f"the store's snapshot cannot be read: {error}") from error
        if type(value) is not list or len(value) != (length or len(value)) or not value:
            raise CorruptLog("the store's snapshot has a chunk of another form")
        return value

    def items(self, count: int) -> Iterator[Any]:
        """The next `count` items of lists, which end with a chunk."""
        read = 0
        while read < count:
            chunk = self.next()
            yield from chunk
            read += len(chunk)
        if read > count:
            raise CorruptLog("the store's snapshot has more items than its first chunk says")

    def end(self, state_hash: str) -> None:
        """Read the last chunk, and compare the hash of what was read with the one in it."""
        (written,) = self.next(1)
        if written != bytes.fromhex(state_hash):
            raise CorruptLog("the state that was restored does not have the state hash of its snapshot")
        for _ in self._chunks:
            raise CorruptLog("the store's snapshot has data after its end")


class SnapshotReader:
    """Iterates over the keys of a snapshot of version 1 and their records.

    Attributes:
        revision: of the state.
        digest_sum, size_bytes: of the key-values read so far.

    Raises CorruptLog, here and in the iteration, for chunks that `write_snapshot` did not make.
    """

    def __init__(self, header: list[Any], chunks: ChunkReader) -> None:
        if len(header) != 3:
            raise CorruptLog(NO_BEGIN)
        self.revision: int = natural(header[1])
        self.digest_sum = self.size_bytes = 0
        self._count = natural(header[2])
        self._chunks = chunks

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        previous = b""
        # A start does this for each key that the store holds, so the loop makes no object that it does not
        # need.
        for fields in self._chunks.items(self._count):
            key, record = key_and_record(fields, self.revision)
            if key <= previous:
                raise CorruptLog(OUT_OF_ORDER)
            previous = key
            self.digest_sum += digest_of(key, record)
            self.size_bytes += size_of(key, record)
            yield key, record

    def end(self, state_hash: str) -> None:
        """Compare the hash of what was read with the one in the snapshot, which ends there."""
        self._chunks.end(state_hash)


def key_and_record(fields: Any, revision: int) -> tuple[bytes, bytes]:
    """The key and the record of an item; its mod revision is not after `revision`. Raises CorruptLog."""
    if type(fields) is not list or len(fields) != 6:
        raise CorruptLog("the store's snapshot has a key-value of another form")
    key, value, create_revision, mod_revision, version, lease = fields
    if type(key) is not bytes or type(value) is not bytes:
        raise CorruptLog("the store's snapshot has a key or value that is not bytes")
    # Not `natural` for each, which would take as long as all the rest: or-ed together they are negative, or
    # have a bit above the 63rd, if one of them is, or has.
    if (
        not (type(create_revision) is type(mod_revision) is type(version) is int)
        or (create_revision | mod_revision | version) >> 63
    ):
        raise CorruptLog(_NO_NATURAL)
    if lease is not None:
        natural(lease)
    if mod_revision > revision:
        raise CorruptLog(OUT_OF_ORDER)
    return key, pack(value, create_revision, mod_revision, version, lease)


def natural(value: object) -> int:
    """The value, if it is an integer from 0 to 2**63-1; raises CorruptLog."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise CorruptLog(_NO_NATURAL)
    return value
