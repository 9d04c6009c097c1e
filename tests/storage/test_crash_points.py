"""A crash at every single disk operation of a long life: everything acknowledged is there, nothing else."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from raftkv_trio.errors import CorruptLog
from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage import Bootstrap, Disk, NodeStorage, open_storage
from raftkv_trio.storage.snapshot_file import SnapshotFile, SnapshotId, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import Halted, SimulatedDisk
from tests.storage.failing_disk import FailingDisk

DATA = Path("/srv/raft/data")
VOTERS = ConfState(voters=(1,))
BOOTSTRAP = Bootstrap(cluster_id=1, conf_state=VOTERS, envelope=b"\xa0")


@dataclass(frozen=True)
class Kept:
    """What a directory must hold: term and vote, snapshot, entries as (term, index), the machine's chunks."""

    vote: tuple[int, int | None]
    snapshot: SnapshotId
    entries: tuple[tuple[int, int], ...]
    chunks: tuple[bytes, ...]


Step = tuple[Callable[[NodeStorage], None], Callable[[Kept], Kept]]


def reopen(disk: Disk) -> NodeStorage:
    return open_storage(disk, DATA, node_id=1, bootstrap=BOOTSTRAP, rng=random.Random(1), segment_bytes=4096)


def held(storage: NodeStorage) -> Kept:
    return Kept(
        vote=storage.hard_state[:2],
        snapshot=storage.snapshot.id,
        entries=tuple([(e.term, e.index) for e in storage.take_entries()]),
        chunks=tuple(storage.snapshot_chunks(storage.snapshot.id)),
    )


def append(term: int, first: int, last: int) -> Step:
    entries = [Entry(term, index, data=bytes([index % 256]) * 300) for index in range(first, last + 1)]

    def kept(before: Kept) -> Kept:
        head = [e for e in before.entries if e[1] < first]
        return replace(before, vote=(term, 1), entries=(*head, *[(e.term, e.index) for e in entries]))

    return lambda storage: storage.append(HardState(term, 1, first - 1), entries), kept


def vote(term: int, candidate: int) -> Step:
    return (
        lambda storage: storage.append(HardState(term, candidate, 0), ()),
        lambda before: replace(before, vote=(term, candidate)),
    )


def chunks_at(index: int) -> list[bytes]:
    return [bytes([index % 256]) * size for size in (700, 900, 5)]


def take_snapshot(term: int, index: int) -> Step:
    meta = SnapshotMeta(index, term, VOTERS)

    def step(storage: NodeStorage) -> None:
        file = storage.begin_snapshot(meta, BOOTSTRAP.envelope)
        try:
            file.write(chunks_at(index)[:2])
            file.write(chunks_at(index)[2:])
            file.finish()
        except OSError:
            file.abandon()
            raise
        storage.continue_from(meta)

    def kept(before: Kept) -> Kept:
        rest = tuple([e for e in before.entries if e[1] > index])
        return replace(before, snapshot=meta.id, entries=rest, chunks=tuple(chunks_at(index)))

    return step, kept


def receive(storage: NodeStorage, meta: SnapshotMeta) -> None:
    """What is lacking of a leader's snapshot, in pieces."""
    data = snapshot_bytes(meta)
    incoming = storage.receive_snapshot(meta.id, len(data))
    try:
        for offset in range(incoming.offset, len(data), 600):
            incoming.write(data[offset : offset + 600])
        incoming.finish(meta)
    finally:
        incoming.close()


def install(term: int, index: int, entries_to: int) -> Step:
    meta = SnapshotMeta(index, term, VOTERS)
    entries = [Entry(term, i, data=b"after") for i in range(index + 1, entries_to + 1)]

    def step(storage: NodeStorage) -> None:
        receive(storage, meta)
        storage.install(HardState(term, None, index), meta.id, entries)

    def kept(before: Kept) -> Kept:
        rest = tuple([(e.term, e.index) for e in entries])
        return Kept((term, None), meta.id, rest, tuple(chunks_at(index)))

    return step, kept


def snapshot_bytes(meta: SnapshotMeta) -> bytes:
    disk = SimulatedDisk(random.Random(1))
    disk.make_directory(DATA)
    file = SnapshotFile(disk, DATA, meta, b"\xa0")
    file.write(chunks_at(meta.index))
    path = file.finish()
    return disk.files(DATA)[path]


TIDY: Step = (lambda storage: storage.tidy(), lambda before: before)

LIFE: list[Step] = [
    vote(2, 1),
    append(2, 2, 9),
    append(2, 10, 25),
    TIDY,
    append(3, 20, 40),
    take_snapshot(3, 30),
    append(3, 41, 60),
    TIDY,
    vote(4, 3),
    append(4, 55, 56),
    append(4, 57, 90),
    take_snapshot(4, 80),
    TIDY,
    append(4, 91, 110),
    install(6, 100, 100),
    append(6, 101, 130),
    TIDY,
    take_snapshot(6, 130),
    TIDY,
    append(7, 131, 150),
    install(8, 400, 400),
    append(8, 401, 440),
    take_snapshot(8, 410),
    take_snapshot(8, 420),
    TIDY,
]
NEW = Kept((0, None), SnapshotId(1, 1), (), ())


def live(disk: SimulatedDisk, begun: list[Kept]) -> None:
    """Live the whole life; `begun` gets what each step that was begun leaves."""
    storage = reopen(disk)
    for step, kept in LIFE:
        begun.append(kept(begun[-1]))
        step(storage)
        del begun[:-1]
    storage.close(clean=True)


