"""A replicated counter: any state machine in anyone's nursery. Usage: python counter.py [DIRECTORY]"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import trio

from raftkv_trio import Committed, NodeConfig, RaftKVError, leaves, parse_cluster, run_node


class Counter:
    total = 0

    def apply(self, batch: Sequence[Committed]) -> list[int]:
        return [self.add(int(committed.command)) for committed in batch]

    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.total])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.total = int(b"".join(chunks))


async def main(directory: Path) -> None:
    config = NodeConfig(node_id=1, members=parse_cluster("http://127.0.0.1:9031"), data_dir=directory)
    async with trio.open_nursery() as nursery:
        node = await nursery.start(run_node, config, Counter())
        print(await node.propose(b"2"), await node.propose(b"40"))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    ended: str | int = 0
    try:
        trio.run(main, Path(*sys.argv[1:] or ["counter-data"]))
    except* RaftKVError as errors:
        ended = "\n".join(str(error) for error in leaves(errors))  # each says what to do
    except* KeyboardInterrupt:
        ended = 130
    sys.exit(ended)
