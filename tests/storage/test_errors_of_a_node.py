"""An error of the disk under a whole node: it ends, says where, and loses nothing that clients were told."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import ConfigError, OutcomeUnknown, ProposalError, StorageError, leaves
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import World
from tests.conftest import find_free_ports
from tests.integration.test_disk_full import AtOnce
from tests.storage.failing_disk import CHANGES, FailingDisk, without_room

CLIENTS = 3
COMMANDS = 100


class Run:
    """A node on a disk that may fail, and clients who write a new key each time.

    Attributes:
        acknowledged, refused: keys, by what was told of them; the rest is unknown.
    """

    def __init__(self, disk: FailingDisk, port: int) -> None:
        self.acknowledged: list[bytes] = []
        self.refused: list[bytes] = []
        self.store = Store()
        self._disk = disk
        self._keys = count()
        self._config = NodeConfig(
            node_id=1,
            members=parse_cluster(f"http://127.0.0.1:{port}"),
            data_dir=Path("/data"),
            segment_bytes=8192,
            snapshot_entries=10,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        async with trio.open_nursery() as nursery:
            yield await nursery.start(self._run_node)
            nursery.cancel_scope.cancel()

    async def _run_node(self, task_status: trio.TaskStatus[Node]) -> None:
        await run_node(
            self._config,
            self.store,
            disk=self._disk,
            world=World(worker=AtOnce(), bulk_worker=AtOnce(), random=random.Random(1)),
            task_status=task_status,
        )

    async def write(self, node: Node, commands: int = COMMANDS) -> None:
        """Until so many commands were acknowledged, or one was not."""
        async with trio.open_nursery() as clients:
            for _ in range(CLIENTS):
                clients.start_soon(self._write, node, len(self.acknowledged) + commands)

    async def _write(self, node: Node, until: int) -> None:
        while len(self.acknowledged) < until:
            key = b"%d" % next(self._keys)
            had_failed = self._disk.is_broken
            try:
                await node.propose(encode_txn(Txn(success=(Put(key, bytes(150)),))))
            except OutcomeUnknown:
                return
            except ProposalError:
                self.refused.append(key)
                return
            assert not had_failed, f"{key.decode()} was acknowledged after the error"
            self.acknowledged.append(key)

    def check(self, store: Store) -> None:
        """All that was acknowledged is there, nothing that was refused is."""
        assert not [key for key in self.acknowledged if not store.get(key)]
        assert not [key for key in self.refused if store.get(key)]


async def check_after_loss_of_power(run: Run, disk: FailingDisk, port: int) -> None:
    assert not disk.open_files, disk.culprit
    disk.disk.lose_power()
    again = Run(FailingDisk(disk.disk), port)
    async with again.running() as node:
        await node.wait_readable()
        run.check(again.store)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
async def test_an_error_in_any_call_ends_a_node(autojump_clock: trio.testing.MockClock, step: int) -> None:
    """It names the file, acknowledges nothing after it, and all that it had acknowledged is there again."""
    (port,) = find_free_ports(1)
    points = 0
    for number in range(0, 100_000, step):
        disk = FailingDisk(SimulatedDisk(random.Random(number)), number, may_fail=lambda c: c.kind in CHANGES)
        run = Run(disk, port)
        try:
            async with run.running() as node:
                await run.write(node)
        except* (StorageError, ConfigError) as group:
            said = [str(error) for error in leaves(group)]
        else:
            break
        points += 1
        assert all(str(disk.culprit.path) in sentence for sentence in said), f"{disk.culprit}: {said}"
        await check_after_loss_of_power(run, disk, port)
    print(f"{points} points")
    assert points * step > 200


async def test_without_room_in_any_call_a_node_waits_for_it(autojump_clock: trio.testing.MockClock) -> None:
    """It takes no writes until there is room again, and goes on by itself; only a first start cannot wait."""
    (port,) = find_free_ports(1)
    outcomes: Counter[str] = Counter()
    for number in range(100_000):
        disk = without_room(number, lasts=True)
        run = Run(disk, port)
        try:
            async with run.running() as node:
                await run.write(node)
                if disk.failed is None:
                    break
                await trio.testing.wait_all_tasks_blocked()
                assert "no room" in str(node.status().health), disk.culprit
                assert len(run.refused) == CLIENTS or len(run.acknowledged) >= COMMANDS
                await node.wait_readable()
                run.check(run.store)
                disk.mend()
                with trio.fail_after(60):
                    while node.status().health is not None:  # noqa: ASYNC110 - virtual time
                        await trio.sleep(0.1)
                await run.write(node, 20)
            outcomes["healed"] += 1
        except* (StorageError, ConfigError) as group:
            said = [str(error) for error in leaves(group)]
            assert all(f"{disk.culprit.path}: No space left on device" in sentence for sentence in said), said
            assert Path("/data/identity") not in disk.disk.files(Path("/")), disk.culprit
            outcomes["not begun"] += 1
        await check_after_loss_of_power(run, disk, port)
    print(f"{outcomes.total()} points: {outcomes['healed']} healed, {outcomes['not begun']} first starts")
    assert outcomes["healed"] > 40
    assert outcomes["not begun"] > 10
