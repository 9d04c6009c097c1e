"""The log as the core sees it: storage's durable part and the unstable end as one (paper, section 5.3).

Invariants:

- `applied <= applying <= committed <= last_index()`.
- A committed entry is never replaced.
- Each entry is handed out for applying once: `applying` is what was handed out, `applied` what was
  acknowledged. With asynchronous storage writes, only durable entries are handed out.
"""

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from raftkv_trio.raft import texts
from raftkv_trio.raft.errors import Compacted, InvalidMessage, InvalidState, LogError, Unavailable
from raftkv_trio.raft.storage import ENTRY_OVERHEAD_BYTES, Storage, entries_size, limit_size
from raftkv_trio.raft.types import Entry, Snapshot
from raftkv_trio.raft.unstable import Unstable


class RaftLog:
    """One node's log.

    Attributes:
        committed: the highest index known to be committed.
        applying: the highest index handed out for applying.
        applied: the highest index acknowledged as applied.
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
        # What storage has compacted is in its snapshot, so it was committed and applied.
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
        """The index of the first entry that the log still has, or would have: the log may be empty."""
        # A snapshot that is being installed replaces everything in storage, so it counts already.
        snapshot = self.unstable.snapshot
        return snapshot.index + 1 if snapshot else self.storage.first_index()

    def last_index(self) -> int:
        """The index of the last entry, or of the snapshot if no entry follows it."""
        last = self.unstable.last_index()
        return self.storage.last_index() if last is None else last

    def term(self, index: int) -> int:
        """Term at `index`, from `first_index() - 1` on; raises Compacted or Unavailable."""
        # First the unstable end: while a write that replaces entries is under way, storage has the old ones.
        term = self.unstable.term(index)
        if term is not None:
            return term
        if index + 1 < self.first_index():
            raise Compacted(f"entry {index} is compacted; the first one is {self.first_index()}")
        if index > self.last_index():
            raise Unavailable(f"entry {index} is not in the log; the last one is {self.last_index()}")
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """Term at `index`; 0 if it is not in the log, or compacted."""
        try:
            return self.term(index)
        except LogError:
            return 0

    def last_term(self) -> int:
        """The term at `last_index()`, which a vote compares (paper, section 5.4.1)."""
        return self.term(self.last_index())

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` has `term`; False if it is not in the log, or compacted."""
        try:
            return self.term(index) == term
        except LogError:
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends in `(term, index)` is at least as up-to-date as this (section 5.4.1)."""
        # The term decides first. A longer log of an earlier term may hold entries that were never committed,
        # while entries of the later term may be.
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index())

    def slice(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        """Entries of `low <= index < high`, at most `max_bytes` of them but at least one entry.

        Raises Compacted below the first index, Unavailable above the last one.
        """
        if low >= high:
            return ()
        if low < self.first_index():
            raise Compacted(f"entry {low} is compacted; the first one is {self.first_index()}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is not in the log; the last one is {self.last_index()}")
        # No more entries can fit. To look at all that follow would cost more with each entry that a follower
        # lacks, for each message to it.
        if max_bytes is not None:
            high = min(high, low + max_bytes // ENTRY_OVERHEAD_BYTES + 1)
        # Up to `offset` from storage, from there on from memory, for the same reason as in `term`.
        offset = self.unstable.offset
        if low >= offset:
            return limit_size(self.unstable.slice(low, high), max_bytes)
        stable_high = min(high, offset)
        stable = self.storage.entries(low, stable_high, max_bytes)
        # If storage stopped at `max_bytes`, entries from memory would leave a gap.
        if high <= offset or len(stable) < stable_high - low:
            return stable
        return limit_size([*stable, *self.unstable.slice(offset, high)], max_bytes)

    def entries_from(
        self, low: int, max_bytes: int | None, max_entries: int | None = None
    ) -> Sequence[Entry]:
        """Entries from `low` to the end of the log, at most so many, but at least one."""
        high = self.last_index() + 1
        if max_entries is not None:
            high = min(high, low + max_entries)
        return self.slice(low, high, max_bytes)

    def pages(self, low: int, high: int, page_bytes: int) -> Iterator[Sequence[Entry]]:
        """Entries of `low <= index < high` in pieces of about `page_bytes`."""
        # Each page has at least one entry, so this ends.
        while low < high:
            page = self.slice(low, high, page_bytes)
            yield page
            low += len(page)

    def snapshot(self) -> Snapshot:
        """The newest snapshot; raises SnapshotTemporarilyUnavailable."""
        return self.unstable.snapshot or self.storage.snapshot()

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The last entry at or before `index` whose term is at most `term`, as `(index, term)`.

        Leader and follower use it after a refused append to skip whole terms (paper, end of section 5.3). A
        term of 0 means that the entry is compacted or not in the log: the two logs may agree there.
        """
        # Terms never decrease along a log. So if another log has `term` at `index`, entries of ours at or
        # before `index` with a later term cannot be in that log.
        first = self.first_index() - 1  # the first index whose term is known
        if not first <= index <= self.last_index():
            return index, 0
        if (own := self.term(index)) <= term:
            return index, own
        if (own := self.term(first)) > term:
            return max(first - 1, 0), 0
        # By halves, not one by one: `term` is of a peer, and may be that of the beginning of a long log.
        found = bisect_right(range(first, index), term, key=self.term) - 1 + first
        return found, self.term(found)

    # ---------------------------------------------------------------- writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Append `entries` behind their predecessor, which is in the log, and drop what followed it."""
        if entries:
            self.unstable.truncate_and_append(entries)

    def maybe_append(
        self, previous_index: int, previous_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        """Append a leader's `entries` if this log has their predecessor (Log Matching, section 5.3).

        Returns:
            The index of the last of `entries`; None if their predecessor is not in this log.

        Raises:
            InvalidMessage: the entries contradict committed ones, or `commit` is beyond the log.
        """
        # The induction step of Log Matching: the logs agree up to the predecessor, so after this they agree
        # up to the last new entry.
        if not self.matches(previous_index, previous_term):
            return None
        last_new = previous_index + len(entries)
        conflict = self._first_new(entries)
        if conflict is not None:
            # No correct leader can cause this (State Machine Safety, section 5.4.3). A wrong one must not
            # make this node drop what it may have applied.
            if conflict <= self.committed:
                raise InvalidMessage(
                    f"entry {conflict} conflicts with a committed one (commit {self.committed})"
                )
            # Only from the first conflict on. Entries that are here already stay, and so do those behind
            # them: an old append, overtaken by a longer one, must not cut off what this node has
            # acknowledged.
            self.append(entries[conflict - previous_index - 1 :])
        # Up to the last new entry at most (figure 2): what follows it in this log is not known to be the
        # leader's.
        self.commit_to(min(commit, last_new))
        return last_new

    def _first_new(self, entries: Sequence[Entry]) -> int | None:
        """The index of the first of `entries` that this log does not have; None if it has them all."""
        last = self.last_index()
        for entry in entries:
            # Behind the end of the log there is nothing to conflict with.
            if entry.index > last:
                return entry.index
            if not self.matches(entry.index, entry.term):
                existing = self.term_or_zero(entry.index)
                self._logger.info(texts.FOUND_CONFLICT, entry.index, existing, entry.term)
                return entry.index
        return None

    def commit_to(self, index: int) -> None:
        """Mark everything up to `index` as committed; raises InvalidMessage beyond the end of the log."""
        # Never backwards: a leader that does not know our whole log tells a lower index.
        if index > self.committed:
            if index > self.last_index():
                raise InvalidMessage(
                    f"commit index {index} is beyond the end of the log, {self.last_index()}"
                )
            self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if that entry is of `term`, the leader's own (paper, section 5.4.2)."""
        # The entries before it may be of any term: by Log Matching the quorum has them too.
        if index > self.committed and self.matches(index, term):
            self.committed = index
            return True
        return False

    def restore(self, snapshot: Snapshot) -> None:
        """Drop the whole log and start again behind `snapshot`."""
        # A snapshot holds committed entries only. The caller has checked that it is ahead of our commit
        # index.
        self._logger.info(texts.LOG_RESTORES, self, snapshot.index, snapshot.term)
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # ---------------------------------------------------------------- applying

    def _max_appliable(self, allow_unstable: bool) -> int:
        # Without `allow_unstable`, only durable entries: the applier does not wait for the log writer, and
        # after a crash the state machine, or a snapshot of it, could be ahead of the log.
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether there are entries to hand out for applying."""
        return (
            self.applying < self._max_appliable(allow_unstable)
            and not self._applying_paused
            # The state machine is about to be replaced. Entries behind the snapshot come after it.
            and self.unstable.snapshot is None
        )

    def next_committed(self, allow_unstable: bool) -> tuple[Entry, ...]:
        """Committed entries that were not handed out yet, as many as the limit of bytes allows."""
        if not self.has_next_committed(allow_unstable):
            return ()
        room = self._max_applying_bytes - self._applying_bytes
        return tuple(self.slice(self.applying + 1, self._max_appliable(allow_unstable) + 1, room))

    def accept_applying(self, entries: Sequence[Entry], allow_unstable: bool) -> None:
        """Mark `entries` as handed out, and pause if the limit of bytes is reached."""
        self.applying = entries[-1].index
        self._applying_bytes += entries_size(entries)
        # If more entries could be applied but were not handed out, the limit has cut them off. Without the
        # pause, they would follow one by one, since `slice` always returns one entry.
        self._applying_paused = (
            self._applying_bytes >= self._max_applying_bytes
            or self.applying < self._max_appliable(allow_unstable)
        )

    def applied_to(self, index: int, size_bytes: int) -> None:
        """Mark everything up to `index` as applied; raises InvalidState if that contradicts the log.

        `size_bytes`: how many of the bytes that were handed out this acknowledges.
        """
        if not self.applied <= index <= self.committed:
            raise InvalidState(f"cannot have applied {index}: {self}")
        self.applied = index
        # A snapshot applies entries that were never handed out.
        self.applying = max(self.applying, index)
        self._applying_bytes = max(0, self._applying_bytes - size_bytes)
        self._applying_paused = self._applying_bytes >= self._max_applying_bytes
