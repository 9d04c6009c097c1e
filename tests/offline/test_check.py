"""`check` says what a start would find, all that is wrong at once; `repair` loses nothing."""

import errno
import json
import os
import random
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.check import check
from raftkv_trio.offline.findings import Findings
from raftkv_trio.offline.inspection import Inspection, hold_directory
from raftkv_trio.offline.repair import repair
from raftkv_trio.offline.report import as_json, as_text
from raftkv_trio.offline.restore import verify_backup
from raftkv_trio.raft.types import HardState
from raftkv_trio.storage.record import HEADER_BYTES
from raftkv_trio.storage.snapshot_file import SnapshotId, read_parts
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk, SimulatedFile
from tests.storage.test_crash_points import DATA, LIFE, NEW, append, held, live, reopen


def checked(disk: SimulatedDisk) -> Findings:
    with hold_directory(disk, DATA):
        return check(disk, DATA)


def repaired(disk: SimulatedDisk) -> list[str]:
    with hold_directory(disk, DATA):
        return repair(disk, check(disk, DATA))


def lived() -> SimulatedDisk:
    """After a whole life and a clean stop."""
    disk = SimulatedDisk(random.Random(1))
    live(disk, [NEW])
    return disk


def flip(disk: SimulatedDisk, path: Path, *offsets: int) -> None:
    file = disk.open(path)
    for offset in offsets:
        (byte,) = file.read_at(offset, 1)
        file.write_at(offset, bytes([byte ^ 1]))
    file.close()


def problems(disk: SimulatedDisk) -> list[tuple[str, int | None]]:
    return [(str(problem.file.relative_to(DATA)), problem.offset) for problem in checked(disk).problems]


def test_it_tells_all_that_is_there_and_writes_nothing() -> None:
    """Identity, hard state, snapshots, segments and entries, of a directory that is sound."""
    disk = lived()
    storage = reopen(disk)
    storage.append(HardState(9, 1, 440), ())
    storage.remember_key(2, b"two")
    storage.close(clean=False)
    before, operations = disk.files(DATA), disk.operations
    found = checked(disk)
    assert disk.operations > operations
    assert disk.files(DATA) == before
    assert found.problems == []
    assert found.identity is not None
    assert (found.identity.cluster_id, found.identity.node_id) == (1, 1)
    assert found.known_members == [2]
    assert found.hard_state == HardState(9, 1, 440)
    assert found.snapshot == SnapshotId(8, 420)
    assert found.entries == (421, 440)
    assert [(seen.id.index, seen.is_whole) for seen in found.snapshots] == [
        (400, True),
        (410, True),
        (420, True),
    ]
    assert found.segments
    assert all(seen.records and seen.used_bytes <= seen.size_bytes for seen in found.segments)
    assert sum(len(before[seen.file]) for seen in found.segments) == sum(s.size_bytes for s in found.segments)
    assert found.leftovers == []
    assert found.torn is None


def test_whatever_a_crash_leaves_is_not_wrong_and_can_be_repaired() -> None:
    """At every operation: after a repair a start finds what it finds without, and nothing is left over."""
    torn = left_over = moved = number = 0
    while True:
        disk, other = (SimulatedDisk(random.Random(number)) for _ in range(2))
        for each in (disk, other):
            reopen(each).close(clean=True)
            each.halt_at(number, power=True)
        try:
            live(disk, [NEW])
        except Halted:
            with pytest.raises(Halted):
                live(other, [NEW])
        else:
            break
        found = checked(disk)
        assert found.problems == [], f"after a halt in operation {number}"
        torn += found.torn is not None
        left_over += bool(found.leftovers)
        before = disk.files(DATA)
        kept = sorted([before[leftover.file] for leftover in found.leftovers if leftover.is_data])
        moved += len(kept)
        done = repaired(disk)
        assert (
            sorted([data for path, data in disk.files(DATA).items() if path.parent.name == "aside"]) == kept
        )
        assert bool(done) == bool(found.torn or found.leftovers)
        again = checked(disk)
        assert not again.torn
        assert not again.leftovers
        assert held(reopen(disk)) == held(reopen(other))
        number += 1
    print(f"{number} points; {torn} with a torn tail, {left_over} with something left over")
    assert torn
    assert moved
    assert left_over


def start_refuses(disk: SimulatedDisk) -> bool:
    """Whether a start and the restoring of its snapshot find damage."""
    try:
        held(reopen(disk))
    except CorruptLog:
        return True
    return False


