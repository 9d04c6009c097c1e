"""The durable part of the log: the port through which the core reads it, and an implementation in memory.

The core never writes here. The log writer makes entries durable, then the driver appends them to the
`MemoryStorage`, then it delivers the responses of that write. Until then the core keeps the entries itself
(`unstable.py`).
"""

from collections.abc import Sequence
from typing import Protocol

from raftkv_trio.raft.errors import (
    Compacted,
    InvalidState,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    Unavailable,
)
from raftkv_trio.raft.types import ConfState, Entry, HardState, Snapshot

#: What an entry counts besides its data when bytes are limited: about the size of its header on the wire.
ENTRY_OVERHEAD_BYTES = 16
_BLOCK_ENTRIES = 1024


def entries_size(entries: Sequence[Entry]) -> int:
    """Bytes of `entries`, data and headers, as the limits of messages and Readys count them."""
    return sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)


def payloads_size(entries: Sequence[Entry]) -> int:
    """Bytes of the data of `entries`; an empty entry counts 0."""
    return sum([len(entry.data) for entry in entries])


def limit_size(entries: Sequence[Entry], max_bytes: int | None) -> Sequence[Entry]:
    """The first of `entries`, as many as fit into `max_bytes`, but at least one."""
    if max_bytes is None or len(entries) <= 1:
        return entries
    size = 0
    # In blocks: the log of a start may have a million entries, of which few fit.
    for begin in range(0, len(entries), _BLOCK_ENTRIES):
        block = entries[begin : begin + _BLOCK_ENTRIES]
        block_bytes = entries_size(block)
        if size + block_bytes > max_bytes:
            break
        size += block_bytes
    else:
        return entries
    for count, entry in enumerate(block, begin):
        size += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if size > max_bytes and count:
            return entries[:count]
    return entries


class Storage(Protocol):
    """The durable log of a core, from `first_index()` to `last_index()`, both included.

    Of the entry before the first one, the last one that the snapshot covers, only the term is known.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state as saved last, and the configuration at the applied index."""
        ...

    def entries(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        """Entries of `low <= index < high`, at most `max_bytes` of them but at least one entry.

        Raises Compacted below the first index, Unavailable above the last one.
        """
        ...

    def term(self, index: int) -> int:
        """Term of the entry at `index`, from `first_index() - 1` on; raises Compacted or Unavailable."""
        ...

    def first_index(self) -> int:
        """The index of the first entry, or of the next one to be appended if there is none."""
        ...

    def last_index(self) -> int:
        """The index of the last entry, or of the snapshot if there is none."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot, which the log continues: no entry between them is compacted.

        Raises SnapshotTemporarilyUnavailable while there is none. Its `conf_state` is the one in force at its
        index, never a newer one. The core sends it only to nodes that are members in it. So for a new member,
        storage has to make a newer snapshot.
        """
        ...


class MemoryStorage(Storage):
    """A log in memory. The node keeps here what its log writer has made durable."""

    def __init__(
        self,
        snapshot: Snapshot | None = None,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self._snapshot = snapshot or Snapshot()
        self._hard_state = hard_state or HardState()
        # The entry before the first one that is kept. Appends and votes compare its term.
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
        # A follower that restores this snapshot needs the entry behind it next. If that is compacted, it
        # would need a snapshot again, and so on for ever.
        if self._snapshot.index < self._base_index:
            raise SnapshotTemporarilyUnavailable(
                f"the snapshot at {self._snapshot.index} ends before the first entry, {self._base_index + 1}"
            )
        return self._snapshot

    @property
    def newest_snapshot(self) -> Snapshot:
        """The newest snapshot, even if entries right behind it are compacted."""
        return self._snapshot

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state, which `initial_state` returns from now on."""
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Append consecutive `entries`, in place of what was there from the index of the first one on.

        Entries that are compacted already are skipped. Raises InvalidState if there would be a gap.
        """
        # A write that began before this node took a snapshot may reach back behind it.
        if not entries:
            return
        skip = self._base_index + 1 - entries[0].index
        if skip > 0:
            entries = entries[skip:]
            if not entries:
                return
        offset = entries[0].index - self._base_index - 1
        # A gap means that a write was lost, or that writes were put in here in another order than they came.
        if offset > len(self._entries):
            raise InvalidState(f"entry {entries[0].index} does not follow the last one, {self.last_index()}")
        del self._entries[offset:]
        self._entries.extend(entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by `snapshot`; raises SnapshotOutOfDate if it is not newer than the one here."""
        # To go back would lose entries that are acknowledged.
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(
                f"a snapshot at {snapshot.index} cannot replace the one at {self._snapshot.index}"
            )
        self._snapshot = snapshot
        self._base_index, self._base_term = snapshot.index, snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Make `data`, the state right after `index`, the newest snapshot. The log stays until `compact`.

        Raises SnapshotOutOfDate if there is a newer one, Unavailable beyond the end of the log.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"a snapshot at {index} is older than the one at {self._snapshot.index}")
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drop all entries up to and including `index`.

        Raises Compacted if that was done before, Unavailable beyond the end of the log.
        """
        if index <= self._base_index:
            raise Compacted(f"entry {index} is compacted already")
        # The term of the last compacted entry is still needed, as that of the first one's predecessor.
        term = self.term(index)
        del self._entries[: index - self._base_index]
        self._base_index, self._base_term = index, term
