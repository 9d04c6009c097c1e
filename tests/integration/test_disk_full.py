"""A disk without room: writes are refused, reads are not, and it heals by itself; on a simulated disk."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import DiskFull
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing.disk import SimulatedDisk
from tests.conftest import find_free_ports

T = TypeVar("T")
SEGMENT_BYTES = 64 * 1024
KEYS = 200


class AtOnce:
    """A worker that needs no thread, since the disk is in memory."""

    async def run(self, work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work()


def put(number: int) -> bytes:
    return encode_txn(Txn(success=(Put(b"%d" % number, bytes(200)),)))


async def put_until_refused(node: Node, acknowledged: list[int]) -> None:
    for number in range(10 * KEYS):
        await node.propose(put(number))
        acknowledged.append(number)


@asynccontextmanager
async def running(disk: SimulatedDisk, store: Store, port: int) -> AsyncIterator[Node]:
    config = NodeConfig(
        node_id=1,
        members=parse_cluster(f"http://127.0.0.1:{port}"),
        data_dir=Path("/data"),
        segment_bytes=SEGMENT_BYTES,
        snapshot_entries=100,
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(
            lambda task_status: run_node(
                config,
                store,
                disk=disk,
                worker=AtOnce(),
                bulk_worker=AtOnce(),
                random=random.Random(1),
                task_status=task_status,
            )
        )
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("left_bytes", [0, 5_000, SEGMENT_BYTES])
async def test_writes_are_refused_until_there_is_room_again(
    autojump_clock: trio.testing.MockClock, left_bytes: int
) -> None:
    """None that was acknowledged is lost, whatever is full first: the next segment or a snapshot."""
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
