"""Makes a backup with many keys. Usage: python -m benchmarks.programs.fill DIRECTORY FILE KEYS VALUE_BYTES

A node writes the keys in transactions of many operations, as no client of the REST API can, so that a million
of them take seconds. `raftkv-trio restore` makes members of a new cluster from FILE.
"""

import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from benchmarks.ports import free_ports
from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.kv import MAX_OPERATIONS, Put, Store, Txn, encode_txn

_PIECE_BYTES = 1024 * 1024
_OUTSTANDING = 6  # of at most 1 MiB each: a node lets 8 MiB wait


def _commands(keys: int, value_bytes: int) -> Iterator[bytes]:
    value = random.Random(1).randbytes(value_bytes)
    # A command has about 2 MiB at most.
    at_once = max(1, min(MAX_OPERATIONS, 1024 * 1024 // (value_bytes + 100)))
    for first in range(0, keys, at_once):
        puts = tuple(Put(b"/bench/%d" % key, value) for key in range(first, min(first + at_once, keys)))
        yield encode_txn(Txn(compares=(), success=puts, failure=()))


async def _propose_each(node: Node, commands: Iterator[bytes]) -> None:
    for command in commands:
        await node.propose(command)


async def _write_backup(node: Node, file: Path) -> None:
    with await node.open_snapshot() as snapshot, file.open("wb") as copy:
        while piece := await snapshot.read_at(copy.tell(), _PIECE_BYTES):
            copy.write(piece)


async def main(directory: Path, file: Path, keys: int, value_bytes: int) -> None:
    """Fill a node, write the backup, and check that it has all keys."""
    # Nobody dials a cluster of one, so the port that it advertises matters to nobody.
    config = NodeConfig(
        node_id=1,
        members=parse_cluster("http://127.0.0.1:1"),
        listen=next(iter(parse_cluster(f"http://127.0.0.1:{free_ports(1)[0]}").values())),
        data_dir=directory,
    )
    store = Store()
    async with trio.open_nursery() as running:
        node: Node = await running.start(partial(run_node, config, store))
        commands = _commands(keys, value_bytes)
        async with trio.open_nursery() as proposers:
            for _ in range(_OUTSTANDING):
                proposers.start_soon(_propose_each, node, commands)
        if len(store) != keys:
            raise SystemExit(f"{len(store)} keys were written instead of {keys}")
        await _write_backup(node, file)
        running.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
