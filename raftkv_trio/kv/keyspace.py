"""The keys of a store: the present records, and with them its history. The state that txns change.

The state hash: each record has a 128-bit digest. Each change updates the sum of all digests modulo 2**128. At
feature level 1, where there is no history, the sum is that of the present records. At level 2 a superseded
record stays in it; tombstones are added, and the order of the keys that one revision changed, if it is not
that of the keys. What a compaction drops is subtracted.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from heapq import merge
from struct import Struct
from weakref import ref

from sortedcontainers import SortedDict

from raftkv_trio.kv.auth.auth import Auth
from raftkv_trio.kv.history import EMPTY_REVISION, History
from raftkv_trio.kv.history_snapshot import HistoryBuilder, HistoryReader
from raftkv_trio.kv.leases import Leases
from raftkv_trio.kv.record import (
    DIGEST_BYTES,
    HEAD_BYTES,
    KeyValue,
    bytes_of_revision,
    digest_of,
    is_tombstone,
    lease_of,
    mod_revision_of,
    pack,
    revisions_and_version_of,
    size_of,
    unpack,
)
from raftkv_trio.kv.request_window import RequestWindow
from raftkv_trio.kv.results import CompactedRevision, DeleteResult, FutureRevision, GetResult, PutResult
from raftkv_trio.kv.snapshot import PinnedView, SnapshotReader
from raftkv_trio.kv.txn import TO_THE_LAST, Get, Put

_DIGEST_MASK = 2 ** (8 * DIGEST_BYTES) - 1
_STATE = Struct(">Q16s")
_STATE_2 = Struct(">BQq16sQ16s")
_STATE_3 = Struct(">BQq16sQ16sQ16s")
_STATE_4 = Struct(">BQq16sQ16sQ16s?Q16s")
_AT_REVISION = Struct(">Qq16s")


class Keyspace:
    """The records of all keys.

    Attributes:
        revision: the last one that changed something.
        size_bytes: of all present keys and values.
        digest_sum: see above.
        records: key -> its present record (`record.py`), in order.
        history: None at feature level 1.
        leases: None at feature levels 1 and 2.
        views: of snapshots of level 1 that are still being read.
    """

    def __init__(self, history: History | None, leases: Leases | None = None) -> None:
        self.revision = EMPTY_REVISION
        self.size_bytes = 0
        self.digest_sum = 0
        self.records = SortedDict()
        self.history = history
        self.leases = leases
        # No WeakSet, which each change of a key would iterate over: that takes as long as all the rest of the
        # change.
        self.views: list[ref[PinnedView]] = []

    # ------------------------------------------------------------ reads

    def get(self, key: bytes) -> KeyValue | None:
        """The present key-value of `key`; None if the key does not exist."""
        record: bytes | None = self.records.get(key)
        return None if record is None else unpack(key, record)

    def range(self, start: bytes, end: bytes, limit: int | None = None) -> list[KeyValue]:
        """The present key-values of a range, in order, at most `limit` of them."""
        first, last = self.bounds(start, end)
        stop = last if limit is None else min(last, first + limit)
        return [unpack(key, self.records[key]) for key in self.records.islice(first, stop)]

    def bounds(self, start: bytes, end: bytes) -> tuple[int, int]:
        """The positions of a range in the order of present keys: first, and behind the last."""
        first: int = self.records.bisect_left(start)
        last: int = len(self.records) if end == TO_THE_LAST else self.records.bisect_left(end)
        return first, max(first, last)

    def reach(self, start: bytes, end: bytes, *, past: bool) -> int:
        """How many keys a range has; with those that it had in the past, if that is to be read."""
        first, last = self.bounds(start, end)
        reached = last - first
        if past and self.history is not None:
            dead = self.history.dead
            last = len(dead) if end == TO_THE_LAST else dead.bisect_left(end)
            reached += max(0, last - dead.bisect_left(start))
        return reached

    @property
    def compacted_revision(self) -> int:
        """No revision before this one can be read."""
        return self.revision if self.history is None else self.history.compacted_revision

    def check_revision(self, revision: int) -> None:
        """Raise FutureRevision or CompactedRevision if this revision cannot be read."""
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < self.compacted_revision:
            raise CompactedRevision(revision, self.compacted_revision)

    def read(self, get: Get, revision: int) -> GetResult:
        """The result of a get whose revision can be read; `revision` is the one that the result tells."""
        key, range_end, limit, past = get
        # In a txn that has changed something, even the store's own revision is one of the past.
        if past is not None and (past < self.revision or revision > self.revision):
            return self._read_past(key, range_end, limit, past, revision)
        if range_end is None:
            record = self.get(key)
            if record is None:
                return GetResult((), 0, revision)
            return GetResult((record,) if limit != 0 else (), 1, revision)
        first, last = self.bounds(key, range_end)
        return GetResult(tuple(self.range(key, range_end, limit)), last - first, revision)

    def _read_past(
        self, start: bytes, end: bytes | None, limit: int | None, past: int, revision: int
    ) -> GetResult:
        assert self.history is not None, "without a history only the present revision passes check_revision"
        at = bytes_of_revision(past)
        key_values: list[KeyValue] = []
        in_range = 0
        for key in self._keys_ever(start, end):
            record = self.history.record_at(key, self.records.get(key), at)
            if record is not None and not is_tombstone(record):
                in_range += 1
                if limit is None or in_range <= limit:
                    key_values.append(unpack(key, record))
        return GetResult(tuple(key_values), in_range, revision)

    def pages(
        self, start: bytes, end: bytes, past: int, most: int, most_bytes: int
    ) -> Iterator[Sequence[KeyValue]]:
        """The key-values that a range had at a revision that can be read, in order, in pages.

        A page passes so many keys at most, and ends with the key-value that makes it larger than so many
        bytes. Between two pages the keyspace may change; if it is compacted beyond the revision,
        CompactedRevision is raised.
        """
        at = bytes_of_revision(past)
        next_key: bytes | None = start
        while next_key is not None:
            self.check_revision(past)
            page: list[KeyValue] = []
            start, next_key, size_bytes = next_key, None, 0
            # The iterator is made anew for each page: it would not survive a change.
            for passed, key in enumerate(self._keys_ever(start, end)):
                if passed == most or size_bytes > most_bytes:
                    next_key = key
                    break
                record = self.records.get(key)
                if self.history is not None:
                    record = self.history.record_at(key, record, at)
                if record is not None and not is_tombstone(record):
                    page.append(unpack(key, record))
                    size_bytes += size_of(key, record)
            yield page

    def _keys_ever(self, start: bytes, end: bytes | None) -> Iterable[bytes]:
        """The keys of a range that exist, or that the history knows, in order."""
        if end is None:
            return (start,)
        if end == TO_THE_LAST:
            end = None
        elif end <= start:
            return ()
        maps = (self.records,) if self.history is None else (self.records, self.history.dead)
        return merge(*[keys.irange(start, end, inclusive=(True, False)) for keys in maps])

    # ------------------------------------------------------------ changes

    def put(self, put: Put, revision: int, changed: list[bytes]) -> PutResult:
        """Put a key at a new revision, and add it to `changed`."""
        # A start does this for each entry of the log, so it has few calls, and makes few objects.
        key, value, lease, keeps_value, keeps_lease = put
        history = self.history
        old: bytes | None = self.records.get(key)
        if old is None:
            create_revision, version = revision, 1
            grown_bytes = len(key) + len(value)
            dropped = None
            if history is not None and history.dead:
                key, dropped = history.revive(key, revision)
        else:
            create_revision, old_revision, version = revisions_and_version_of(old)
            version += 1
            if keeps_value or keeps_lease:
                present = unpack(key, old)
                value = present.value if keeps_value else value
                lease = present.lease if keeps_lease else lease
            grown_bytes = len(value) + HEAD_BYTES - len(old)
            dropped = old
            if history is not None:
                key = history.supersede(key, old, old_revision)
                dropped = None
        record = pack(value, create_revision, revision, version, lease)
        digests = digest_of(key, record)
        if dropped is not None:
            digests -= digest_of(key, dropped)
        if self.views:
            self._keep_for_views(key, old)
        if self.leases is not None and self.leases.records:
            self._attach(key, old, lease)
        # The map keeps the key that it has: a second object of the same key would cost memory.
        if old is None:
            self.records[key] = record
        else:  # which changes no order, so the map would only look for the key once more
            dict.__setitem__(self.records, key, record)
        self.size_bytes += grown_bytes
        self.digest_sum = (self.digest_sum + digests) & _DIGEST_MASK
        changed.append(key)
        return PutResult(key, record, old)

    def _attach(self, key: bytes, old: bytes | None, lease: int | None) -> None:
        """A key that had the record `old` is put with this lease."""
        assert self.leases is not None
        before = None if old is None else lease_of(old)
        # A put with the same lease attaches too: `old` may be of a time before that lease was granted.
        if before is not None and before != lease:
            self.leases.detach(before, key)
        if lease:
            self.leases.attach(lease, key)

    def delete(self, start: bytes, end: bytes | None, revision: int, changed: list[bytes]) -> DeleteResult:
        """Delete a range at a new revision, and add its keys to `changed`."""
        if end is None:
            keys = (start,) if start in self.records else ()
        else:
            keys = tuple(self.records.islice(*self.bounds(start, end)))
        records = tuple([self._delete(key, revision, changed) for key in keys])
        return DeleteResult(len(keys), keys, records)

    def _delete(self, key: bytes, revision: int, changed: list[bytes]) -> bytes:
        old: bytes = self.records.pop(key)
        if self.views:
            self._keep_for_views(key, old)
        if self.leases is not None and self.leases.records and (lease := lease_of(old)) is not None:
            self.leases.detach(lease, key)
        digests = 0
        if self.history is None:
            digests -= digest_of(key, old)
        else:
            old_revision = mod_revision_of(old)
            if old_revision != revision:
                key = self.history.supersede(key, old, old_revision)
            else:  # this txn made it, so no read can see it
                digests -= digest_of(key, old)
            digests += digest_of(key, self.history.bury(key, revision))
        self.size_bytes -= size_of(key, old)
        self.digest_sum = (self.digest_sum + digests) & _DIGEST_MASK
        changed.append(key)
        return old

    def finish(self, revision: int, changed: list[bytes]) -> None:
        """The revision has changed these keys, in order, and is the store's now."""
        self.revision = revision
        if self.history is None:
            return
        if len(changed) == 1:
            self.history.changes.append(changed[0])
        else:
            order = self.history.note_many(revision, changed)
            self.digest_sum = (self.digest_sum + order) & _DIGEST_MASK

    def _keep_for_views(self, key: bytes, old: bytes | None) -> None:
        for view in self.views:
            if (pinned := view()) is not None:
                pinned.keep(key, old)

    def compact(self, revision: int) -> None:
        """Drop what no read at `revision` or later sees; raises FutureRevision or CompactedRevision."""
        if revision <= self.compacted_revision:
            raise CompactedRevision(revision, self.compacted_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        assert self.history is not None, "without a history all is compacted"
        digests = self.history.compact(revision, self.records)
        self.digest_sum = (self.digest_sum - digests) & _DIGEST_MASK

    # ------------------------------------------------------------ snapshots

    def restore_old(self, reader: SnapshotReader) -> None:
        """Fill an empty keyspace of feature level 1 with what a snapshot of version 1 has."""
        self.revision = reader.revision
        self.records.update(reader)
        self.digest_sum = reader.digest_sum & _DIGEST_MASK
        self.size_bytes = reader.size_bytes

    def restore(self, reader: HistoryReader) -> Auth | None:
        """Fill an empty keyspace with what a snapshot has, which brings it to the level of the snapshot.

        Returns its users and roles, which are read with it.
        """
        self.leases = reader.leases()
        auth = reader.auth()
        builder = HistoryBuilder(reader)
        self.revision = reader.revision
        records = builder.present_records()
        self.records.update(self._attaching(self.leases, records) if self.leases else records)
        builder.finish()
        self.history = builder.history
        self.digest_sum = reader.digest_sum & _DIGEST_MASK
        self.size_bytes = builder.size_bytes
        return auth

    def _attaching(
        self, leases: Leases, records: Iterable[tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, bytes]]:
        """The same keys and records, each attached to its lease."""
        for key, record in records:
            if (lease := lease_of(record)) is not None:
                leases.attach_restored(lease, key, record)
            yield key, record

    # ------------------------------------------------------------ hashes

    def state_hash(self, requests: RequestWindow, auth: Auth | None) -> str:
        """32 hexadecimal digits, equal if all of the state is: requests, leases, users and roles too."""
        if self.history is None:
            return old_state_hash(self.revision, self.digest_sum)
        return state_hash(
            self.revision, self.compacted_revision, self.digest_sum, requests, self.leases, auth
        )

    def hash_steps(self, revision: int, most: int) -> Iterator[int | None]:
        """A hash of 32 bits of what is left of the history up to a revision that can be read.

        It comes after None for each so many changes after the revision. Between two of them the keyspace may
        change; if it is compacted beyond the revision, CompactedRevision is raised.
        """
        self.check_revision(revision)
        history = self.history
        digests = count = 0
        later = revision
        while history is not None and later < self.revision:
            later += 1
            at = bytes_of_revision(later)
            digests += history.order_digest_of(later)
            for key in history.changes_of(later):
                record = history.record_at(key, self.records.get(key), at)
                assert record is not None
                assert mod_revision_of(record) == later
                digests += digest_of(key, record)
                count += 1
                if count == most:
                    count = 0
                    yield None
                    self.check_revision(revision)
        digests = self.digest_sum - digests
        state = _AT_REVISION.pack(revision, self.compacted_revision, _digest_bytes(digests))
        yield int.from_bytes(blake2b(state, digest_size=4).digest(), "big")


def old_state_hash(revision: int, digest_sum: int) -> str:
    """The state hash of feature level 1."""
    state = _STATE.pack(revision, _digest_bytes(digest_sum))
    return blake2b(state, digest_size=DIGEST_BYTES).hexdigest()


def state_hash(
    revision: int,
    compacted_revision: int,
    digest_sum: int,
    requests: RequestWindow,
    leases: Leases | None,
    auth: Auth | None,
) -> str:
    """The state hash of feature level 4; of level 3, without users and roles; or 2, without leases too."""
    state = revision, compacted_revision, _digest_bytes(digest_sum)
    window = requests.ever, _digest_bytes(requests.digest_sum)
    if leases is None:
        packed = _STATE_2.pack(2, *state, *window)
    else:
        granted = leases.ever, _digest_bytes(leases.digest_sum)
        if auth is None:
            packed = _STATE_3.pack(3, *state, *window, *granted)
        else:
            users = auth.is_enabled, auth.revision, _digest_bytes(auth.digest_sum)
            packed = _STATE_4.pack(4, *state, *window, *granted, *users)
    return blake2b(packed, digest_size=DIGEST_BYTES).hexdigest()


def _digest_bytes(digest_sum: int) -> bytes:
    masked: int = digest_sum & _DIGEST_MASK
    return masked.to_bytes(DIGEST_BYTES, "big")
