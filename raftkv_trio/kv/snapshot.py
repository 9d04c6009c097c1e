"""A store's state as chunks: a view pinned to one moment, and the form in which it is written and read.

Chunks are CBOR, version 1, and their boundaries belong to the form:

    [1, revision, number of key-values]
    [[key, value, create revision, mod revision, version, lease] ...]    any number of times, keys ascending
    [state hash]
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Any

import cbor2
from sortedcontainers import SortedDict

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv.txn import KeyValue

VERSION = 1
CHUNK_BYTES = 64 * 1024
_RECORD_OVERHEAD_BYTES = 32
_MAX_DEPTH = 2


class PinnedView:
    """Key-values in order, as they were when the view was made, though the map goes on changing.

    Copy on write, by key: before a key changes that the view has not passed, the map's owner calls `keep`. So
    a view costs nothing where nothing changes, and one reference a changed key at most.
    """

    def __init__(self, records: SortedDict) -> None:
        self._records = records
        self._kept = SortedDict()  # key -> KeyValue, or None where it did not exist; only keys not passed yet
        self._passed: bytes | None = None
        self.count = len(records)

    def keep(self, key: bytes, old: KeyValue | None) -> None:
        """The map is about to change `key`, which holds `old` now."""
        if self._passed is None or key > self._passed:
            self._kept.setdefault(key, old)

    def take(self, max_bytes: int) -> list[KeyValue]:
        """The next key-values, of `max_bytes` at least in all if there are so many; empty at the end."""
        taken: list[KeyValue] = []
        size = 0
        previous = None
        now = self._records.irange(self._passed, inclusive=(False, True))
        for key in merge(now, self._kept):
            if key == previous:  # it is in both: it was there, and has changed since
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
    """Chunks of a view, made one at a time as they are asked for."""
    yield cbor2.dumps([VERSION, revision, view.count])
    while records := view.take(CHUNK_BYTES):
        yield cbor2.dumps([list(record) for record in records])
    yield cbor2.dumps([bytes.fromhex(state_hash)])


class SnapshotReader:
    """Iterates over the key-values of a snapshot; `verify` comes after the last.

    Raises CorruptLog, here and in iteration, for chunks that `write_snapshot` did not make.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        version, revision, count = self._next_chunk(3)
        if version != VERSION:
            raise CorruptLog(f"the store's snapshot has version {version}, this program knows {VERSION}")
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
            raise CorruptLog("the store's snapshot has more key-values than it says")

    def verify(self, state_hash: str) -> None:
        """Compare the restored state's hash with the one that was written."""
        (written,) = self._next_chunk(1)
        if written != bytes.fromhex(state_hash):
            raise CorruptLog(
                "the state that a snapshot restored has another state hash than the one it was of"
            )
        for _ in self._chunks:
            raise CorruptLog("the store's snapshot goes on behind its end")

    def _next_chunk(self, length: int | None = None) -> list[Any]:
        try:
            value = cbor2.loads(next(self._chunks), max_depth=_MAX_DEPTH, allow_indefinite=False)
        except StopIteration:
            raise CorruptLog("the store's snapshot ends too early") from None
        except (cbor2.CBORError, ValueError, TypeError) as error:
            raise CorruptLog(f"the store's snapshot cannot be read: {error}") from error
        if type(value) is not list or len(value) != (length or len(value)) or not value:
            raise CorruptLog("the store's snapshot is not laid out as one")
        return value


def _record(fields: Any) -> KeyValue:
    if type(fields) is not list or len(fields) != 6:
        raise CorruptLog("the store's snapshot has a key-value of another form")
    key, value, create_revision, mod_revision, version, lease = fields
    if type(key) is not bytes or type(value) is not bytes:
        raise CorruptLog("the store's snapshot has a key-value without key or value")
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
        raise CorruptLog("the store's snapshot has something else where a number belongs")
    return value
