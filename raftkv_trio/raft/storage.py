"""The log that is durable already: the port through which the core reads it, and its form in memory.

The core never writes here. Whoever makes entries durable appends them to the `MemoryStorage` before it
delivers the responses of that write; until then the core keeps them itself (`unstable.py`).
"""

from collections.abc import Sequence
from typing import Protocol

from raftkv_trio.raft.errors import Compacted, InvalidState, SnapshotOutOfDate, Unavailable
from raftkv_trio.raft.types import ConfState, Entry, HardState, Snapshot

#: What an entry counts beside its data, where bytes are limited: about its header on the wire.
ENTRY_OVERHEAD_BYTES = 16


def entries_size(entries: Sequence[Entry]) -> int:
    """Bytes of `entries`, data and headers, as the limits on messages and Readys count them."""
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)


def payloads_size(entries: Sequence[Entry]) -> int:
    """Bytes of the data of `entries`; an empty entry counts nothing."""
    return sum([len(entry.data) for entry in entries])


def limit_size(entries: Sequence[Entry], max_bytes: int | None) -> Sequence[Entry]:
    """The longest beginning of `entries` of at most `max_bytes`, but never less than one entry."""
    if max_bytes is None or len(entries) <= 1 or entries_size(entries) <= max_bytes:
        return entries
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if size > max_bytes and count:
            return entries[:count]
    return entries


class Storage(Protocol):
    """The durable log behind a core; indexes count from `first_index()` to `last_index()`, both included.

    The entry before the first one is known by its term only: it is the last one of the snapshot.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Hard state as last saved, and the configuration at the applied index."""
        ...

    def entries(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        """Entries of `low <= index < high`, cut after `max_bytes` but at least one.

        Raises Compacted below the first index, Unavailable above the last one.
        """
        ...

    def term(self, index: int) -> int:
        """Term of the entry at `index`, from `first_index() - 1` on; raises Compacted or Unavailable."""
        ...

    def first_index(self) -> int:
        """Index of the first entry that is kept."""
        ...

    def last_index(self) -> int:
        """Index of the last entry; if there is none, that of the snapshot."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot; raises SnapshotTemporarilyUnavailable while it is being made.

        Its `conf_state` is the one in force at its index, never a newer one. It can be sent to nobody who is
        not a member in it: storage that keeps an old one has to make a newer one for a new member.
        """
        ...


class MemoryStorage(Storage):
    """A log in memory behind a snapshot; the node keeps here what its log writer has made durable."""

    def __init__(
        self,
        snapshot: Snapshot | None = None,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self._snapshot = snapshot or Snapshot()
        self._hard_state = hard_state or HardState()
        # the entry before the first one that is kept: compacted, or the snapshot's last
        self._base_index, self._base_term = self._snapshot.index, self._snapshot.term
        self._entries: list[Entry] = []
        self.append(entries)

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.conf_state

    def entries(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        base = self._base_index
        if low <= base:
            raise Compacted(f"entry {low} is compacted; the first one is {base + 1}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is not in the log; the last one is {self.last_index()}")
        return limit_size(self._entries[low - base - 1 : high - base - 1], max_bytes)

    def term(self, index: int) -> int:
        offset = index - self._base_index
        if offset == 0:
            return self._base_term
        if offset < 0:
            raise Compacted(f"entry {index} is compacted; the first one is {self._base_index + 1}")
        if offset > len(self._entries):
            raise Unavailable(f"entry {index} is not in the log; the last one is {self.last_index()}")
        return self._entries[offset - 1].term

    def first_index(self) -> int:
        return self._base_index + 1

    def last_index(self) -> int:
        return self._base_index + len(self._entries)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state, which `initial_state` returns from now on."""
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Append consecutive `entries`, replacing what was there from the first one's index on.

        What is compacted already is skipped. Raises InvalidState where a gap would open.
        """
        if not entries:
            return
        skip = self._base_index + 1 - entries[0].index
        if skip > 0:
            entries = entries[skip:]
            if not entries:
                return
        offset = entries[0].index - self._base_index - 1
        if offset > len(self._entries):
            raise InvalidState(f"entry {entries[0].index} does not follow the last one, {self.last_index()}")
        del self._entries[offset:]
        self._entries.extend(entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by `snapshot`; raises SnapshotOutOfDate where it is older than the one here."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(
                f"a snapshot at {snapshot.index} cannot replace the one at {self._snapshot.index}"
            )
        self._snapshot = snapshot
        self._base_index, self._base_term = snapshot.index, snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Make `data`, the state right after `index`, the newest snapshot; the log stays until `compact`.

        Raises SnapshotOutOfDate where a newer one exists, Unavailable beyond the end of the log.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"a snapshot at {index} is older than the one at {self._snapshot.index}")
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forget all entries up to and including `index`.

        Raises Compacted where that has happened, Unavailable beyond the end of the log.
        """
        if index <= self._base_index:
            raise Compacted(f"entry {index} is compacted already")
        term = self.term(index)
        del self._entries[: index - self._base_index]
        self._base_index, self._base_term = index, term
