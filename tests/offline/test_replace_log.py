"""A crash at every disk operation of a repair: the log is the damaged one, or the rebuilt one."""

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv_trio.errors import CorruptLog
from raftkv_trio.raft.types import HardState
from raftkv_trio.storage.snapshot_file import SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk
from tests.offline.test_rebuild_log import (
    INDEXES,
    damage,
    entry,
    four_entries,
    home,
    is_refused,
    mended,
    reopen,
)

TERMS = (2, 2, 2, 2)


def damaged_log() -> SimulatedDisk:
    disk = four_entries(TERMS, clean=False)
    damage(disk, 1, entry(3, 2).data)
    return disk


def damaged_snapshot() -> SimulatedDisk:
    """Of node 1, which has no other; the others have the same."""
    disk = four_entries(TERMS, clean=False)
    for node_id in (1, 2, 3):
        storage = reopen(disk, node_id)
        meta = SnapshotMeta(3, 2, storage.snapshot.conf_state)
        file = storage.begin_snapshot(meta, b"\xa0")
        file.write([b"all of it"])
        file.finish()
        storage.continue_from(meta)
        storage.close(clean=False)
    (path,) = [p for p, data in disk.files(home(1) / "snap").items() if b"all of it" in data]
    snapshot = disk.open(path)
    snapshot.write_at(snapshot.size() - 40, b"!")
    snapshot.datasync()
    snapshot.close()
    return disk


def cannot_restore(disk: SimulatedDisk) -> bool:
    if is_refused(disk, 1):
        return True
    storage = reopen(disk, 1)
    try:
        list(storage.snapshot_chunks(storage.snapshot.id))
    except CorruptLog:
        return True
    finally:
        storage.close(clean=False)
    return False


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("make", [damaged_log, damaged_snapshot])
def test_a_crash_at_every_operation_leaves_one_of_the_two(
    make: Callable[[], SimulatedDisk], power: bool
) -> None:
    """A start refuses it until the repair, which may be repeated, has ended; the old log is kept whole."""
    whole = make()
    assert cannot_restore(whole)
    old = {p.name: data for p, data in whole.files(home(1) / "wal").items()}
    points = refused = 0
    while True:
        disk = copy.deepcopy(whole)
        disk.random = random.Random(points)
        disk.halt_at(points, power=power)
        try:
            mended(disk, 1, 2, 3)
        except Halted:
            pass
        else:
            break
        if cannot_restore(disk):
            refused += 1
            mended(disk, 1, 2, 3)
        disk.lose_power()
        held: dict[Path, dict[str, bytes]] = {}
        for path, data in disk.files(home(1)).items():
            held.setdefault(path.parent, {})[path.name] = data
        assert old in held.values()
        storage = reopen(disk, 1)
        assert storage.hard_state == HardState(2, 1, storage.hard_state.commit)
        entries = [entry(index, 2) for index in INDEXES]
        assert storage.take_entries() == entries[storage.snapshot.index - 1 :]
        list(storage.snapshot_chunks(storage.snapshot.id))
        storage.close(clean=True)
        points += 1
    print(f"{points} points, {refused} of them with the damaged log")
    assert 20 < refused < points


def test_the_other_directories_are_only_read() -> None:
    """Nothing is written to them, and they need not be written to."""
    disk = damaged_log()
    before = {node_id: disk.files(home(node_id)) for node_id in (2, 3)}
    mended(disk, 1, 2, 3)
    assert {node_id: disk.files(home(node_id)) for node_id in (2, 3)} == before
