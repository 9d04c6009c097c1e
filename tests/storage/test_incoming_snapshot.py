"""A snapshot that comes in whatever pieces, over whatever interruptions, is the file that was sent."""

import errno
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.raft.types import HardState
from raftkv_trio.storage import NodeStorage, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.storage.batches import snapshot_bytes
from tests.storage.test_crash_points import DATA, VOTERS, reopen

META = SnapshotMeta(10, 2, VOTERS)
PART = DATA / "snap" / f"{META.id.file_name}.part"
INTERRUPTIONS = ("connection", "kill", "power", "damage")


def interrupt(disk: SimulatedDisk, storage: NodeStorage, how: str) -> NodeStorage:
    """End what is being received, or the process, or the machine; the storage to go on with."""
    if how == "connection":
        return storage
    if how == "power":
        disk.lose_power()
    else:
        disk.kill()
    if how == "damage" and disk.exists(PART):
        file = disk.open(PART)
        if size_bytes := file.size():
            middle = size_bytes // 2
            (byte,) = file.read_at(middle, 1)
            file.write_at(middle, bytes([byte ^ 1]))
        file.close()
    return reopen(disk)


@given(
    st.lists(st.integers(1, 2000), max_size=6),
    st.lists(
        st.tuples(st.lists(st.integers(1, 900), max_size=6), st.sampled_from(INTERRUPTIONS)), max_size=6
    ),
    st.integers(1, 3000),
    st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None)
def test_any_pieces_make_the_same_file(
    chunk_sizes: Sequence[int],
    connections: Sequence[tuple[Sequence[int], str]],
    last_piece_bytes: int,
    seed: int,
) -> None:
    """Each connection goes on behind what is whole here; nothing damaged or lost is taken for it."""
    chunks = tuple([bytes([number + 1]) * size for number, size in enumerate(chunk_sizes)])
    data = snapshot_bytes(META, chunks)
    disk = SimulatedDisk(random.Random(seed))
    storage = reopen(disk)
    for pieces, how in [*connections, (None, "power")]:
        incoming = storage.receive_snapshot(META.id, len(data))
        assert disk.files(DATA)[PART][: incoming.offset] == data[: incoming.offset]
        for size_bytes in pieces if pieces is not None else [last_piece_bytes] * (len(data) + 1):
            if incoming.is_whole:
                break
            incoming.write(data[incoming.offset : incoming.offset + size_bytes])
        if incoming.is_whole:
            incoming.finish(META)
        if pieces is not None:
            incoming.close()
            storage = interrupt(disk, storage, how)
    storage.install(HardState(2, None, 10), META.id, ())
    disk.lose_power()
    assert disk.files(DATA)[PART.with_suffix("")] == data
    storage = reopen(disk)
    assert tuple(storage.snapshot_chunks(META.id)) == chunks


CHUNKS = (bytes(500), bytes(500))


def part_files(disk: SimulatedDisk) -> list[str]:
    return sorted([path.name for path in disk.files(DATA / "snap") if path.suffix == ".part"])


def test_one_unfinished_file_is_kept_at_most() -> None:
    """A snapshot that is begun removes what is here of others; a start removes it too."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    for index in range(10, 20):
        meta = SnapshotMeta(index, 2, VOTERS)
        data = snapshot_bytes(meta, CHUNKS)
        incoming = storage.receive_snapshot(meta.id, len(data))
        incoming.write(data[: len(data) // 2])
        incoming.close()
        assert part_files(disk) == [f"{meta.id.file_name}.part"]
    disk.kill()
    reopen(disk)
    assert not part_files(disk)


def received(storage: NodeStorage, index: int) -> SnapshotMeta:
    meta = SnapshotMeta(index, 2, VOTERS)
    data = snapshot_bytes(meta, CHUNKS)
    incoming = storage.receive_snapshot(meta.id, len(data))
    incoming.write(data)
    incoming.finish(meta)
    storage.keep_received(meta.id)
    return meta


def test_what_waits_to_be_installed_stays_and_is_bounded() -> None:
    """The log writer finds its file, whatever comes meanwhile; only so many wait, unless they are useless."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    first, second = received(storage, 10), received(storage, 11)
    with pytest.raises(OSError, match="still being installed"):
        received(storage, 12)
    storage.install(HardState(2, None, 10), first.id, ())
    third = received(storage, 12)
    storage.forget_received(lambda snapshot: snapshot == third.id)
    fourth = received(storage, 13)
    assert part_files(disk) == [f"{meta.id.file_name}.part" for meta in (second, fourth)]
    storage.install(HardState(2, None, 11), second.id, ())
    storage.install(HardState(2, None, 13), fourth.id, ())
    assert storage.snapshot == fourth


def test_room_is_asked_for_first() -> None:
    """Without room for the whole file and the next segment nothing is taken, and what is here makes room."""
    disk = SimulatedDisk(random.Random(1))
    storage = reopen(disk)
    data = snapshot_bytes(META, CHUNKS)
    half = storage.receive_snapshot(META.id, len(data))
    half.write(data[: len(data) // 2])
    half.close()
    disk.free_bytes = 0
    with pytest.raises(OSError, match="No space left") as error:
        storage.receive_snapshot(META.id, len(data))
    assert error.value.errno == errno.ENOSPC
    assert not part_files(disk)
    disk.free_bytes = 1 << 30
    assert received(storage, 10) == META
