"""A state of feature levels 2 to 4 as chunks: records, past ones too, their order, requests, leases, users.

Chunks are CBOR, of version 4; or of version 3, which has no users and roles; or of version 2, which has no
leases either. Their boundaries are part of the form:

    [4, revision, compacted revision, number of records, of orders, of requests, of requests ever, of leases,
        of grants and renewals ever, whether auth is enabled, auth revision, number of roles, of permissions,
        of users, of roles that users have]
    [[id, ttl in seconds, granted revision, renewal, remaining seconds or 0] ...]    in the order of grants
    four parts of users and roles (`auth/snapshot.py`)
    [[key, value, create revision, mod revision, version, lease] | [key, revision] ...]    a tombstone has two
    [[revision, start, length, start, length ...] ...]    runs, of revisions not in the order of their keys
    [[id, fingerprint, revision, result] ...]    oldest first; the result is null if it was too large
    [state hash]

Records are in order of keys, and those of a key from the oldest to its last one, the present one if it is no
tombstone. An item of the same key as the one before it has null for it. Each of the middle parts is any
number of chunks.
"""

from collections.abc import Iterator
from heapq import merge
from typing import TYPE_CHECKING, Any

import cbor2
from sortedcontainers import SortedDict

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv.auth.auth import Auth
from raftkv_trio.kv.auth.snapshot import AuthView, read_auth
from raftkv_trio.kv.history import (
    EMPTY_REVISION,
    NEVER_COMPACTED,
    Change,
    History,
    Runs,
    in_order,
    order_digest,
)
from raftkv_trio.kv.leases import Leases, fields_of_lease
from raftkv_trio.kv.record import (
    HEAD_BYTES,
    NO_VERSION,
    bytes_of_revision,
    digest_of,
    fields_of,
    is_tombstone,
    mod_bytes_of,
    mod_revision_of,
    size_of,
    tombstone,
)
from raftkv_trio.kv.request_window import Remembered, RequestWindow
from raftkv_trio.kv.snapshot import (
    CHUNK_BYTES,
    NO_BEGIN,
    OUT_OF_ORDER,
    ChunkReader,
    key_and_record,
    natural,
)

if TYPE_CHECKING:
    from raftkv_trio.kv.keyspace import Keyspace

#: Of a state without leases, of one with them, and of one with users and roles too.
VERSION_2, VERSION_3, VERSION_4 = 2, 3, 4
#: What a field that is not bytes counts: a text has more, but few of them are long.
_OTHER_BYTES = 9
#: How many numbers of parts there are in the first chunk.
_COUNTS = {VERSION_2: 4, VERSION_3: 6, VERSION_4: 12}


