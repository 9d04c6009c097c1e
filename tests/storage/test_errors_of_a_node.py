"""An error of the disk under a whole node: it ends, says where, and loses nothing that clients were told."""

import random
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import ConfigError, ProposalError, StorageError
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.testing.disk import SimulatedDisk
from tests.conftest import find_free_ports
from tests.integration.test_disk_full import AtOnce
from tests.storage.failing_disk import CHANGES, FailingDisk

CLIENTS = 3
COMMANDS = 100


class Run:
    """A node on a disk that may fail, and clients who write a new key each time."""

    def __init__(self, disk: FailingDisk, port: int) -> None:
        self.acknowledged: list[bytes] = []
        self.node: Node | None = None
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

    async def run(self, *, commands: int = COMMANDS) -> None:
        """Until that many commands were acknowledged, or the node ends."""
        async with trio.open_nursery() as nursery:
            self.node = await nursery.start(self._run_node)
            async with trio.open_nursery() as clients:
                for _ in range(CLIENTS):
                    clients.start_soon(self._write, commands)
            nursery.cancel_scope.cancel()

    async def _run_node(self, task_status: trio.TaskStatus[Node]) -> None:
        await run_node(
            self._config,
            self.store,
            disk=self._disk,
            worker=AtOnce(),
            bulk_worker=AtOnce(),
            random=random.Random(1),
            task_status=task_status,
        )

    async def _write(self, commands: int) -> None:
        assert self.node is not None
        while len(self.acknowledged) < commands:
            key = b"%d" % next(self._keys)
            had_failed = self._disk.failed is not None
            try:
                await self.node.propose(encode_txn(Txn(success=(Put(key, bytes(150)),))))
            except ProposalError:
                return
            assert not had_failed, f"{key.decode()} was acknowledged after the error"
            self.acknowledged.append(key)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
async def test_an_error_in_any_call_ends_a_node(autojump_clock: trio.testing.MockClock, step: int) -> None:
    """It names the file, acknowledges nothing after it, and all that it had acknowledged is there again."""
    (port,) = find_free_ports(1)
    points = 0
    for number in range(0, 100_000, step):
        disk = FailingDisk(SimulatedDisk(random.Random(number)), number, may_fail=lambda c: c.kind in CHANGES)
        run = Run(disk, port)
        try:
            await run.run()
        except* (StorageError, ConfigError) as group:
            said = [str(error) for error in leaves(group)]
        else:
            break
        points += 1
        assert all(str(disk.culprit.path) in sentence for sentence in said), f"{disk.culprit}: {said}"
        disk.disk.lose_power()
        again = Run(FailingDisk(disk.disk), port)
        await again.run(commands=3)
        missing = [key for key in run.acknowledged if not again.store.get(key)]
        assert not missing, f"after {disk.culprit} in call {number}"
    print(f"{points} points")
    assert points * step > 200
