"""A snapshot of a million keys of 100 bytes: how long writes wait for it, and a restart from it takes."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from raftkv_trio.kv.checks import MAX_OPERATIONS
from tests.conftest import find_free_ports

pytestmark = pytest.mark.timing

KEYS = 1_000_000
MAX_WAIT_S = 0.25
MAX_MEMORY_RATIO = 2.2
MAX_RESTART_S = 15.0


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def put(*numbers: int) -> bytes:
    return encode_txn(Txn(success=tuple([Put(b"key-%07d" % number, bytes(100)) for number in numbers])))


@asynccontextmanager
async def running(config: NodeConfig) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(run_node, config, Store())
        nursery.cancel_scope.cancel()


async def test_a_snapshot_of_a_million_keys(tmp_path: Path) -> None:
    """No write waits longer than 250 ms for it, there is no second copy, a restart takes under 15 s."""
    config = NodeConfig(
        node_id=1,
        members=parse_cluster(f"http://127.0.0.1:{find_free_ports(1)[0]}"),
        data_dir=tmp_path / "data",
        snapshot_entries=10**9,
        snapshot_log_bytes=10**12,
    )
    before_bytes, peak_bytes, waits_s = resident_bytes(), 0, [0.0]
    async with running(config) as node:
        for first in range(0, KEYS, MAX_OPERATIONS):
            await node.propose(put(*range(first, min(first + MAX_OPERATIONS, KEYS))))
        store_bytes = resident_bytes() - before_bytes

        async def write_on(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            nonlocal peak_bytes
            with trio.CancelScope() as scope:
                task_status.started(scope)
                while True:
                    begun_at = time.perf_counter()
                    await node.propose(put((len(waits_s) * 7919) % KEYS))
                    waits_s.append(time.perf_counter() - begun_at)
                    peak_bytes = max(peak_bytes, resident_bytes())

        async with trio.open_nursery() as nursery:
            scope = await nursery.start(write_on)
            begun_at = time.perf_counter()
            await node.take_snapshot()
            took_s = time.perf_counter() - begun_at
            scope.cancel()
    begun_at = time.perf_counter()
    async with running(config) as node:
        await node.wait_readable()
        restart_s = time.perf_counter() - begun_at
    ratio = (peak_bytes - before_bytes) / store_bytes
    print(
        f"snapshot {took_s:.1f} s beside {len(waits_s)} writes, of which the slowest took"
        f" {max(waits_s) * 1000:.0f} ms; memory {ratio:.2f} of {store_bytes / 1e6:.0f} MB;"
        f" restart {restart_s:.1f} s"
    )
    assert max(waits_s) < MAX_WAIT_S
    assert ratio < MAX_MEMORY_RATIO
    assert restart_s < MAX_RESTART_S