class HistoryView:
    """All records up to the revision that the store had when the view was made, while it goes on changing.

    What is put or deleted later has a later revision, so it is passed over, and needs no copy. Only what a
    compaction is about to drop is kept here, if the view has not passed it yet.
    """

    def __init__(self, space: "Keyspace", history: History) -> None:
        self._space = space
        self._history = history
        self.revision = space.revision
        self.compacted_revision = history.compacted_revision
        self.count = len(space.records) + history.past_count
        self.order_count = len(history.orders)
        self._last = bytes_of_revision(self.revision)
        self._kept = SortedDict()  # key -> its records up to the revision. Only keys not passed yet
        self._ordered_revisions = list(history.orders)
        leases = space.leases
        self.leases = None if leases is None else leases.records.copy()
        self.leases_ever = 0 if leases is None else leases.ever
        self._kept_orders: dict[int, Runs] = {}
        self._passed: bytes | None = None
        self._rest: list[tuple[bytes, bytes]] = []  # of the key that was passed last, newest first

    # ------------------------------------------------------------ what a compaction tells

    def keep(self, key: bytes) -> None:
        """Note that the history is about to drop records of `key`."""
        if (self._passed is None or key > self._passed) and key not in self._kept:
            self._kept[key] = self._records_of(key)

    def keep_orders(self, orders: dict[int, Runs]) -> None:
        """Note that the history has dropped these of its `orders`."""
        self._kept_orders |= orders

    # ------------------------------------------------------------ reads

    def take(self, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """The next keys and records, until they have `max_bytes` together; empty at the end."""
        taken: list[tuple[bytes, bytes]] = []
        size = 0
        keys = self._keys()
        while size < max_bytes:
            if not self._rest:
                key = next(keys, None)
                if key is None:
                    break
                if key == self._passed:
                    continue
                self._passed = key
                records = self._kept[key] if key in self._kept else self._records_of(key)
                self._rest = [(key, record) for record in reversed(records)]
                continue
            key, record = self._rest.pop()
            taken.append((key, record))
            size += len(key) + len(record)
        while self._kept and self._kept.peekitem(0)[0] <= self._passed:
            self._kept.popitem(0)
        return taken

    def _keys(self) -> Iterator[bytes]:
        """The keys that are not passed yet, in order; some maybe more than once, or of later revisions."""
        maps = [keys for keys in (self._space.records, self._history.dead, self._kept) if keys]
        ranges = [keys.irange(self._passed, inclusive=(False, True)) for keys in maps]
        return merge(*ranges) if len(ranges) != 1 else ranges[0]

    def _records_of(self, key: bytes) -> list[bytes]:
        records = [*self._history.past.get(key, ())]
        present = self._space.records.get(key)
        if present is not None:
            records.append(present)
        # Later ones are at the end.
        while records and mod_bytes_of(records[-1]) > self._last:
            records.pop()
        return records

    def orders(self) -> Iterator[list[int]]:
        """Of each revision whose changes are not in the order of their keys: it, and its runs."""
        for revision in self._ordered_revisions:
            yield [revision, *(self._kept_orders.get(revision) or self._history.orders[revision])]


def write_history_snapshot(
    view: HistoryView,
    requests: list[tuple[bytes, Remembered]],
    requests_ever: int,
    auth: AuthView | None,
    state_hash: str,
) -> Iterator[bytes]:
    """Chunks of a view, each made when it is asked for."""
    counts = [view.count, view.order_count, len(requests), requests_ever]
    header = [view.revision, view.compacted_revision, *counts]
    if view.leases is None:
        yield cbor2.dumps([VERSION_2, *header])
    else:
        header += [len(view.leases), view.leases_ever]
        yield cbor2.dumps([VERSION_3, *header] if auth is None else [VERSION_4, *header, *auth.header])
        leases, view.leases = view.leases, {}
        yield from _chunks(fields_of_lease(*lease) for lease in leases.items())
        for part in () if auth is None else auth.parts():
            yield from _chunks(part)
    previous = None
    while records := view.take(CHUNK_BYTES):
        items = []
        for key, record in records:
            fields: list[Any]
            fields = [key, mod_revision_of(record)] if is_tombstone(record) else fields_of(key, record)
            if key == previous:
                fields[0] = None
            previous = key
            items.append(fields)
        yield cbor2.dumps(items)
    yield from _chunks(view.orders())
    yield from _chunks([request_id, *remembered] for request_id, remembered in requests)
    yield cbor2.dumps([bytes.fromhex(state_hash)])


def _chunks(items: Iterator[list[Any]]) -> Iterator[bytes]:
    """Chunks of about `CHUNK_BYTES`; an item that is larger is one of its own."""
    chunk: list[list[Any]] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += sum(len(field) if type(field) is bytes else _OTHER_BYTES for field in item)
        if size >= CHUNK_BYTES:
            yield cbor2.dumps(chunk)
            chunk, size = [], 0
    if chunk:
        yield cbor2.dumps(chunk)


class HistoryReader:
    """Reads a snapshot of version 2 to 4, part by part: leases, users, records, orders, requests.

    Attributes:
        revision, compacted_revision: of the state.
        digest_sum: of what was read so far of records and orders.

    Raises CorruptLog, in all it does, for chunks that `write_history_snapshot` did not make.
    """

    def __init__(self, header: list[Any], chunks: ChunkReader) -> None:
        match header[1:]:
            case [revision, compacted, *counts] if len(counts) == _COUNTS[header[0]]:
                self.revision = natural(revision)
                never = type(compacted) is int and compacted == NEVER_COMPACTED
                self.compacted_revision = NEVER_COMPACTED if never else natural(compacted)
                self._count, self._order_count, self._request_count, self._requests_ever = map(
                    natural, counts[:4]
                )
                self._lease_counts = tuple(map(natural, counts[4:6]))
                self._auth_header = counts[6:]
            case _:
                raise CorruptLog(NO_BEGIN)
        if self.compacted_revision > self.revision or self._request_count > self._requests_ever:
            raise CorruptLog(NO_BEGIN)
        self.digest_sum = 0
        self._chunks = chunks

    def leases(self) -> Leases | None:
        """The leases, without their keys; None if the snapshot is of version 2."""
        if not self._lease_counts:
            return None
        count, ever = self._lease_counts
        return Leases.of(self._chunks.items(count), ever, self.revision)

    def auth(self) -> Auth | None:
        """The users and roles; None if the snapshot is of a version before 4."""
        return read_auth(self._auth_header, self._chunks) if self._auth_header else None

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and records; records of one key follow each other, and have the same object for it."""
        previous, last, revision = b"", b"", self.revision
        # A start does this for each record, so the loop has few calls, and makes no object that it can spare.
        for fields in self._chunks.items(self._count):
            if type(fields) is not list or not fields:
                raise CorruptLog(OUT_OF_ORDER)
            is_same = fields[0] is None
            if is_same:
                fields[0] = previous
            if len(fields) == 2:
                key, record = self._tombstone(*fields)
            else:
                key, record = key_and_record(fields, revision)
            mod = record[8:16]
            if mod <= last if is_same else key <= previous:
                raise CorruptLog(OUT_OF_ORDER)
            previous, last = key, mod
            self.digest_sum += digest_of(key, record)
            yield key, record

    def _tombstone(self, key: object, revision: object) -> tuple[bytes, bytes]:
        if type(key) is not bytes or natural(revision) > self.revision:
            raise CorruptLog(OUT_OF_ORDER)
        return key, tombstone(natural(revision))

    def orders(self) -> Iterator[tuple[int, Runs]]:
        """Revisions, ascending, whose changes are not in the order of their keys, and their runs."""
        previous = max(self.compacted_revision, EMPTY_REVISION)
        for fields in self._chunks.items(self._order_count):
            if type(fields) is not list or len(fields) < 5:
                raise CorruptLog("the store's snapshot has an order of changes of another form")
            revision, *runs = map(natural, fields)
            if not previous < revision <= self.revision:
                raise CorruptLog("the store's snapshot has an order of changes out of order")
            previous = revision
            self.digest_sum += order_digest(revision, tuple(runs))
            yield revision, tuple(runs)

    def requests(self) -> RequestWindow:
        """The requests that the store remembers."""
        return RequestWindow.of(self._chunks.items(self._request_count), self._requests_ever)

    def end(self, state_hash: str) -> None:
        """Compare the hash of what was read with the one in the snapshot, which ends there."""
        self._chunks.end(state_hash)


class HistoryBuilder:
    """Makes a history of the records of a snapshot as they are read.

    Attributes:
        history: what is made; whole after `finish`.
        size_bytes: of the present keys and values.
    """

    def __init__(self, reader: HistoryReader) -> None:
        self.history = History(reader.compacted_revision)
        self.size_bytes = 0
        self._reader = reader
        self._changes: dict[int, Change | list[bytes]] = {}

    def present_records(self) -> Iterator[tuple[bytes, bytes]]:
        """The keys that exist and their present records; all others go into the history."""
        first = bytes_of_revision(self.history.first_revision)
        key = record = None
        older: list[bytes] = []
        changes = self._changes
        size_bytes = count = 0
        for next_key, next_record in self._reader.records():
            if (mod := next_record[8:16]) >= first:
                revision = int.from_bytes(mod, "big")
                if changes.setdefault(revision, next_key) is not next_key:
                    self._change(next_key, revision)
            if key is not None and record is not None:
                if next_key is key:
                    older.append(record)
                elif older or record[16:24] == NO_VERSION:
                    if self._is_present(key, record, older):
                        yield key, record
                else:
                    size_bytes += len(key) + len(record)
                    count += 1
                    yield key, record
            key, record = next_key, next_record
        self.size_bytes += size_bytes - count * HEAD_BYTES
        if key is not None and record is not None and self._is_present(key, record, older):
            yield key, record

    def _is_present(self, key: bytes, record: bytes, older: list[bytes]) -> bool:
        """Whether the last record of a key is no tombstone; empties `older`."""
        for one in older:
            self.history.add(key, one)
        older.clear()
        if is_tombstone(record):
            self.history.add(key, record)
            self.history.dead[key] = key
            return False
        self.size_bytes += size_of(key, record)
        return True

    def _change(self, key: bytes, revision: int) -> None:
        """Note one more key that a revision has changed."""
        before = self._changes[revision]
        if type(before) is list:
            before.append(key)
        else:
            self._changes[revision] = [before, key]  # type: ignore[list-item]  # bytes, if it is no list

    def finish(self) -> None:
        """Read the orders, when all records are read."""
        revisions = range(self.history.first_revision, self._reader.revision + 1)
        if len(self._changes) != len(revisions):  # all are in this range, so it is enough to count them
            raise CorruptLog("the store's snapshot lacks what a revision has changed")
        for revision, keys in self._changes.items():
            if type(keys) is list:
                self._changes[revision] = tuple(keys)
        for revision, runs in self._reader.orders():
            keys = self._changes[revision]
            ordered = in_order(keys, runs) if type(keys) is tuple else None
            if ordered is None:
                raise CorruptLog("the store's snapshot has an order that is none of what it orders")
            self._changes[revision] = ordered
            self.history.orders[revision] = runs
        self.history.changes = [self._changes[revision] for revision in revisions]  # type: ignore[misc]