def test_it_refuses_what_a_start_refuses() -> None:
    """For any flipped bit: what stops a start is found, and what is found in the log stops a start."""
    rng = random.Random(5)
    stopped = 0
    for _ in range(150):
        disk = SimulatedDisk(random.Random(1))
        storage = reopen(disk)
        for step, _kept in LIFE[:6]:
            step(storage)
        storage.close(clean=True)
        disk.random = rng
        where = disk.flip_bit(DATA)
        assert where is not None
        found = checked(disk)
        disk.kill()
        is_superfluous = any(not s.is_whole and s.id != found.snapshot for s in found.snapshots)
        refuses = start_refuses(disk)
        assert bool(found.problems) == (refuses or is_superfluous), where
        stopped += refuses
    assert stopped > 50


def test_all_that_is_wrong_is_found_at_once() -> None:
    """Two records of a segment, one of the next, and a snapshot: each with its file and offset."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    for step, _ in (append(2, 2, 3), append(2, 4, 5), append(2, 6, 7), append(2, 8, 30)):
        step(storage)
    storage.close(clean=True)
    first, second, *_ = checked(disk).segments
    starts = record_starts(disk, first.file)
    flip(disk, first.file, starts[1] + HEADER_BYTES, starts[3] + 4)
    flip(disk, second.file, HEADER_BYTES)
    (snapshot,) = checked(disk).snapshots
    flip(disk, snapshot.file, 9)
    assert problems(disk) == [
        (f"wal/{first.file.name}", starts[1]),
        (f"wal/{first.file.name}", starts[3]),
        (f"wal/{second.file.name}", 0),
        (f"snap/{snapshot.file.name}", 0),
    ]
    before = disk.files(DATA)
    assert repaired(disk) == []
    assert disk.files(DATA) == before


def record_starts(disk: SimulatedDisk, path: Path) -> list[int]:
    data = disk.files(path.parent)[path]
    return [offset for offset in range(0, len(data), 8) if data[offset : offset + 4] == b"RKV1"]


def advice(disk: SimulatedDisk) -> str:
    return as_text(Inspection(checked(disk), None)).splitlines()[-1]


def test_the_advice_is_the_least_that_helps() -> None:
    """Of two repairs the one without other members is named, if it mends all that is wrong."""
    disk = lived()
    old, _, newest = checked(disk).snapshots
    flip(disk, old.file, old.size_bytes // 2)
    said = f"to do: run `raftkv-trio check {DATA} --repair`; it moves what is damaged aside"
    assert advice(disk).startswith(said)
    flip(disk, newest.file, newest.size_bytes // 2)
    assert f"`raftkv-trio check {DATA} --repair --with DIR2 --with DIR3`" in advice(disk)
    disk = lived()
    flip(disk, checked(disk).segments[-1].file, HEADER_BYTES)
    assert advice(disk).startswith("to do: repair it from the other members' directories")


def test_a_snapshot_that_nobody_needs_is_moved_aside_when_damaged() -> None:
    """It is wrong, and not any more after a repair, which keeps it; a start finds the same as before."""
    disk = lived()
    old, *_, newest = checked(disk).snapshots
    flip(disk, old.file, 100)
    damaged = disk.files(DATA)[old.file]
    assert [name for name, _ in problems(disk)] == [f"snap/{old.file.name}"]
    assert repaired(disk) == [f"moved {old.file} to {DATA / 'aside' / f'snap-{old.file.name}'}"]
    assert problems(disk) == []
    assert disk.files(DATA)[DATA / "aside" / f"snap-{old.file.name}"] == damaged
    assert held(reopen(disk)).snapshot == newest.id


def test_the_newest_snapshot_is_left_as_it_is() -> None:
    """It is all there is of what it holds, damaged or not."""
    disk = lived()
    newest = checked(disk).snapshots[-1]
    flip(disk, newest.file, 100)
    before = disk.files(DATA)
    assert repaired(disk) == []
    assert disk.files(DATA) == before
    assert [name for name, _ in problems(disk)] == [f"snap/{newest.file.name}"]


def test_a_snapshot_that_is_missing_is_missed() -> None:
    """The one that the log continues must be there."""
    disk = lived()
    newest = checked(disk).snapshots[-1]
    disk.unlink(newest.file)
    assert problems(disk) == [(f"snap/{newest.file.name}", None)]


def test_where_the_identity_is_damaged_the_rest_is_read_all_the_same() -> None:
    """Each segment repeats it, so that the log can be verified without the file."""
    disk = lived()
    flip(disk, DATA / "identity", 6)
    found = checked(disk)
    assert [(problem.file.name, problem.offset) for problem in found.problems] == [("identity", 0)]
    assert found.entries == (421, 440)


def test_a_directory_that_is_in_use_or_none_is_refused() -> None:
    """Nobody can say what a running node's directory holds."""
    disk = SimulatedDisk(random.Random(1))
    with pytest.raises(ConfigError, match="does not exist"):
        checked(disk)
    storage = reopen(disk)
    with pytest.raises(ConfigError, match="in use"):
        checked(disk)
    storage.close(clean=True)
    assert checked(disk).problems == []


