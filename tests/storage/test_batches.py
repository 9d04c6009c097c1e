"""Whatever batches were written: a restart has them all; a log cut short is refused, or ends between two."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.storage import NodeStorage
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.batches import Author, Batch, Held, batches, held
from tests.storage.test_crash_points import DATA, reopen

WAL = DATA / "wal"
lives = st.lists(st.tuples(st.lists(batches, max_size=8), st.booleans()), min_size=1, max_size=4)


def plain(do: str, *, back: int = 0, count: int = 0, size_bytes: int = 20) -> Batch:
    return Batch(do=do, back=back, count=count, size_bytes=size_bytes, later=0, tells=False)


def committed(index: int) -> Batch:
    """That everything up to `index` is committed, where nothing was before."""
    return plain("vote", count=index)


FOUR = plain("append", count=4)  # from index 2 on, of which 2, 4 and 5 are conf changes
LARGE = plain("append", count=1, size_bytes=1500)  # of which a segment has room for two


@given(lives)
@example([([FOUR, committed(2)], False)]).via("the first of several conf changes")
@example([([FOUR, plain("append", back=3, count=1), committed(2)], False)]).via("the others overwritten")
@example([([FOUR], False), ([committed(2)], False)]).via("behind a restart")
@example([([FOUR, committed(3)], False), ([committed(1)], False)]).via("behind a restart, the second one")
@example([([FOUR, plain("take a snapshot", back=2), committed(4)], False)]).via("behind a snapshot")
@example([([plain("install", count=3), committed(5)], False)]).via("behind a leader's snapshot")
@example([([FOUR, LARGE, LARGE, LARGE, committed(2)], False)]).via("in another segment")
@example([([LARGE, LARGE, plain("append", count=1, size_bytes=700), committed(1)], True)]).via("no room")
@settings(max_examples=200, deadline=None)
def test_any_batches_are_there_after_a_restart(lives: Sequence[tuple[Sequence[Batch], bool]]) -> None:
    """Entries, overwritten ends, hard states and snapshots, over clean and other ends of the process."""
    disk, author = SimulatedDisk(random.Random(1)), Author()
    storage = reopen(disk)
    for written, clean in lives:
        for batch in written:
            author.do(storage, batch)
        may_hold = author.close(storage, clean=clean)
        if not clean:
            disk.lose_power()
        storage = reopen(disk)
        author = Author(held(storage))
        assert author.held in may_hold


def live(written: Sequence[Batch], *, clean: bool) -> tuple[SimulatedDisk, list[Held]]:
    """A directory after these batches, and what it held after each of them."""
    disk, author = SimulatedDisk(random.Random(1)), Author()
    storage = reopen(disk)
    storage.remember_key(2, b"directory of two")
    states = [author.held]
    for batch in written:
        author.do(storage, batch)
        states.append(author.held)
    may_hold = author.close(storage, clean=clean)
    end = held(reopen(copy(disk)))
    assert end in may_hold
    return disk, [*states, end]


def copy(disk: SimulatedDisk, cut: Path | None = None, size_bytes: int = 0) -> SimulatedDisk:
    """A copy of a directory, maybe with one file cut short."""
    other = SimulatedDisk(random.Random(1))
    for path, data in disk.files(DATA).items():
        other.make_directory(path.parent)
        file = other.open(path, create=True)
        file.write_at(0, data[:size_bytes] if path == cut else data)
        file.datasync()
        file.close()
        for directory in path.parents:
            other.sync_directory(directory)
    return other


def open_copy(disk: SimulatedDisk, path: Path, size_bytes: int, states: Sequence[Held]) -> bool:
    """Open a copy with a file cut short, and go on with it; whether it could be opened."""
    other = copy(disk, path, size_bytes)
    try:
        storage = reopen(other)
        author = Author(held(storage))
    except (ConfigError, CorruptLog):
        return False
    may_hold = states if path.parent == WAL else states[-1:]
    assert author.held in may_hold, f"{path}, cut after {size_bytes} bytes"
    go_on(author, storage)
    other.lose_power()
    assert held(reopen(other)) == author.held
    return True


def go_on(author: Author, storage: NodeStorage) -> None:
    for do in ("append", "take a snapshot", "tidy", "append"):
        author.do(storage, Batch(do=do, back=1, count=3, size_bytes=600, later=1, tells=True))


@given(st.lists(batches, max_size=10), st.booleans(), st.data())
@settings(max_examples=300, deadline=None)
def test_any_file_cut_anywhere_is_missed_or_ends_between_batches(
    written: Sequence[Batch], clean: bool, data: st.DataObject
) -> None:
    """The log may end after an earlier batch; with any other file cut short nothing is missing."""
    disk, states = live(written, clean=clean)
    path, content = data.draw(st.sampled_from(sorted(disk.files(DATA).items())))
    used_bytes = len(content.rstrip(b"\0"))
    open_copy(disk, path, data.draw(st.integers(0, used_bytes)), states)


WRITTEN = [
    Batch(do=do, back=back, count=count, size_bytes=size_bytes, later=later, tells=True)
    for do, back, count, size_bytes, later in (
        ("append", 0, 3, 20, 1),
        ("append", 2, 2, 20, 1),
        ("take a snapshot", 2, 2, 20, 0),
        ("append", 0, 2, 1500, 0),
        ("append", 0, 2, 300, 1),
        ("install", 0, 2, 20, 1),
        ("append", 1, 2, 20, 1),
    )
]


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.long)])
def test_every_file_cut_at_every_byte_is_missed_or_ends_between_batches(step: int) -> None:
    """The same for a log of two segments, and all else in its directory, cut everywhere."""
    disk, states = live(WRITTEN, clean=True)
    assert len([path for path in disk.files(WAL) if path.suffix == ".wal"]) == 2
    opened = refused = 0
    for path, content in disk.files(DATA).items():
        for size_bytes in range(0, len(content.rstrip(b"\0")) + 1, step):
            if open_copy(disk, path, size_bytes, states):
                opened += 1
            else:
                refused += 1
    print(f"{opened + refused} cuts: {opened} opened, {refused} refused")
    assert opened > 100 // step
    assert refused > 1000 // step
