"""The snapshotter: when a snapshot is due, and that it takes no machine that is being replaced."""

import errno
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import NoLeader
from raftkv_trio.kv import Store
from raftkv_trio.node.applier import Restore
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.raft.types import ConfState, Snapshot
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import Clock, TrioClock, World
from tests.node.clocks import StillClock


class HeldStore(Store):
    """A store that cannot be asked for a snapshot while it is restored."""

    is_whole = True

    def snapshot(self) -> Iterator[bytes]:
        assert self.is_whole
        return super().snapshot()


def make_parts(clock: Clock | None = None) -> tuple[NodeParts, HeldStore]:
    rng = random.Random(1)
    config = NodeConfig(node_id=1, members=parse_cluster("http://one:1"), data_dir=Path("/data"))
    storage = open_directory(SimulatedDisk(rng), config, rng)
    store = HeldStore()
    world = World(random=rng, clock=clock or TrioClock())
    return NodeParts(config, store, storage, world), store


async def test_a_stop_ends_the_wait_for_a_snapshot() -> None:
    """Whether the wait began before the stop or after it, the reason of the stop ends it."""
    parts, _ = make_parts()
    parts.applier.position = replace(parts.applier.position, index=5)

    async def take() -> None:
        with pytest.raises(NoLeader, match="the node is stopping"):
            await parts.snapshotter.take()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            parts.snapshotter.close("the node is stopping")
        await take()


async def test_a_machine_that_is_being_replaced_is_not_taken() -> None:
    """A snapshot that is wanted meanwhile is the one that was received, as soon as it is restored."""
    parts, store = make_parts()
    storage = parts.storage
    received = SnapshotMeta(9, 2, ConfState(voters=(1,)))
    parts.applier.position = replace(received, index=5)
    taken: list[SnapshotMeta] = []
    is_taken = trio.Event()

    async def take() -> None:
        taken.append(await parts.snapshotter.take())
        is_taken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.snapshotter.run)
        parts.applier.begin_restore()
        store.is_whole = False
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert not taken
        file = storage.begin_snapshot(received, storage.read_envelope(storage.snapshot.id))
        file.write(list(Store().snapshot()))
        file.finish()
        storage.continue_from(received)
        restore = Restore(Snapshot(9, 2, received.conf_state))
        parts.applier.restore(restore)
        parts.applier.restored(restore)
        store.is_whole = True
        parts.snapshotter.wakeup.set()
        with trio.fail_after(60):
            await is_taken.wait()
        assert [meta.id for meta in taken] == [SnapshotId(2, 9)]
        nursery.cancel_scope.cancel()


def test_a_snapshot_is_paid_for_by_the_log() -> None:
    """It is due when the log behind the newest one has a quarter of its size, and ten thousand entries."""
    parts, _ = make_parts(StillClock())
    storage, applier, snapshotter = parts.storage, parts.applier, parts.snapshotter
    newest = SnapshotMeta(20_000, 2, ConfState(voters=(1,)))
    write_snapshot(storage, newest, [bytes(50_000)] * 40)
    applier.position = newest

    def is_due(entries: int, log_bytes: int) -> bool:
        applier.position = replace(newest, index=newest.index + entries)
        applier.log_bytes = log_bytes
        return snapshotter.is_due()

    assert not is_due(10_000, 400_000)
    assert is_due(10_000, 501_000)
    assert not is_due(9_999, 501_000)
    assert is_due(9_999, 64 * 1024 * 1024)

    # What was asked for does not wait.
    applier.log_bytes = 1
    snapshotter.want()
    assert snapshotter.is_due()


def test_the_log_is_counted_from_the_newest_snapshot() -> None:
    """From the one that was restored last, and not from one that could not be written."""
    clock = StillClock()
    parts, _ = make_parts(clock)
    storage, applier, snapshotter = parts.storage, parts.applier, parts.snapshotter
    received = SnapshotMeta(20_000, 2, ConfState(voters=(1,)))
    write_snapshot(storage, received, list(Store().snapshot()))
    applier.log_bytes = 10_000
    applier.begin_restore()
    restore = Restore(Snapshot(received.index, received.term, received.conf_state))
    applier.restore(restore)
    applier.restored(restore)
    size = storage.snapshot_bytes
    applier.position = replace(received, index=received.index + 10_000)
    applier.log_bytes += size // 4 - 1
    assert not snapshotter.is_due()
    applier.log_bytes += 2
    assert snapshotter.is_due()
    snapshotter.begin()
    snapshotter.failed(OSError(errno.ENOSPC, "no room"))
    assert not snapshotter.is_due()
    clock.now_s += 10
    assert snapshotter.is_due()


def write_snapshot(storage: NodeStorage, meta: SnapshotMeta, chunks: list[bytes]) -> None:
    """A snapshot that is there, which the log continues."""
    file = storage.begin_snapshot(meta, storage.read_envelope(storage.snapshot.id))
    file.write(chunks)
    file.finish()
    storage.continue_from(meta)
    assert storage.snapshot_bytes == file.size_bytes
