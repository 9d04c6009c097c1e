"""Every bit of a small directory flipped, every file of it removed: it is refused, or nothing is lost."""

import random
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.restore import verify_backup
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import NodeStorage, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.test_crash_points import (
    DATA,
    VOTERS,
    append,
    chunks_at,
    held,
    install,
    reopen,
    snapshot_bytes,
    take_snapshot,
)

WAL, SNAP = DATA / "wal", DATA / "snap"
LARGE = Entry(3, 14, data=bytes([7]) * 3000)


def small_life() -> SimulatedDisk:
    """An install, batches, a snapshot and a cut: two segments, and the newest snapshot of three."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    for step, _ in (install(2, 10, 10), append(3, 11, 13), take_snapshot(3, 12)):
        step(storage)
    storage.append(HardState(3, 1, 13), [LARGE])
    storage.remember_key(2, b"directory of two")
    storage.close(clean=True)
    return disk


def flip(disk: SimulatedDisk, path: Path, bit: int) -> None:
    file = disk.open(path)
    (byte,) = file.read_at(bit // 8, 1)
    file.write_at(bit // 8, bytes([byte ^ 1 << bit % 8]))
    file.close()


def open_and_close(disk: SimulatedDisk) -> object:
    storage: NodeStorage = reopen(disk)
    try:
        return held(storage), storage.known_keys
    finally:
        storage.close(clean=False)


@pytest.mark.parametrize("step", [31, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_bit_of_log_and_snapshots_is_refused_or_harmless(step: int) -> None:
    """Refused with file and offset wherever the log or its snapshot is written; else nothing is missing."""
    whole = open_and_close(small_life())
    disk = small_life()
    files = {path: data for path, data in disk.files(DATA).items() if path.parent in (WAL, SNAP)}
    assert len([path for path in files if path.suffix == ".wal"]) == 2
    newest = max([path for path in files if path.parent == SNAP], key=lambda path: path.name[-16:])
    places: set[tuple[Path, Path | None, bool]] = set()
    refused = harmless = 0
    for path, data in files.items():
        used_bytes = len(data.rstrip(b"\0"))
        for bit in range(0, 8 * min(len(data), used_bytes + 8), step):
            flip(disk, path, bit)
            try:
                found = open_and_close(disk)
            except CorruptLog as error:
                places.add((path, error.file, error.offset is None))
                refused += 1
                flip(disk, path, bit)
                continue
            assert found == whole, f"{path}, bit {bit}"
            is_read = path == newest or path.parent == WAL
            assert not is_read or bit >= 8 * used_bytes, f"{path}, bit {bit}, was not noticed"
            harmless += 1
            disk = small_life()
    print(f"{refused + harmless} flipped bits: {refused} refused, {harmless} harmless")
    assert all(said == path and not is_vague for path, said, is_vague in places)
    assert refused > 40_000 // step


@pytest.mark.parametrize("path", [p.relative_to(DATA) for p in small_life().files(DATA)], ids=str)
def test_a_file_that_is_missing_is_noticed_unless_nothing_is_missing_with_it(path: Path) -> None:
    """Of what a start reads, and of what tells it whose directory it is; an older snapshot is not missed."""
    disk = small_life()
    whole = open_and_close(disk)
    older = sorted(disk.files(SNAP), key=lambda path: path.name[-16:])[:-1]
    disk.unlink(DATA / path)
    if DATA / path in older:
        assert open_and_close(disk) == whole
    else:
        with pytest.raises((ConfigError, CorruptLog), match=r"restore|repair it|no data directory"):
            open_and_close(disk)


def test_an_emptied_newest_segment_is_noticed() -> None:
    """The one before says that it was begun, which a segment of zeros does not."""
    disk = small_life()
    newest = max(disk.files(WAL))
    file = disk.open(newest)
    file.write_at(0, bytes(file.size()))
    file.close()
    with pytest.raises(CorruptLog, match=rf"{newest} is corrupt at offset 0"):
        open_and_close(disk)


@pytest.mark.parametrize("more", [b"\0", bytes(2 * 1024 * 1024)], ids=["one", "many"])
def test_what_stands_behind_the_end_of_a_snapshot_is_refused(more: bytes) -> None:
    """A file is as long as its hash says, in one reading or in several."""
    disk = small_life()
    newest = max(disk.files(SNAP), key=lambda path: path.name[-16:])
    file = disk.open(newest)
    end = file.size()
    file.write_at(end, more)
    file.close()
    with pytest.raises(CorruptLog) as refused:
        open_and_close(disk)
    assert (refused.value.file, refused.value.offset) == (newest, end)
    with pytest.raises(ConfigError, match=f"offset {end}"):
        verify_backup(disk, newest)


def test_a_snapshot_is_not_adopted_with_what_an_earlier_connection_left_behind_its_end() -> None:
    """It begins anew, and arrives at the next attempt."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    meta = SnapshotMeta(10, 2, VOTERS)
    data = snapshot_bytes(meta)
    left = disk.open(SNAP / f"{meta.id.file_name}.part", create=True)
    left.write_at(0, data[:200])
    left.write_at(len(data) + 100, b"of a longer one")
    left.close()
    incoming = storage.receive_snapshot(meta.id, len(data))
    assert incoming.offset > 0
    incoming.write(data[incoming.offset :])
    with pytest.raises(CorruptLog):
        incoming.finish(meta)
    incoming = storage.receive_snapshot(meta.id, len(data))
    assert incoming.offset == 0
    incoming.write(data)
    incoming.finish(meta)
    storage.install(None, meta.id, ())
    disk.kill()
    assert held(reopen(disk)).chunks == tuple(chunks_at(10))
