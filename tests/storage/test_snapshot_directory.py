"""Files that become obsolete while they are written or received: their writers keep them."""

import random

import pytest

from raftkv_trio.raft.types import HardState
from raftkv_trio.storage import NodeStorage, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.batches import snapshot_bytes
from tests.storage.test_crash_points import DATA, VOTERS, reopen

OWN = SnapshotMeta(5, 2, VOTERS)
LEADERS = SnapshotMeta(10, 2, VOTERS)
LATER = SnapshotMeta(12, 2, VOTERS)


def install(storage: NodeStorage, meta: SnapshotMeta) -> None:
    """A snapshot of the leader's arrives, and the log writer installs it."""
    data = snapshot_bytes(meta, (b"state",))
    incoming = storage.receive_snapshot(meta.id, len(data))
    incoming.write(data)
    incoming.finish(meta)
    storage.install(HardState(2, None, meta.index), meta.id, ())


def names(disk: SimulatedDisk) -> set[str]:
    return {path.name for path in disk.files(DATA) if path.parent.name == "snap"}


@pytest.mark.parametrize("ends", ["finish", "abandon", "close"])
def test_a_newer_snapshot_is_installed_while_an_own_one_is_written(ends: str) -> None:
    """The writer keeps its file to the end. Then the log ignores it, and what has no name is removed."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    file = storage.begin_snapshot(OWN, b"envelope")
    file.write([b"first"])
    install(storage, LEADERS)
    storage.tidy()
    assert f"{OWN.id.file_name}.tmp" in names(disk)
    file.write([b"second"])
    getattr(file, ends)()
    storage.continue_from(OWN)
    assert storage.snapshot == LEADERS
    install(storage, LATER)
    storage.tidy()
    assert f"{OWN.id.file_name}.tmp" not in names(disk)
    disk.lose_power()
    assert reopen(disk).snapshot == LATER


def test_a_newer_snapshot_is_installed_while_an_older_one_is_received() -> None:
    """The transfer of the older one may go on or be given up, without an error."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    data = snapshot_bytes(OWN, (b"state",))
    finished, abandoned = (storage.receive_snapshot(OWN.id, len(data)) for _ in range(2))
    install(storage, LEADERS)
    storage.tidy()
    finished.write(data)
    finished.finish(OWN)
    abandoned.abandon()
    assert storage.snapshot == LEADERS


def test_the_size_of_the_newest_snapshot_is_known() -> None:
    """Of one that was taken, of one that was received, and after a start; a begun one does not count."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    file = storage.begin_snapshot(OWN, b"envelope")
    file.write([b"state" * 1000])
    assert storage.snapshot_bytes < 1000
    file.finish()
    storage.continue_from(OWN)
    assert storage.snapshot_bytes == file.size_bytes == size_of(disk, OWN)
    install(storage, LEADERS)
    assert storage.snapshot_bytes == size_of(disk, LEADERS)
    disk.lose_power()
    assert reopen(disk).snapshot_bytes == size_of(disk, LEADERS)


def size_of(disk: SimulatedDisk, meta: SnapshotMeta) -> int:
    file = disk.open(DATA / "snap" / meta.id.file_name, read_only=True)
    try:
        return file.size()
    finally:
        file.close()
