"""A data directory made of a backup is there whole, or not at all."""

import random
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.offline.restore import restore_directory, verify_backup
from raftkv_trio.storage import Bootstrap
from raftkv_trio.storage.snapshot_file import SnapshotId, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk
from tests.storage.test_crash_points import (
    DATA,
    VOTERS,
    Kept,
    chunks_at,
    go_on,
    held,
    reopen,
    snapshot_bytes,
)

FILE = Path("/srv/backup")
RESTORED = Kept((0, None), SnapshotId(1, 90), (), tuple(chunks_at(90)))


def disk_with_backup(seed: int) -> SimulatedDisk:
    disk = SimulatedDisk(random.Random(seed))
    disk.make_directory(FILE.parent)
    disk.sync_directory(Path("/"))
    file = disk.open(FILE, create=True)
    file.write_at(0, snapshot_bytes(SnapshotMeta(90, 7, VOTERS)))
    file.datasync()
    file.close()
    disk.sync_directory(FILE.parent)
    return disk


def restore(disk: SimulatedDisk, path: Path = DATA) -> None:
    restore_directory(
        disk,
        path,
        verify_backup(disk, FILE),
        node_id=1,
        bootstrap=Bootstrap(cluster_id=9, conf_state=VOTERS, envelope=b"\xa0"),
        rng=random.Random(2),
        segment_bytes=4096,
    )


def test_it_is_of_a_new_cluster_and_begins_with_the_state_and_the_index_of_the_backup() -> None:
    """The term is that of every bootstrap; the log goes on from there, whatever comes."""
    disk = disk_with_backup(seed=1)
    restore(disk)
    storage = reopen(disk)
    assert storage.identity.cluster_id == 9
    assert storage.origin == verify_backup(disk, FILE).hash
    found = held(storage)
    assert found == RESTORED
    go_on(disk, found)


def test_a_crash_at_every_operation_leaves_all_of_it_or_none() -> None:
    """A directory that a start finds is whole: it would take a part of one for a node that is new."""
    number = whole = 0
    while True:
        disk = disk_with_backup(number)
        disk.halt_at(number, power=number % 2 == 0)
        try:
            restore(disk)
        except Halted:
            pass
        else:
            break
        if disk.exists(DATA):
            whole += 1
            assert held(reopen(disk)) == RESTORED, f"after a halt in operation {number}"
        number += 1
    disk.lose_power()
    assert held(reopen(disk)) == RESTORED
    print(f"{number} points; in {whole} it was there")
    assert 0 < whole < number


def test_every_flipped_bit_of_a_backup_is_refused() -> None:
    """And nothing is made of it."""
    disk = disk_with_backup(seed=1)
    data = disk.files(FILE.parent)[FILE]
    for bit in range(8 * len(data)):
        file = disk.open(FILE)
        file.write_at(bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))
        with pytest.raises(ConfigError, match="does not verify at offset"):
            restore(disk)
        file.write_at(bit // 8, data[bit // 8 : bit // 8 + 1])
        file.close()
    assert list(disk.files(FILE.parent)) == [FILE]
    print(f"{8 * len(data)} flipped bits")