@pytest.mark.parametrize("power", [False, True])
def test_a_first_start_that_was_cut_short_is_not_wrong(power: bool) -> None:
    """At every operation: it is told apart from a directory that has lost its identity."""
    unfinished = number = 0
    while True:
        disk = SimulatedDisk(random.Random(number))
        disk.make_directory(DATA)
        disk.sync_directory(DATA.parent)
        disk.halt_at(number, power=power)
        try:
            reopen(disk)
        except Halted:
            number += 1
        else:
            break
        if disk.exists(DATA / "lock"):
            assert problems(disk) == []
            assert repaired(disk) == []
            unfinished += checked(disk).is_unfinished
            assert checked(disk).is_unfinished != disk.exists(DATA / "identity")
    print(f"{number} points, {unfinished} of which leave it unfinished")
    assert unfinished > 10


def test_no_output_has_what_members_prove_themselves_by() -> None:
    """Neither the directory id nor the key of another member; only which members are known."""
    disk = lived()
    storage = reopen(disk)
    directory_id, key = storage.identity.directory_id, b"the key of node 2 towards node 1"
    storage.remember_key(2, key)
    storage.close(clean=True)
    inspection = Inspection(checked(disk), None)
    text, for_programs = as_text(inspection), as_json(inspection)
    assert "knows the directories of nodes 2\n" in text
    assert json.loads(for_programs)["peers"] == [2]
    for output in (text, for_programs, repr(inspection)):
        for secret in (directory_id, key):
            assert secret.hex() not in output
            assert repr(secret) not in output


def test_an_identity_that_is_lost_is_missed() -> None:
    """Where something was acknowledged it is no first start."""
    disk = lived()
    disk.unlink(DATA / "identity")
    assert problems(disk) == [("identity", None)]


def test_an_identity_that_is_lost_with_the_log_is_missed_where_a_member_was_met() -> None:
    """A first start ends before anybody is met: a start refuses to make such a directory anew."""
    disk = lived()
    storage = reopen(disk)
    storage.remember_key(2, b"two")
    storage.close(clean=True)
    for path in (DATA / "identity", *disk.files(DATA / "wal")):
        disk.unlink(path)
    before = disk.files(DATA)
    assert ("identity", None) in problems(disk)
    with pytest.raises(CorruptLog, match="no identity"):
        reopen(disk)
    assert disk.files(DATA) == before


class ReadOnlyDisk(SimulatedDisk):
    """Mounted so that nobody can write to it."""

    is_mounted = False

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> SimulatedFile:
        if self.is_mounted and not read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return super().open(path, create=create, read_only=read_only)


def test_a_directory_that_cannot_be_written_to_is_checked() -> None:
    """And a backup is read from such a place."""
    disk = ReadOnlyDisk(random.Random(1))
    live(disk, [NEW])
    disk.is_mounted = True
    found = checked(disk)
    assert found.problems == []
    assert found.entries == (421, 440)
    assert verify_backup(disk, found.snapshots[-1].file).meta.index == 420
    assert list(read_parts(disk, found.snapshots[-1].file))[2:]


def test_a_repair_may_be_repeated_at_every_operation() -> None:
    """Cut short anywhere, by a loss of power too, it has lost nothing, and another one ends it."""
    sound = held(reopen(lived()))
    number = 0
    while True:
        disk = lived()
        old = checked(disk).snapshots[0]
        flip(disk, old.file, 100)
        disk.open(DATA / "snap" / "0000000000000009-0000000000000999.snap.tmp", create=True).close()
        disk.sync_directory(DATA / "snap")
        disk.halt_at(number, power=True)
        try:
            repaired(disk)
        except Halted:
            pass
        else:
            break
        repaired(disk)
        found = checked(disk)
        assert (found.problems, found.leftovers) == ([], [])
        assert held(reopen(disk)) == sound
        number += 1
    assert number > 20
