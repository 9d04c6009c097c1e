"""One node of three, without HTTP; the one that leads proposes, and prints its rate as a line of JSON.

Usage: python -m benchmarks.programs.proposer ID CLUSTER DIRECTORY OUTSTANDING BYTES SECONDS

It runs until it is stopped, since the others need its vote.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import trio

from raftkv_trio import Committed, Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.cli.collector import collect_less_often

_WARM_UP_S = 0.5


class _Counter:
    """Counts commands: a state machine that costs as little as one can."""

    count = 0

    def apply(self, batch: Sequence[Committed]) -> list[None]:
        self.count += len(batch)
        return [None] * len(batch)

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.count])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count = int(b"".join(chunks))


async def _propose(node: Node, command: bytes) -> None:
    while True:
        await node.propose(command)


async def main(
    node_id: int, cluster: str, directory: Path, outstanding: int, size: int, seconds: float
) -> None:
    """Run the node; if it leads, load it, and print the rate."""
    config = NodeConfig(node_id=node_id, members=parse_cluster(cluster), data_dir=directory)
    machine = _Counter()
    async with trio.open_nursery() as running:
        node: Node = await running.start(partial(run_node, config, machine))
        await node.wait_readable()
        if node.status().leader_id != node_id:
            await trio.sleep_forever()
        async with trio.open_nursery() as proposers:
            for _ in range(outstanding):
                proposers.start_soon(_propose, node, bytes(size))
            await trio.sleep(_WARM_UP_S)
            began_s, began = perf_counter(), machine.count
            await trio.sleep(seconds)
            rate = (machine.count - began) / (perf_counter() - began_s)
            proposers.cancel_scope.cancel()
        print(json.dumps({"rate_per_s": rate}), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    collect_less_often()  # as docs/embedding.md advises, and `serve` does
    trio.run(
        main,
        int(sys.argv[1]),
        sys.argv[2],
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
        float(sys.argv[6]),
    )
