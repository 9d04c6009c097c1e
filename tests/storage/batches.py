"""Any sequence of what a log writer has written, as hypothesis makes it, and what must be there after it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from raftkv_trio.raft.types import Entry, EntryType, HardState
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.storage.snapshot_file import SnapshotFile
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.test_crash_points import DATA, VOTERS


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One thing to do, in numbers that fit whatever was done before it.

    Attributes:
        do: what; of `DEEDS`.
        back: how far before the log's end it begins.
        count: of entries, or of a snapshot's chunks.
        size_bytes: of each of them.
        later: by how much the term grows.
        tells: whether a hard state comes with it.
    """

    do: str
    back: int
    count: int
    size_bytes: int
    later: int
    tells: bool


BOOTSTRAPPED = SnapshotId(1, 1)


@dataclass(frozen=True)
class Held:
    """What a directory holds; in `commit` the index that the last record tells of."""

    vote: tuple[int, int | None] = (0, None)
    commit: int = 0
    snapshot: SnapshotId = BOOTSTRAPPED
    entries: tuple[Entry, ...] = ()
    chunks: tuple[bytes, ...] = ()

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.snapshot.index

    def after(self, first: int, entries: tuple[Entry, ...]) -> "Held":
        return replace(self, entries=(*[e for e in self.entries if e.index < first], *entries))


def held(storage: NodeStorage) -> Held:
    return Held(
        vote=storage.hard_state[:2],
        commit=storage.hard_state.commit,
        snapshot=storage.snapshot.id,
        entries=tuple(storage.take_entries()),
        chunks=tuple(storage.snapshot_chunks(storage.snapshot.id)),
    )


class Author:
    """Does batches on a directory, and knows what it holds.

    Attributes:
        held: what is there if the process ends now.
        commit: told, but not in any record yet.
    """

    def __init__(self, held: Held | None = None) -> None:
        self.held = held or Held()
        self.commit = self.held.commit

    def do(self, storage: NodeStorage, batch: Batch) -> None:
        DEEDS[batch.do](self, storage, batch)

    def close(self, storage: NodeStorage, *, clean: bool) -> tuple[Held, ...]:
        """Close it; what it may hold: a closing record, if there is room for one, tells the commit index."""
        storage.close(clean=clean)
        return (self.held, replace(self.held, commit=self.commit)) if clean else (self.held,)

    def _append(self, storage: NodeStorage, batch: Batch) -> None:
        first = max(self.held.snapshot.index + 1, self.held.last_index + 1 - batch.back)
        hard_state, entries = self._hard_state(batch), self._entries(first, batch)
        storage.append(hard_state, entries)
        if entries:
            self.held = self.held.after(first, entries)
        self._told(hard_state, is_written=bool(entries) or self._is_new(hard_state))

    def _vote(self, storage: NodeStorage, batch: Batch) -> None:
        hard_state = HardState(self.held.vote[0] + batch.later, batch.back or None, self.commit + batch.count)
        storage.append(hard_state, ())
        self._told(hard_state, is_written=self._is_new(hard_state))

    def _take_snapshot(self, storage: NodeStorage, batch: Batch) -> None:
        index = self.held.last_index - batch.back
        if index <= self.held.snapshot.index:
            return
        term = next(e.term for e in self.held.entries if e.index == index)
        meta, chunks = SnapshotMeta(index, term, VOTERS), chunks_of(batch)
        file = storage.begin_snapshot(meta, b"\xa0")
        file.write(chunks)
        file.finish()
        storage.continue_from(meta)
        rest = tuple([e for e in self.held.entries if e.index > index])
        self.held = replace(self.held, snapshot=meta.id, entries=rest, chunks=chunks, commit=self.commit)

    def _install(self, storage: NodeStorage, batch: Batch) -> None:
        index = max(self.held.snapshot.index + 1, self.held.last_index + 3 - batch.back)
        meta = SnapshotMeta(index, self.held.vote[0] + 1 + batch.later, VOTERS)
        data = snapshot_bytes(meta, chunks_of(batch))
        incoming = storage.receive_snapshot(meta.id, len(data))
        incoming.write(data[incoming.offset :])
        incoming.finish(meta)
        hard_state, entries = self._hard_state(batch), self._entries(index + 1, batch)
        storage.install(hard_state, meta.id, entries)
        self.held = replace(self.held, snapshot=meta.id, entries=entries, chunks=chunks_of(batch))
        self._told(hard_state, is_written=True)

    def _tidy(self, storage: NodeStorage, batch: Batch) -> None:
        storage.tidy()

    def _hard_state(self, batch: Batch) -> HardState | None:
        if not batch.tells:
            return None
        return HardState(self.held.vote[0] + batch.later, batch.later or None, self.commit + batch.count)

    def _entries(self, first: int, batch: Batch) -> tuple[Entry, ...]:
        term = max(self.held.vote[0], 1) + batch.later
        kinds = list(EntryType)
        return tuple(
            [
                Entry(term, index, kinds[index % len(kinds)], bytes([index % 256]) * batch.size_bytes)
                for index in range(first, first + batch.count)
            ]
        )

    def _is_new(self, hard_state: HardState | None) -> bool:
        """Whether it is more than a commit index, which has a record of its own for a conf change only."""
        if hard_state is None:
            return False
        settled = max(self.held.commit, self.held.snapshot.index)
        changes = [e.index for e in self.held.entries if e.type is not EntryType.NORMAL and e.index > settled]
        return hard_state[:2] != self.held.vote or (bool(changes) and hard_state.commit >= changes[0])

    def _told(self, hard_state: HardState | None, *, is_written: bool) -> None:
        if hard_state is not None:
            self.commit = hard_state.commit
        if is_written:
            vote = self.held.vote if hard_state is None else hard_state[:2]
            self.held = replace(self.held, vote=vote, commit=self.commit)


DEEDS: dict[str, Callable[[Author, NodeStorage, Batch], None]] = {
    "append": Author._append,
    "vote": Author._vote,
    "take a snapshot": Author._take_snapshot,
    "install": Author._install,
    "tidy": Author._tidy,
}

batches = st.builds(
    Batch,
    do=st.sampled_from([*DEEDS, "append", "append"]),
    back=st.integers(0, 5),
    count=st.integers(0, 4),
    size_bytes=st.sampled_from([0, 1, 20, 300, 1500]),
    later=st.integers(0, 2),
    tells=st.booleans(),
)


def chunks_of(batch: Batch) -> tuple[bytes, ...]:
    return tuple([bytes([number + 1]) * (batch.size_bytes + 1) for number in range(batch.count)])


def snapshot_bytes(meta: SnapshotMeta, chunks: tuple[bytes, ...]) -> bytes:
    """What a leader sends of a snapshot."""
    disk = SimulatedDisk(random.Random(1))
    disk.make_directory(DATA)
    file = SnapshotFile(disk, DATA, meta, b"\xa0")
    file.write(chunks)
    path = file.finish()
    return disk.files(DATA)[path]
