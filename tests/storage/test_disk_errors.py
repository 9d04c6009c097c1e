"""An error of the disk in every single call of a long life: the node stops, says where, and loses nothing."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, StorageError
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import NodeStorage, OsDisk, SnapshotMeta
from raftkv_trio.storage.record import BATCH, SECTOR_BYTES, aligned, encode_record
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.failing_disk import CHANGES, Call, FailingDisk
from tests.storage.test_crash_points import (
    DATA,
    LIFE,
    NEW,
    VOTERS,
    Kept,
    chunks_at,
    go_on,
    held,
    receive,
    reopen,
)

WAL = DATA / "wal"
TORN_AFTER = 12  # steps, a crash tears the log; what the start after it does can fail too
RESTART_AFTER = 20
WRITES = ("extend", "datasync")
PART_CALLS = 6  # to receive a snapshot: create, exists, four writes, a sync
RECEIVED = SnapshotMeta(10, 2, VOTERS)
PEERS = {2: b"directory of two", 3: b"directory of three"}


@dataclass
class Life:
    """A node's life on a disk.

    Attributes:
        storage: None before its directory was open.
        begun: what the steps that were done have left, and what the one under way would leave.
        met: the members whose directory ids are known for certain.
    """

    disk: FailingDisk
    storage: NodeStorage | None = None
    begun: list[Kept] = field(default_factory=lambda: [NEW])
    met: dict[int, bytes] = field(default_factory=dict)

    def live(self) -> None:
        """To its end, or to the first error."""
        storage = self.open()
        for number, (step, kept) in enumerate(LIFE):
            if number == TORN_AFTER:
                tear(storage, self.disk.disk)
                storage = self.open()
            elif number == RESTART_AFTER:
                storage.close(clean=True)
                storage = self.open()
            self.begun.append(kept(self.begun[-1]))
            self.take(step, storage)
            del self.begun[:-1]
            if number in (3, 15):
                self.take(partial(self.meet, 2 if number == 3 else 3), storage)
        storage.close(clean=True)

    def take(self, step: Callable[[NodeStorage], None], storage: NodeStorage) -> None:
        step(storage)

    def open(self) -> NodeStorage:
        self.storage = None
        self.storage = reopen(self.disk)
        return self.storage

    def meet(self, node_id: int, storage: NodeStorage) -> None:
        storage.remember_key(node_id, PEERS[node_id])
        self.met[node_id] = PEERS[node_id]

    def close(self) -> None:
        """The node stops."""
        if self.storage is not None:
            self.storage.close(clean=True)


def tear(storage: NodeStorage, disk: SimulatedDisk) -> None:
    """End the process in the middle of a write, of which the disk has the first and the last sector."""
    storage.close(clean=False)
    path, data = max([(path, data) for path, data in disk.files(WAL).items() if path.suffix == ".wal"])
    begin = aligned(len(data.rstrip(b"\0")))
    record = encode_record(BATCH, 99, b"torn" * 500, segment=int(path.name[:8]), offset=begin)
    first, last = SECTOR_BYTES - begin % SECTOR_BYTES, len(record) - (begin + len(record)) % SECTOR_BYTES
    file = disk.open(path)
    file.write_at(begin, record[:first])
    file.write_at(begin + last, record[last:])
    file.datasync()
    file.close()


def error_points(*, power: bool) -> Counter[str]:
    """Let every call fail, once each, and look what is left; how many of each kind."""
    points: Counter[str] = Counter()
    for number in range(100_000):
        disk = FailingDisk(SimulatedDisk(random.Random(number)), number)
        life = Life(disk)
        try:
            life.live()
        except (StorageError, ConfigError, OSError) as error:
            told = error
        else:
            if disk.failed is None:
                return points
            # By design: what is not seen to be new is opened, and that tells what is wrong.
            assert disk.culprit == Call("exists", DATA / "identity")
            continue
        where = f"call {number}, {disk.culprit}"
        points[disk.culprit.kind] += 1
        assert str(disk.culprit.path) in str(told), f"{where}: {told}"
        if isinstance(told, StorageError) and life.storage is not None and disk.culprit.path.parent == WAL:
            check_log_is_shut(life.storage, disk)
        life.close()
        check_not_tried_again(disk)
        assert not disk.open_files, where
        if power:
            disk.disk.lose_power()
        else:
            disk.disk.kill()
        storage = reopen(disk.disk)
        found = held(storage)
        assert found in life.begun, where
        assert storage.known_keys.items() >= life.met.items(), where
        go_on(disk.disk, found)
    raise AssertionError("the life has no end")


def check_log_is_shut(storage: NodeStorage, disk: FailingDisk) -> None:
    """Nothing more is acknowledged, and the disk is not even asked."""
    asked = len(disk.calls)
    says_why = pytest.raises(StorageError, match=re.escape(str(disk.culprit.path)))
    with says_why:
        storage.append(HardState(99, 1, 1), ())
    with says_why:
        storage.append(None, [Entry(99, 9999)])
    with says_why:
        storage.continue_from(SnapshotMeta(9999, 99, VOTERS))
    assert len(disk.calls) == asked


def check_not_tried_again(disk: FailingDisk) -> None:
    """Nothing is written to a file or directory of which a call has failed, until the file was removed."""
    assert disk.failed is not None
    after = [call for call in disk.calls[disk.failed + 1 :] if call.path == disk.culprit.path]
    again = [call for call in after if call.kind in CHANGES]
    if disk.culprit.kind in CHANGES and again:
        assert again[0].kind == "unlink" != disk.culprit.kind, f"{disk.culprit}, then {again}"


@pytest.mark.parametrize("power", [False, True])
def test_an_error_in_any_call_ends_the_node_and_loses_nothing(power: bool) -> None:
    """It names the file, is not tried again, leaves nothing open; a restart has all that was acknowledged."""
    points = error_points(power=power)
    print(f"{points.total()} points: {', '.join([f'{n} {kind}' for kind, n in points.most_common()])}")
    assert points.keys() > CHANGES
    assert sum(points[kind] for kind in CHANGES) > 200


def test_the_life_goes_through_everything() -> None:
    """What the errors are aimed at: a torn tail that is kept aside, a restart, cuts, installs and purges."""
    disk = FailingDisk(SimulatedDisk(random.Random(1)))
    Life(disk).live()
    assert {path.name.partition("-")[0] for path in disk.disk.files(WAL)} >= {"torn", "spare"}
    unlinked = {path.suffix for kind, path in disk.calls if kind == "unlink"}
    assert {".wal", ".snap"} <= unlinked
    assert sum(kind == "rename" and path.suffix == ".part" for kind, path in disk.calls) == 2
    assert not disk.open_files


@pytest.mark.parametrize("lasts", [False, True])
def test_an_error_while_a_snapshot_is_received_is_survived_by_design(lasts: bool) -> None:
    """Nothing was acknowledged of it: it is thrown away, the log goes on, and it comes again whole."""
    points = 0
    for number, seed in product(range(PART_CALLS), range(10)):
        disk = FailingDisk(SimulatedDisk(random.Random(seed)), number, may_fail=is_of_part, lasts=lasts)
        storage = reopen(disk)
        with pytest.raises(OSError, match=re.escape(str(DATA / "snap"))):
            receive(storage, RECEIVED)
        points += 1
        disk.mend()
        assert disk.open_files == [DATA / "lock", *disk.disk.files(WAL)]
        storage.append(HardState(2, 1, 1), [Entry(2, 2, data=b"on")])
        receive(storage, RECEIVED)
        if not lasts and disk.culprit.kind in WRITES:  # else it cannot be removed
            check_not_tried_again(disk)
        storage.install(HardState(2, 1, 10), RECEIVED.id, [])
        disk.disk.lose_power()
        found = held(reopen(disk.disk))
        assert (found.snapshot, found.chunks) == (RECEIVED.id, tuple(chunks_at(10)))
    print(f"{points} points")


def is_of_part(call: Call) -> bool:
    return call.path.suffix == ".part"


def test_an_error_of_a_real_file_names_it_too() -> None:
    """The system tells no name where it was given a descriptor; /dev/full takes neither bytes nor a sync."""
    file = OsDisk().open(Path("/dev/full"))
    names_it = pytest.raises(OSError, match="'/dev/full'")
    try:
        with names_it:
            file.write_at(0, b"x")
        with names_it:
            file.preallocate(1)
        with names_it:
            file.datasync()
    finally:
        file.close()


@pytest.mark.parametrize("call", range(6))
def test_an_error_while_a_removal_is_noted_ends_the_node_too(call: int) -> None:
    """It names the file; the directory is closed for good then, or has all that was acknowledged."""
    for seed in range(10):
        disk = FailingDisk(SimulatedDisk(random.Random(seed)))
        storage = reopen(disk)
        storage.append(HardState(2, 1, 1), [Entry(2, 2)])
        disk.arm(call)
        with pytest.raises(StorageError, match=r"/data\S*: Input/output error"):
            storage.mark_removed(2)
        check_not_tried_again(disk)
        disk.disk.lose_power()
        try:
            storage = reopen(disk.disk)
        except ConfigError as error:
            assert "was removed" in str(error)  # noqa: PT017 - the last call is the one that makes it sure
        else:
            assert held(storage).entries == ((2, 2),)
