"""What the store has of earlier revisions, and what a compaction drops of it.

- `past` has the records of each key that later ones superseded, oldest first. A deleted key's last one is a
  tombstone. The present record is not in it.
- `dead` has the keys that are only in `past`: so a range of a past revision is a merge of the present keys
  and these.
- `changes` has for each revision after the last compaction the keys that it changed, in order.
- `orders` has of revisions whose order is not that of the keys the order once more, short (`runs_of`).

A compaction at revision C keeps of each key the records after C, and the last one up to C if that is no
tombstone. A read at C or later sees no other.

A txn may change a key twice (`checks.py` says when). No read can see what it made first, so that is not kept.
"""

from bisect import bisect_right
from hashlib import blake2b
from typing import Protocol
from weakref import ref

from sortedcontainers import SortedDict

from raftkv_trio.kv.record import (
    DIGEST_BYTES,
    bytes_of_revision,
    digest_of,
    is_tombstone,
    mod_bytes_of,
    mod_revision_of,
    tombstone,
)

#: The compacted revision of a store before its first compaction, as in etcd.
NEVER_COMPACTED = -1
#: No revision up to this one changes anything: it is that of an empty store.
EMPTY_REVISION = 1
#: Up to so many records of a key are a tuple, which the garbage collector does not look at for long. More are
#: a list, because a tuple is copied for each record that is added.
_MAX_TUPLE = 8

Records = tuple[bytes, ...] | list[bytes]
Change = bytes | tuple[bytes, ...]
Runs = tuple[int, ...]


class CompactionView(Protocol):
    """A view of the history that must not miss what a compaction drops."""

    def keep(self, key: bytes) -> None:
        """Note that the history is about to drop records of `key`."""
        ...

    def keep_orders(self, orders: dict[int, Runs]) -> None:
        """Note that the history has dropped these of its `orders`."""
        ...


class History:
    """The superseded records of a store, and its changes.

    Attributes:
        past, dead, changes, orders: see above; the values of `dead` are its keys.
        compacted_revision: nothing before it can be read.
        first_revision: that of the first of `changes`.
        past_count: how many records `past` has.
        past_bytes: their bytes, with that of their keys.
        views: of snapshots that are still being read.
        compacted_change: the keys that the compacted revision changed, in order; None: not known, after a
            restart. It is no part of the state.
    """

    def __init__(self, compacted_revision: int) -> None:
        self.past: dict[bytes, Records] = {}
        self.dead = SortedDict()
        self.changes: list[Change] = []
        self.orders: dict[int, Runs] = {}
        self.compacted_revision = compacted_revision
        self.first_revision = max(compacted_revision, EMPTY_REVISION) + 1
        self.past_count = self.past_bytes = 0
        self.views: list[ref[CompactionView]] = []
        self.compacted_change: tuple[bytes, ...] | None = () if compacted_revision <= EMPTY_REVISION else None

    # ------------------------------------------------------------ changes

    def supersede(self, key: bytes, old: bytes, old_revision: int) -> bytes:
        """A later revision puts or deletes a key that has the record `old`, of `old_revision`.

        Returns the object that stands for the key already, so that `changes` need no object of their own for
        each revision.
        """
        place = old_revision - self.first_revision
        if place >= 0:
            change = self.changes[place]
            key = change[change.index(key)] if isinstance(change, tuple) else change
        self.add(key, old)
        return key

    def bury(self, key: bytes, revision: int) -> bytes:
        """A revision deletes the key, which is superseded already; returns the tombstone."""
        record = tombstone(revision)
        self.add(key, record)
        self.dead[key] = key
        return record

    def revive(self, key: bytes, revision: int) -> tuple[bytes, bytes | None]:
        """A revision puts a key that does not exist.

        Returns the object that stands for the key already, and the tombstone if it is dropped, because the
        same revision made it.
        """
        key = self.dead.pop(key, key)
        records = self.past.get(key)
        if records is None or mod_revision_of(records[-1]) != revision:
            return key, None
        dropped = records[-1]
        self._drop(key, records, slice(-1, None))
        return key, dropped

    def note_many(self, revision: int, changed: list[bytes]) -> int:
        """A revision has made these changes, in order; returns the digest of their order."""
        keys = tuple(dict.fromkeys(changed))
        self.changes.append(keys if len(keys) > 1 else keys[0])
        runs = runs_of(keys)
        if runs:
            self.orders[revision] = runs
        return order_digest(revision, runs)

    def add(self, key: bytes, record: bytes) -> None:
        """Add a record to the past of a key, newer than all that are there."""
        self.past_count += 1
        self.past_bytes += len(key) + len(record)
        records = self.past.get(key)
        if records is None:
            self.past[key] = (record,)
        elif type(records) is list:
            records.append(record)
        elif len(records) < _MAX_TUPLE:
            self.past[key] = (*records, record)
        else:
            self.past[key] = [*records, record]

    def _drop(self, key: bytes, records: Records, dropped: slice) -> None:
        """Drop some records of a key, of all that it has."""
        gone = records[dropped]
        self.past_count -= len(gone)
        self.past_bytes -= len(gone) * len(key) + sum(map(len, gone))
        if len(gone) == len(records):
            del self.past[key]
        elif isinstance(records, list):
            del records[dropped]
        else:
            self.past[key] = tuple([record for record in records if record not in gone])

    # ------------------------------------------------------------ reads

    def record_at(self, key: bytes, present: bytes | None, revision: bytes) -> bytes | None:
        """The record that the key had at a revision (`bytes_of_revision`), a tombstone too; None: none yet.

        Args:
            present: its present record, if it has one.
        """
        if present is not None and mod_bytes_of(present) <= revision:
            return present
        records = self.past.get(key, ())
        at = bisect_right(records, revision, key=mod_bytes_of)
        return records[at - 1] if at else None

    def changes_of(self, revision: int) -> tuple[bytes, ...]:
        """The keys that a revision changed, in order; it is one of those that `changes` has."""
        change = self.changes[revision - self.first_revision]
        return change if isinstance(change, tuple) else (change,)

    def order_digest_of(self, revision: int) -> int:
        """The digest of the order of a revision's changes, as `note_many` returned it."""
        return order_digest(revision, self.orders.get(revision, ()))

    # ------------------------------------------------------------ compaction

    def step(self, most: int) -> int:
        """The last revision that a compaction may have which passes so many changes at most, or one revision.

        It is the compacted revision, or the one before the first change, if there is nothing to drop.
        """
        count = 0
        for place, change in enumerate(self.changes[:most]):
            count += len(change) if isinstance(change, tuple) else 1
            if count > most and place:
                return self.first_revision + place - 1
        return self.first_revision + min(most, len(self.changes)) - 1

    def compact(self, revision: int, records: SortedDict) -> int:
        """Drop what no read at `revision` or later sees; returns the sum of the digests of all that.

        Args:
            revision: greater than that of the compaction before it, and not greater than the store's.
            records: the present ones.
        """
        count = max(0, revision + 1 - self.first_revision)
        self.compacted_change = self.changes_of(revision) if count else ()
        dropped = self.changes[:count]
        del self.changes[:count]
        views = [view for pinned in self.views if (view := pinned()) is not None]
        digests = self._drop_orders(range(self.first_revision, self.first_revision + count), views)
        keys: set[bytes] = set()
        for change in dropped:
            if isinstance(change, tuple):
                keys.update(change)
            else:
                keys.add(change)
        last = bytes_of_revision(revision)
        for key in keys:
            past = self.past.get(key)
            if past is None:
                continue
            dropped_count = _dropped_count(past, records.get(key), last)
            if dropped_count:
                for view in views:
                    view.keep(key)
                digests += sum([digest_of(key, record) for record in past[:dropped_count]])
                self._drop(key, past, slice(dropped_count))
                if key in self.dead and key not in self.past:
                    del self.dead[key]
        self.compacted_revision = revision
        self.first_revision += count
        return digests

    def _drop_orders(self, revisions: range, views: list[CompactionView]) -> int:
        """Drop the orders of these revisions; returns the sum of their digests."""
        orders = {r: self.orders.pop(r) for r in revisions if r in self.orders} if self.orders else {}
        for view in views if orders else ():
            view.keep_orders(orders)
        return sum([order_digest(revision, runs) for revision, runs in orders.items()])


