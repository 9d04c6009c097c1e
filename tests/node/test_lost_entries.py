"""A node that has lost acknowledged entries marks its data directory, whatever else it is doing."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio
import trio.testing

from raftkv_trio import NodeConfig, run_node
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.kv import Store
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.raft.errors import AcknowledgedEntriesLost
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import Worker, World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DIRECTORY = Path("/data")
MARK = DIRECTORY / "lost"
LOST = AcknowledgedEntriesLost(2, 300, 200)


class AtOnce(Worker):
    """Calls the function at once, as the simulated disk needs no thread."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return fn(*args)


class Busy(Worker):
    """Is in the middle of something that takes for ever."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.sleep_forever()
        raise AssertionError


@asynccontextmanager
async def running(disk: SimulatedDisk, port: int) -> AsyncIterator[NodeParts]:
    """The parts of a node whose bulk worker is busy, with the restore of a large snapshot for example."""
    config = NodeConfig(node_id=1, members={1: PeerAddress("127.0.0.1", port)}, data_dir=DIRECTORY)
    world = World(worker=AtOnce(), bulk_worker=Busy(), random=random.Random(1))
    made: list[NodeParts] = []
    async with trio.open_nursery() as nursery:
        run = partial(run_node, config, Store(), disk=disk, world=world, watch=made.append)
        await nursery.start(run)
        yield made[0]
        nursery.cancel_scope.cancel()


async def wait_for_mark(disk: SimulatedDisk) -> None:
    with trio.fail_after(30):
        while not disk.exists(MARK):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.1)


async def test_the_mark_does_not_wait_for_bulk_work(
    autojump_clock: trio.testing.MockClock, free_ports: Callable[[int], list[int]]
) -> None:
    """A restore may take minutes, in which a supervisor may kill the node and start it again."""
    disk = SimulatedDisk(random.Random(1))
    async with running(disk, *free_ports(1)) as parts:
        parts.lost_entries.noticed(LOST)
        await wait_for_mark(disk)


async def test_a_node_that_is_stopped_at_once_is_marked(
    autojump_clock: trio.testing.MockClock, free_ports: Callable[[int], list[int]]
) -> None:
    """Its task has had no turn; one that has lost nothing is not marked."""
    disk, (port,) = SimulatedDisk(random.Random(1)), free_ports(1)
    async with running(disk, port):
        pass
    assert not disk.exists(MARK)
    async with running(disk, port) as parts:
        parts.lost_entries.noticed(LOST)
    assert disk.exists(MARK)


async def test_without_room_it_goes_on_silent_and_tries_again(
    autojump_clock: trio.testing.MockClock, free_ports: Callable[[int], list[int]]
) -> None:
    """It does not end, or it would be started again without the mark."""
    disk = SimulatedDisk(random.Random(1))
    async with running(disk, *free_ports(1)) as parts:
        disk.free_bytes = 0
        parts.lost_entries.noticed(LOST)
        await trio.sleep(60)
        assert not disk.exists(MARK)
        disk.free_bytes = None
        await wait_for_mark(disk)


async def test_the_advice_covers_a_lost_majority(
    autojump_clock: trio.testing.MockClock, free_ports: Callable[[int], list[int]]
) -> None:
    """Then nobody can be removed, and this member is the wrong one to go on with."""
    async with running(SimulatedDisk(random.Random(1)), *free_ports(1)) as parts:
        parts.lost_entries.noticed(LOST)
        reason = str(parts.lost_entries.reason)
    assert "remove node 1 from the cluster" in reason
    assert "if the others are no majority, bring them back first" in reason
    assert "`member force-new-cluster` on a healthy member" in reason
