"""A disk without room: writes are refused, reads are not, and it heals by itself; on a simulated disk."""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio
import trio.testing

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import DiskFull, SnapshotNotTaken
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import Worker, World
from tests.conftest import find_free_ports

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SEGMENT_BYTES = 64 * 1024
KEYS = 200


class AtOnce:
    """A worker that needs no thread, since the disk is in memory."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return fn(*args)


class AfterASecond:
    """A worker that takes its time."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.sleep(1)
        return fn(*args)


def put(number: int, size_bytes: int = 200) -> bytes:
    return encode_txn(Txn(success=(Put(b"%d" % number, bytes(size_bytes)),)))


async def put_until_refused(node: Node, acknowledged: list[int]) -> None:
    for number in range(10 * KEYS):
        await node.propose(put(number))
        acknowledged.append(number)


@asynccontextmanager
async def running(
    disk: SimulatedDisk,
    store: Store,
    port: int,
    *,
    snapshot_entries: int = 100,
    bulk_worker: Worker | None = None,
) -> AsyncIterator[Node]:
    config = NodeConfig(
        node_id=1,
        members=parse_cluster(f"http://127.0.0.1:{port}"),
        data_dir=Path("/data"),
        segment_bytes=SEGMENT_BYTES,
        snapshot_entries=snapshot_entries,
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(
            lambda task_status: run_node(
                config,
                store,
                disk=disk,
                world=World(worker=AtOnce(), bulk_worker=bulk_worker or AtOnce(), random=random.Random(1)),
                task_status=task_status,
            )
        )
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("left_bytes", [0, 5_000, SEGMENT_BYTES])
async def test_writes_are_refused_until_there_is_room_again(
    autojump_clock: trio.testing.MockClock, left_bytes: int
) -> None:
    """No acknowledged write is lost, whether the next segment or a snapshot finds the disk full."""
    disk, store, (port,) = SimulatedDisk(random.Random(1)), Store(), find_free_ports(1)
    acknowledged: list[int] = []
    async with running(disk, store, port) as node:
        await node.propose(put(0))
        await trio.testing.wait_all_tasks_blocked()
        disk.free_bytes = left_bytes
        with pytest.raises(DiskFull, match="no room"):
            await put_until_refused(node, acknowledged)
        assert acknowledged
        await node.wait_readable()
        assert store.get(b"%d" % acknowledged[-1])
        assert "no room" in str(node.status().health)
        disk.free_bytes = None
        with trio.fail_after(60):
            while node.status().health is not None:  # noqa: ASYNC110 - virtual time
                await trio.sleep(0.1)
        await node.propose(put(10 * KEYS))
        acknowledged.append(10 * KEYS)
    disk.lose_power()
    store = Store()
    async with running(disk, store, port) as node:
        await node.wait_readable()
        assert all(store.get(b"%d" % number) for number in acknowledged)


async def test_the_next_segment_comes_before_a_snapshot(autojump_clock: trio.testing.MockClock) -> None:
    """What room there is for it is not spent on a snapshot that does not fit."""
    disk, store, (port,) = SimulatedDisk(random.Random(1)), Store(), find_free_ports(1)
    spare = Path("/data/wal/spare")
    async with running(disk, store, port, snapshot_entries=100_000) as node:
        await node.propose(put(0))
        await trio.testing.wait_all_tasks_blocked()
        disk.free_bytes = 0
        with pytest.raises(DiskFull, match="no room"):
            await put_until_refused(node, [])
        assert not disk.exists(spare)
        disk.free_bytes = SEGMENT_BYTES + 5_000
        with pytest.raises(SnapshotNotTaken, match="no room for a snapshot"):
            await node.take_snapshot()
        assert disk.exists(spare)


async def test_a_long_snapshot_does_not_leave_the_log_without_its_next_segment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A spare segment that the log takes meanwhile is replaced before the snapshot is done."""
    disk, (port,) = SimulatedDisk(random.Random(1)), find_free_ports(1)
    spare = Path("/data/wal/spare")
    spare_was_there: list[bool] = []

    class Watched(Store):
        def snapshot(self) -> Iterator[bytes]:
            yield from super().snapshot()
            spare_was_there.append(disk.exists(spare))

    async with running(disk, Watched(), port, snapshot_entries=100_000, bulk_worker=AfterASecond()) as node:
        for number in range(8):
            await node.propose(put(number, 1024 * 1024))
        await trio.sleep(10)
        assert disk.exists(spare)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.take_snapshot)
            await trio.sleep(1.5)
            for number in range(KEYS, 3 * KEYS):
                await node.propose(put(number))
            assert not disk.exists(spare)
    assert spare_was_there == [True]
