"""The end of the log that is not known to be durable yet, and the snapshot that is being installed.

`entries[i]` has index `offset + i`. Everything before `in_progress` has been handed out to be written.

Between handing out and the answer of storage, entries may be overwritten. So an answer counts only if the
entry that it names is still here, with its index and its term. Against the case that it was overwritten and
then written again (the ABA trap), `RawNode._storage_append_response` adds the term of the node.
"""

import logging
from collections.abc import Sequence

from raftkv_trio.raft import texts
from raftkv_trio.raft.types import Entry, Snapshot


class Unstable:
    """Entries and at most one snapshot on their way to storage."""

    __slots__ = ("_logger", "entries", "in_progress", "offset", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int, logger: logging.Logger) -> None:
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self.entries: list[Entry] = []
        self.offset = offset
        self.in_progress = offset
        self._logger = logger

    def last_index(self) -> int | None:
        """Index of the last entry, or of the snapshot; None if there is neither."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot else None

    def term(self, index: int) -> int | None:
        """Term at `index`; None if neither an entry nor the snapshot has that index."""
        # Entries begin behind the snapshot, so only one of the two can have this index.
        position = index - self.offset
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        if self.snapshot and self.snapshot.index == index:
            return self.snapshot.term
        return None

    def slice(self, low: int, high: int) -> list[Entry]:
        """Entries of `low <= index < high`; the caller knows that all of them are here."""
        return self.entries[low - self.offset : high - self.offset]

    def next_entries(self) -> tuple[Entry, ...]:
        """Entries that were not handed out yet."""
        return tuple(self.entries[self.in_progress - self.offset :])

    @property
    def has_next_entries(self) -> bool:
        """Whether there are entries that were not handed out for writing yet."""
        return self.offset + len(self.entries) > self.in_progress

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, unless it was handed out already."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept(self) -> None:
        """Mark everything here as handed out."""
        # It stays here: until it is durable, storage cannot return it.
        self.in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, index: int, term: int) -> None:
        """Drop the entries up to `(term, index)`, which are durable. Ignored if that entry is gone."""
        # Writes are made durable in order, so with the last entry of a write all earlier ones are durable
        # too.
        found = self.term(index)
        if found is None:
            # It was truncated, or an answer for more entries came before this one.
            self._logger.info(texts.STABLE_ENTRY_MISSING, index)
        elif index < self.offset:
            # A snapshot has replaced the log since. Its own response says when it is durable.
            self._logger.info(texts.STABLE_ENTRY_IN_SNAPSHOT, index)
        elif found != term:
            # It was overwritten while it was being written. The write of the new entry is still to come.
            self._logger.info(texts.STABLE_ENTRY_MISMATCHED, index, term, index, found)
        else:
            del self.entries[: index + 1 - self.offset]
            self.offset = index + 1
            self.in_progress = max(self.in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """Drop the snapshot at `index`, which is installed; ignored if another one is here."""
        # A newer snapshot may have come while the older one was being installed.
        if self.snapshot and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Drop all entries; the log starts again behind `snapshot`."""
        # Entries that are being written right now are void as well: the snapshot's write comes after theirs
        # and replaces the whole stored log.
        self.offset = self.in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Append `entries` and drop everything that was here from the index of the first one on."""
        first = entries[0].index
        if first == self.offset + len(self.entries):
            # The usual case: nothing is replaced.
            self.entries.extend(entries)
        elif first <= self.offset:
            # All entries here are replaced, and perhaps durable ones. From `first` on, what storage holds is
            # no longer the log, so `offset` moves back: reads of those indexes must not reach storage.
            self._logger.info(texts.REPLACE_UNSTABLE, first)
            self.entries = list(entries)
            self.offset = self.in_progress = first
        else:
            self._logger.info(texts.TRUNCATE_UNSTABLE, first)
            del self.entries[first - self.offset :]
            self.entries.extend(entries)
            # The replaced ones may have been handed out; their replacements were not.
            self.in_progress = min(self.in_progress, first)
