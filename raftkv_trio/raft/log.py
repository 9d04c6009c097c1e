"""The log as the core sees it: storage's durable part and the unstable end as one (paper, section 5.3).

Invariants: `applied <= applying <= committed <= last_index()`; what is committed is never replaced. Entries
are handed out for applying only once: `applying` is what was handed out, `applied` what was acknowledged.
With asynchronous storage writes only durable entries are handed out.
"""

import logging
from collections.abc import Iterator, Sequence

from raftkv_trio.raft import texts
from raftkv_trio.raft.errors import Compacted, InvalidMessage, InvalidState, LogError, Unavailable
from raftkv_trio.raft.storage import Storage, entries_size, limit_size
from raftkv_trio.raft.types import Entry, Snapshot
from raftkv_trio.raft.unstable import Unstable


class RaftLog:
    """One node's log.

    Attributes:
        committed: highest index known to be on a quorum.
        applying: highest index handed out for applying.
        applied: highest index that was acknowledged as applied.
    """

    __slots__ = (
        "_applying_bytes",
        "_applying_paused",
        "_logger",
        "_max_applying_bytes",
        "applied",
        "applying",
        "committed",
        "storage",
        "unstable",
    )

    def __init__(self, storage: Storage, logger: logging.Logger, max_applying_bytes: int) -> None:
        first, last = storage.first_index(), storage.last_index()
        self.storage = storage
        self.unstable = Unstable(last + 1, logger)
        self.committed = self.applying = self.applied = first - 1
        self._logger = logger
        self._max_applying_bytes = max_applying_bytes
        self._applying_bytes = 0
        self._applying_paused = False

    def __str__(self) -> str:
        unstable = self.unstable
        return (
            f"committed={self.committed}, applied={self.applied}, applying={self.applying}, "
            f"unstable.offset={unstable.offset}, unstable.offsetInProgress={unstable.in_progress}, "
            f"len(unstable.Entries)={len(unstable.entries)}"
        )

    # ---------------------------------------------------------------- reading

    def first_index(self) -> int:
        snapshot = self.unstable.snapshot
        return snapshot.index + 1 if snapshot else self.storage.first_index()

    def last_index(self) -> int:
        last = self.unstable.last_index()
        return self.storage.last_index() if last is None else last

    def term(self, index: int) -> int:
        """Term at `index`, from the one before the first entry on; raises Compacted or Unavailable."""
        term = self.unstable.term(index)
        if term is not None:
            return term
        if index + 1 < self.first_index():
            raise Compacted(f"entry {index} is compacted; the first one is {self.first_index()}")
        if index > self.last_index():
            raise Unavailable(f"entry {index} is not in the log; the last one is {self.last_index()}")
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """Term at `index`; 0 where the log does not reach."""
        try:
            return self.term(index)
        except LogError:
            return 0

    def last_term(self) -> int:
        return self.term(self.last_index())

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is known and of `term`."""
        try:
            return self.term(index) == term
        except LogError:
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log ending in `(term, index)` is at least as good as this one (paper, section 5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index())

    def slice(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        """Entries of `low <= index < high`, cut after `max_bytes` but at least one.

        Raises Compacted below the first index, Unavailable above the last one.
        """
        if low >= high:
            return ()
        if low < self.first_index():
            raise Compacted(f"entry {low} is compacted; the first one is {self.first_index()}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is not in the log; the last one is {self.last_index()}")
        offset = self.unstable.offset
        if low >= offset:
            return limit_size(self.unstable.slice(low, high), max_bytes)
        stable_high = min(high, offset)
        stable = self.storage.entries(low, stable_high, max_bytes)
        if high <= offset or len(stable) < stable_high - low:
            return stable
        return limit_size([*stable, *self.unstable.slice(offset, high)], max_bytes)

    def entries_from(self, low: int, max_bytes: int | None) -> Sequence[Entry]:
        """Entries from `low` to the end of the log, cut after `max_bytes` but at least one."""
        return self.slice(low, self.last_index() + 1, max_bytes)

    def pages(self, low: int, high: int, page_bytes: int) -> Iterator[Sequence[Entry]]:
        """Entries of `low <= index < high` in pieces of about `page_bytes`."""
        while low < high:
            page = self.slice(low, high, page_bytes)
            yield page
            low += len(page)

    def snapshot(self) -> Snapshot:
        """The newest snapshot; raises SnapshotTemporarilyUnavailable."""
        return self.unstable.snapshot or self.storage.snapshot()

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The highest `(index, term)` up to `index` whose term is at most `term`.

        Both ends of a refused append use it to skip whole terms (paper, end of section 5.3). The term is 0
        where it is not known any more: the logs may agree there.
        """
        while index > 0:
            try:
                own = self.term(index)
            except LogError:
                return index, 0
            if own <= term:
                return index, own
            index -= 1
        return 0, 0

    # ---------------------------------------------------------------- writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Append `entries` behind their predecessor, which is here; replaces what follows it."""
        if entries:
            self.unstable.truncate_and_append(entries)

    def maybe_append(
        self, previous_index: int, previous_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        """Take over a leader's `entries` if this log has their predecessor (Log Matching, section 5.3).

        Returns the index of the last of them, or None where the predecessor does not match. Raises
        InvalidMessage where they contradict what is committed.
        """
        if not self.matches(previous_index, previous_term):
            return None
        last_new = previous_index + len(entries)
        conflict = self._first_new(entries)
        if conflict is not None:
            if conflict <= self.committed:
                raise InvalidMessage(
                    f"entry {conflict} conflicts with a committed one (commit {self.committed})"
                )
            self.append(entries[conflict - previous_index - 1 :])
        self.commit_to(min(commit, last_new))
        return last_new

    def _first_new(self, entries: Sequence[Entry]) -> int | None:
        """Index of the first of `entries` that this log does not have; None if it has them all."""
        last = self.last_index()
        for entry in entries:
            if entry.index > last:
                return entry.index
            if not self.matches(entry.index, entry.term):
                existing = self.term_or_zero(entry.index)
                self._logger.info(texts.FOUND_CONFLICT, entry.index, existing, entry.term)
                return entry.index
        return None

    def commit_to(self, index: int) -> None:
        """Everything up to `index` is committed; raises InvalidMessage beyond the end of the log."""
        if index > self.committed:
            if index > self.last_index():
                raise InvalidMessage(
                    f"commit index {index} is beyond the end of the log, {self.last_index()}"
                )
            self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if that entry is of `term`, the leader's own (paper, section 5.4.2)."""
        if index > self.committed and self.matches(index, term):
            self.committed = index
            return True
        return False

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew behind `snapshot`, which is committed."""
        self._logger.info(texts.LOG_RESTORES, self, snapshot.index, snapshot.term)
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # ---------------------------------------------------------------- applying

    def _max_appliable(self, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether `next_committed` has something."""
        return (
            self.applying < self._max_appliable(allow_unstable)
            and not self._applying_paused
            and self.unstable.snapshot is None  # it comes first
        )

    def next_committed(self, allow_unstable: bool) -> tuple[Entry, ...]:
        """Committed entries that were not handed out yet, within the limit of bytes outstanding."""
        if not self.has_next_committed(allow_unstable):
            return ()
        room = self._max_applying_bytes - self._applying_bytes
        return tuple(self.slice(self.applying + 1, self._max_appliable(allow_unstable) + 1, room))

    def accept_applying(self, entries: Sequence[Entry], allow_unstable: bool) -> None:
        """`entries` were handed out; pause when the limit is reached, or the next one would go over it."""
        self.applying = entries[-1].index
        self._applying_bytes += entries_size(entries)
        self._applying_paused = (
            self._applying_bytes >= self._max_applying_bytes
            or self.applying < self._max_appliable(allow_unstable)
        )

    def applied_to(self, index: int, size_bytes: int) -> None:
        """Everything up to `index` is applied, the last `size_bytes` of it just now; raises InvalidState."""
        if not self.applied <= index <= self.committed:
            raise InvalidState(f"cannot have applied {index}: {self}")
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_bytes = max(0, self._applying_bytes - size_bytes)
        self._applying_paused = self._applying_bytes >= self._max_applying_bytes
