"""`run_node` inside somebody else's nursery: the example, and cancellation at any moment."""

import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import trio

from raftkv_trio import Committed, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import ProposalError
from tests.integration.cluster import free_ports

ROOT = Path(__file__).parents[2]


class Appended:
    """A state machine that is the list of its commands."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, batch: Sequence[Committed]) -> list[int]:
        self.commands.extend(committed.command for committed in batch)
        return [len(self.commands)] * len(batch)

    def snapshot(self) -> Iterator[bytes]:
        return iter(list(self.commands))

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = list(chunks)


def test_the_example_keeps_its_count(tmp_path: Path) -> None:
    """The counter of examples/ goes on where it was when it is started again."""
    outputs = [
        subprocess.run(
            [sys.executable, ROOT / "examples" / "counter.py", tmp_path / "data"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PYTHONPATH": str(ROOT)},
        ).stdout
        for _ in range(2)
    ]
    assert outputs == ["2 42\n", "44 84\n"]


async def test_cancelled_at_any_moment_it_unwinds_and_loses_nothing(tmp_path: Path) -> None:
    """Cancelled at 100 random moments under load, a node leaves no task and everything acknowledged."""
    rng = random.Random(4)
    (port,) = free_ports(1)
    config = NodeConfig(
        node_id=1, members=parse_cluster(f"http://127.0.0.1:{port}"), data_dir=tmp_path / "data"
    )
    acknowledged: list[bytes] = []

    async def load(node_round: int, client: int) -> None:
        for number in range(1_000_000):
            command = b"%d-%d-%d" % (node_round, client, number)
            try:
                await node.propose(command)
            except ProposalError:
                return
            acknowledged.append(command)

    with trio.fail_after(240):
        for node_round in range(100):
            machine = Appended()
            async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
                node = await nursery.start(run_node, config, machine)
                for client in range(4):
                    clients.start_soon(load, node_round, client)
                nursery.cancel_scope.deadline = trio.current_time() + rng.uniform(0, 0.1)
        machine = Appended()
        async with trio.open_nursery() as nursery:
            node = await nursery.start(run_node, config, machine)
            await node.wait_readable()
            nursery.cancel_scope.cancel()
    assert len(acknowledged) > 100
    assert set(acknowledged) <= set(machine.commands)
    assert len(machine.commands) == len(set(machine.commands))
