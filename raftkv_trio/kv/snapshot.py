"""A store's state as chunks: a view pinned to one moment, and the form in which it is written and read.

Chunks are CBOR, version 1. Their boundaries are part of the form:

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
from raftkv_trio.errors import CorruptLog, DecodeError, UpgradeNeeded
from raftkv_trio.kv.txn import KeyValue

VERSION = 1
CHUNK_BYTES = 64 * 1024
_RECORD_OVERHEAD_BYTES = 32
_MAX_DEPTH = 2
#: A chunk has no more than the key-values that `take` takes, each with six fields.
_MAX_ITEMS = 1 + 7 * -(-CHUNK_BYTES // _RECORD_OVERHEAD_BYTES)


class PinnedView:
    """All key-values in order, as they were when the view was made, while the map goes on changing.

    Copy on write, by key: before the map's owner changes a key, it calls `keep`. So a view costs nothing if
    nothing changes, and at most one reference for each key that changes before the view has passed it.
    """

    def __init__(self, records: SortedDict) -> None:
        self._records = records
        self._kept = SortedDict()  # key -> KeyValue; None: it did not exist. Only keys not passed yet
        self._passed: bytes | None = None
        self.count = len(records)

    def keep(self, key: bytes, old: KeyValue | None) -> None:
        """Note that the map is about to change `key`, which holds `old` now."""
        if self._passed is None or key > self._passed:
            self._kept.setdefault(key, old)

    def take(self, max_bytes: int) -> list[KeyValue]:
        """The next key-values, until they have `max_bytes` together or none is left; empty at the end."""
        taken: list[KeyValue] = []
        size = 0
        previous = None
        now = self._records.irange(self._passed, inclusive=(False, True))
        for key in merge(now, self._kept):
            # A key that is in both existed when the view was made, and has changed since.
            if key == previous:
                continue
            previous = key
            record: KeyValue | None = self._kept[key] if key in self._kept else self._records[key]
            if record is not None:
                taken.append(record)
                size += len(record.key) + len(record.value) + _RECORD_OVERHEAD_BYTES
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
        yield cbor2.dumps([list(record) for record in records])
    yield cbor2.dumps([bytes.fromhex(state_hash)])


class SnapshotReader:
    """Iterates over the key-values of a snapshot. After the last one, call `verify`.

    Raises CorruptLog, here and in the iteration, for chunks that `write_snapshot` did not make. Raises
    UpgradeNeeded if a newer version of this program made them.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        match self._next_chunk():
            case [int(version), *_] if version > VERSION:
                raise UpgradeNeeded("the snapshot of the store is", version, VERSION)
            case [int(version), revision, count] if version == VERSION:
                pass
            case _:
                raise CorruptLog("the store's snapshot does not begin as one")
        self.revision: int = _natural(revision)
        self._count = _natural(count)

    def __iter__(self) -> Iterator[KeyValue]:
        previous = b""
        read = 0
        while read < self._count:
            for fields in self._next_chunk():
                record = _record(fields)
                if record.key <= previous or record.mod_revision > self.revision:
                    raise CorruptLog("the store's snapshot has a key-value out of order")
                previous = record.key
                read += 1
                yield record
        if read > self._count:
            raise CorruptLog("the store's snapshot has more key-values than its first chunk says")

    def verify(self, state_hash: str) -> None:
        """Compare the hash of the restored state with the hash in the snapshot; raises CorruptLog."""
        (written,) = self._next_chunk(1)
        if written != bytes.fromhex(state_hash):
            raise CorruptLog("the state that was restored does not have the state hash of its snapshot")
        for _ in self._chunks:
            raise CorruptLog("the store's snapshot has data after its end")

    def _next_chunk(self, length: int | None = None) -> list[Any]:
        try:
            value = strict_cbor.decode(next(self._chunks), max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
        except StopIteration:
            raise CorruptLog("the store's snapshot ends too early") from None
        except DecodeError as error:
            raise CorruptLog(f"the store's snapshot cannot be read: {error}") from error
        if type(value) is not list or len(value) != (length or len(value)) or not value:
            raise CorruptLog("the store's snapshot has a chunk of another form")
        return value


def _record(fields: Any) -> KeyValue:
    if type(fields) is not list or len(fields) != 6:
        raise CorruptLog("the store's snapshot has a key-value of another form")
    key, value, create_revision, mod_revision, version, lease = fields
    if type(key) is not bytes or type(value) is not bytes:
        raise CorruptLog("the store's snapshot has a key or value that is not bytes")
    return KeyValue(
        key,
        value,
        _natural(create_revision),
        _natural(mod_revision),
        _natural(version),
        None if lease is None else _natural(lease),
    )


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise CorruptLog("the store's snapshot has a number that is not an integer from 0 to 2**63-1")
    return value
