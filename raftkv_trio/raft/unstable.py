"""The end of the log that is not known to be durable yet, and the snapshot that is being installed.

`entries[i]` has index `offset + i`. Everything before `in_progress` has been handed out to be written; a
write counts only if the entry it ends with is still the one here, in index and in term: what was overwritten
meanwhile must not be taken for durable because a later entry stands at its index (the ABA trap).
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
        """Index of the last entry, or of the snapshot; None where there is neither."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot else None

    def term(self, index: int) -> int | None:
        """Term at `index`; None where it is not here."""
        position = index - self.offset
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        if self.snapshot and self.snapshot.index == index:
            return self.snapshot.term
        return None

    def slice(self, low: int, high: int) -> list[Entry]:
        """Entries of `low <= index < high`, which must all be here."""
        return self.entries[low - self.offset : high - self.offset]

    def next_entries(self) -> tuple[Entry, ...]:
        """Entries not handed out yet."""
        return tuple(self.entries[self.in_progress - self.offset :])

    @property
    def has_next_entries(self) -> bool:
        return self.offset + len(self.entries) > self.in_progress

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, unless it was handed out."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept(self) -> None:
        """All that is here has been handed out."""
        self.in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, index: int, term: int) -> None:
        """Everything up to entry `(term, index)` is durable; ignored if that entry is not here any more."""
        found = self.term(index)
        if found is None:
            self._logger.info(texts.STABLE_ENTRY_MISSING, index)
        elif index < self.offset:
            self._logger.info(texts.STABLE_ENTRY_IN_SNAPSHOT, index)
        elif found != term:
            self._logger.info(texts.STABLE_ENTRY_MISMATCHED, index, term, index, found)
        else:
            del self.entries[: index + 1 - self.offset]
            self.offset = index + 1
            self.in_progress = max(self.in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot at `index` is installed; ignored if it is not the one here."""
        if self.snapshot and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Forget all entries; the log begins behind `snapshot`."""
        self.offset = self.in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Append `entries`, replacing everything from the first one's index on."""
        first = entries[0].index
        if first == self.offset + len(self.entries):
            self.entries.extend(entries)
        elif first <= self.offset:
            self._logger.info(texts.REPLACE_UNSTABLE, first)
            self.entries = list(entries)
            self.offset = self.in_progress = first
        else:
            self._logger.info(texts.TRUNCATE_UNSTABLE, first)
            del self.entries[first - self.offset :]
            self.entries.extend(entries)
            self.in_progress = min(self.in_progress, first)