def _dropped_count(past: Records, present: bytes | None, revision: bytes) -> int:
    """How many records of a key, from the oldest one on, no read at `revision` or later sees."""
    count = 0
    # From the oldest one on: those that are passed here are dropped now, so they are passed once.
    for record in past:
        if mod_bytes_of(record) > revision:
            break
        count += 1
    if present is not None and mod_bytes_of(present) <= revision:
        return count
    # The last one is what a read at `revision` sees. A tombstone shows as much as no record.
    return count - 1 if count and not is_tombstone(past[count - 1]) else count


# ------------------------------------------------------------ the order of changes


def runs_of(keys: tuple[bytes, ...]) -> Runs:
    """The order of keys, as runs of their ascending order: start, length, start, length; none if ascending.

    A delete of a million keys is one run or a few, wherever its keys stand among the others of a txn.
    """
    ascending = sorted(keys)
    if list(keys) == ascending:
        return ()
    runs: list[int] = []
    places = {key: place for place, key in enumerate(ascending)}
    start = end = places[keys[0]]
    for key in keys:
        place = places[key]
        if place != end:
            runs += (start, end - start)
            start = place
        end = place + 1
    return (*runs, start, end - start)


def in_order(ascending: tuple[bytes, ...], runs: Runs) -> tuple[bytes, ...] | None:
    """The keys in the order of which these are the runs; None if there is no such order."""
    keys: list[bytes] = []
    for start, length in zip(runs[::2], runs[1::2], strict=False):
        if len(keys) + length > len(ascending):
            return None
        keys += ascending[start : start + length]
    ordered = tuple(keys)
    return ordered if tuple(sorted(ordered)) == ascending and runs_of(ordered) == runs else None


def order_digest(revision: int, runs: Runs) -> int:
    """The digest of a revision's order of changes; 0 if they are in the order of their keys."""
    if not runs:
        return 0
    data = b"".join([number.to_bytes(8, "big") for number in (revision, *runs)])
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES, person=b"order").digest(), "big")