def crashes(*, power: bool, seed: int) -> Iterator[tuple[SimulatedDisk, list[Kept]]]:
    """Crash at every operation, once each: the disk, and what it may hold, what was acknowledged first."""
    for number in range(100_000):
        disk = SimulatedDisk(random.Random(number * 1000 + seed))
        reopen(disk).close(clean=True)
        disk.halt_at(number, power=power)
        begun = [NEW]
        try:
            live(disk, begun)
        except Halted:
            yield disk, begun
        else:
            return
    raise AssertionError("the life has no end")


def crash_points(*, power: bool, seed: int, at_once: bool = False) -> int:
    """At every operation: look what is there, and go on; how many there were."""
    points = 0
    for points, (disk, begun) in enumerate(crashes(power=power, seed=seed), 1):
        found = held(reopen(disk))
        assert found in begun, f"after a halt in operation {points - 1}"
        go_on(disk, found, at_once=at_once)
    return points


def go_on(disk: SimulatedDisk, found: Kept, *, at_once: bool = False) -> None:
    """What was found is durable, and the directory serves on: entries, a snapshot, and losses of power.

    Unless it is to serve on `at_once`, power is lost before it, too.
    """
    if at_once:
        disk.kill()
    else:
        disk.lose_power()
    storage = reopen(disk)
    assert held(storage) == found
    last = found.entries[-1][1] if found.entries else found.snapshot.index
    term = found.vote[0] + 1
    for steps in ([append(term, last + 1, last + 20)], [TIDY, take_snapshot(term, last + 5), TIDY]):
        for step, kept in steps:
            step(storage)
            found = kept(found)
        disk.lose_power()
        storage = reopen(disk)
        assert held(storage) == found


@pytest.mark.parametrize(("power", "at_once"), [(False, False), (False, True), (True, False)])
def test_a_crash_at_every_operation_loses_nothing_and_invents_nothing(power: bool, at_once: bool) -> None:
    """Votes, appends, cuts, snapshots, installs, purges and restarts: each is done or not, whole."""
    points = crash_points(power=power, seed=0, at_once=at_once)
    print(f"{points} points")
    assert points > 200


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_crash_at_every_operation_whatever_survives_of_it(seed: int) -> None:
    """The same with other choices of what a loss of power leaves."""
    assert crash_points(power=True, seed=seed) > 200


@pytest.mark.parametrize("power", [False, True])
def test_the_newest_segment_lost_after_a_crash_is_noticed_unless_nothing_is_lost_with_it(power: bool) -> None:
    """At every operation: a start refuses, or finds all that was acknowledged and nothing invented."""
    noticed = harmless = 0
    for disk, begun in crashes(power=power, seed=0):
        disk.unlink(max([path for path in disk.files(DATA / "wal") if path.suffix == ".wal"]))
        try:
            found = held(reopen(disk))
        except CorruptLog:
            noticed += 1
        else:
            assert found in begun, f"after a halt in operation {noticed + harmless}"
            harmless += 1
    print(f"{noticed + harmless} points: {noticed} noticed, {harmless} harmless")
    assert noticed > 200
    assert harmless > 20


class Interrupted(SimulatedDisk):
    """A disk on which another thread does something after some operation, right before the power is lost."""

    def arm(self, operations_from_now: int, do: Callable[[], None]) -> None:
        self.at, self.do = self.operations + operations_from_now, do

    @contextmanager
    def operation(self, path: Path | None = None) -> Iterator[None]:
        with super().operation(path):
            yield
        if self.operations > self.at:
            self.at = 1_000_000
            self.do()
            self.lose_power()
            raise Halted("the power is lost")

    at = 1_000_000


@pytest.mark.parametrize(
    "steps",
    [
        # what is being begun makes no segment superfluous yet, though a snapshot covers all before it
        pytest.param((append(2, 2, 12), take_snapshot(2, 12), append(2, 13, 20)), id="cut"),
        # a leader's snapshot makes nothing superfluous before the log says that it continues it
        pytest.param((append(2, 2, 12), append(2, 13, 30), install(3, 100, 100)), id="install"),
    ],
)
def test_a_purge_beside_the_writer_leaves_a_log_at_any_moment(steps: Sequence[Step]) -> None:
    """Beside the last of these steps it removes nothing that a start after a loss of power needs."""
    for number in range(1000):
        disk = Interrupted(random.Random(number))
        storage = reopen(disk)
        begun = [NEW]
        for step, kept in steps:
            if len(begun) == 3:
                disk.arm(number // 5, storage.tidy)
            begun.append(kept(begun[-1]))
            try:
                step(storage)
            except Halted:
                break
        else:
            break
        assert held(reopen(disk)) in begun[-2:], f"after operation {number // 5}"
    assert number >= 5 * 10


def test_a_purge_removes_what_a_snapshot_covers_and_no_more() -> None:
    """A restart after many snapshots reads few segments, and three snapshots are kept."""
    disk = SimulatedDisk(random.Random(1))
    live(disk, [NEW])
    wal = sorted([path.name for path in disk.files(DATA / "wal") if path.suffix == ".wal"])
    first_indexes = [int(name.partition("-")[2].partition(".")[0], 16) for name in wal]
    assert first_indexes[0] <= 421
    assert all(first_index > 421 for first_index in first_indexes[1:])
    assert len(disk.files(DATA / "snap")) == 3


def test_a_write_costs_one_sync_and_a_cut_two_more() -> None:
    """They are of the new segment's beginning and of the old one's end; the directory is synced once."""
    disk = FailingDisk(SimulatedDisk(random.Random(1)))
    storage = reopen(disk)
    costs = set()
    for index in range(2, 100):
        begin = len(disk.calls)
        storage.append(HardState(2, 1, 1), [Entry(2, index, data=bytes(300))])
        kinds = [kind for kind, _ in disk.calls[begin:]]
        costs.add(("create" in kinds, kinds.count("datasync"), kinds.count("sync_directory")))
    assert costs == {(False, 1, 0), (True, 3, 1)}
