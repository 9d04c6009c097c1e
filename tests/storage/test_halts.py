"""What was durable is there again, whatever halted the process and whatever the disk kept of the rest."""

import errno
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage import Bootstrap, NodeStorage, open_storage
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk

DATA = Path("/srv/raft/data")
BOOTSTRAP = Bootstrap(cluster_id=1, conf_state=ConfState(voters=(1,)), envelope=b"\xa0")
VOTED = HardState(2, 1, 1)
SEEDS = range(60)


def reopen(disk: SimulatedDisk) -> NodeStorage:
    return open_storage(disk, DATA, node_id=1, bootstrap=BOOTSTRAP, rng=random.Random(1), segment_bytes=4096)


def entry(index: int) -> Entry:
    return Entry(2, index, data=b"x" * 300)


def append_one_by_one(storage: NodeStorage, indexes: Iterable[int]) -> None:
    for index in indexes:
        storage.append(None, [entry(index)])


def indexes(storage: NodeStorage) -> list[int]:
    return [e.index for e in storage.take_entries()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_start_survives_a_loss_of_power(seed: int) -> None:
    """A vote on a directory that was just made, parents and all, is not forgotten."""
    disk = SimulatedDisk(random.Random(seed))
    reopen(disk).append(VOTED, ())
    disk.lose_power()
    assert reopen(disk).hard_state == VOTED


@pytest.mark.parametrize("power", [False, True])
def test_a_first_start_can_be_cut_short_anywhere(power: bool) -> None:
    """Halted in any of its operations, a first start can be made again, and is durable then."""
    points = 0
    for number in range(1000):
        disk = SimulatedDisk(random.Random(number))
        disk.halt_at(number, power=power)
        try:
            reopen(disk)
        except Halted:
            points += 1
        else:
            break
        reopen(disk).append(VOTED, [entry(2)])
        disk.lose_power()
        again = reopen(disk)
        assert (again.hard_state, indexes(again)) == (VOTED, [2])
    assert points > 20


def test_a_first_start_can_fail_anywhere() -> None:
    """After an error of the disk in any of its operations, a first start can be made again."""
    failures = 0
    for number in range(1000):
        disk = SimulatedDisk(random.Random(number))
        disk.fail_at(number, errno.EIO)
        try:
            reopen(disk)
        except (ConfigError, StorageError):
            failures += 1
        else:
            break
        disk.kill()
        reopen(disk).append(VOTED, ())
        disk.lose_power()
        assert reopen(disk).hard_state == VOTED
    assert failures > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_read_at_the_start_is_durable(seed: int) -> None:
    """A record left in the page cache by a killed process is acted on only once it is on the disk."""
    disk = SimulatedDisk(random.Random(seed))
    storage = reopen(disk)
    storage.append(VOTED, [entry(2)])
    disk.halt_at(random.Random(seed).randrange(9), power=False)
    with pytest.raises(Halted):
        append_one_by_one(storage, range(3, 30))
    read = indexes(reopen(disk))
    disk.lose_power()
    assert indexes(reopen(disk)) == read


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failed_sync_is_not_believed_at_the_next_start(seed: int) -> None:
    """What a failed sync left in the page cache is, where it is read, on the disk before it is acted on."""
    disk = SimulatedDisk(random.Random(seed))
    storage = reopen(disk)
    storage.append(VOTED, [entry(2)])
    disk.fail_at(1, errno.EIO)
    with pytest.raises(StorageError):
        storage.append(None, [entry(3)])
    disk.kill()
    storage = reopen(disk)
    read = indexes(storage)
    storage.append(None, [entry(read[-1] + 1)])
    disk.lose_power()
    assert indexes(reopen(disk)) == [*read, read[-1] + 1]


def test_a_segment_that_cannot_be_begun_does_not_hold_up_the_end() -> None:
    """A log whose next segment could not be begun is closed as ever; its last file was closed twice."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    for number in range(60):
        storage.tidy()  # which has the next segment's file ready, to be renamed
        disk.fail_at(number, errno.EIO)
        with pytest.raises(StorageError):
            append_one_by_one(storage, range(2, 60))
        storage.close(clean=True)
        storage = reopen(disk)
