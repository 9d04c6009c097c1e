"""`run_node` inside somebody else's nursery: the example, and cancellation at any moment."""

import itertools
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import trio

from raftkv_trio import Committed, Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import ProposalError
from tests.conftest import find_free_ports

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
    (port,) = find_free_ports(1)
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


class Life:
    """A node that is started again whenever it is cancelled."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._scope = trio.CancelScope()
        self.machine = Appended()
        self.node: Node | None = None

    async def run(self) -> None:
        while True:
            with trio.CancelScope() as self._scope:
                self.machine = Appended()
                async with trio.open_nursery() as nursery:
                    self.node = await nursery.start(run_node, self._config, self.machine)

    def cancel(self) -> None:
        self.node = None  # until it runs again
        self._scope.cancel()


async def test_members_cancelled_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    """Members of a cluster cancelled at 50 random moments under load agree afterwards on all acknowledged."""
    rng = random.Random(9)
    members = parse_cluster(",".join(f"http://127.0.0.1:{port}" for port in find_free_ports(3)))
    lives = [
        Life(NodeConfig(node_id=i, members=members, data_dir=tmp_path / str(i), tick_interval_s=0.02))
        for i in members
    ]
    acknowledged: list[bytes] = []
    tasks_before = trio.lowlevel.current_statistics().tasks_living

    async def load(client: int) -> None:
        for number in itertools.count():
            node = rng.choice(lives).node
            command = b"%d-%d" % (client, number)
            with trio.move_on_after(0.5):
                try:
                    if node is not None:
                        await node.propose(command)
                        acknowledged.append(command)
                except ProposalError:
                    pass
            await trio.lowlevel.checkpoint()

    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            for life in lives:
                nursery.start_soon(life.run)
            async with trio.open_nursery() as clients:
                for client in range(6):
                    clients.start_soon(load, client)
                for _ in range(50):
                    acknowledged_before = len(acknowledged)
                    await trio.sleep(rng.uniform(0, 0.2))
                    rng.choice(lives).cancel()
                    while len(acknowledged) == acknowledged_before:  # noqa: ASYNC110 - the load's progress
                        await trio.sleep(0.01)
                clients.cancel_scope.cancel()
            for life in lives:
                while life.node is None:  # noqa: ASYNC110 - it is being started again
                    await trio.sleep(0.01)
                await life.node.wait_readable()
            nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    for life in lives:
        commands = life.machine.commands
        assert set(acknowledged) <= set(commands)
        assert len(commands) == len(set(commands))
        shortest = min(len(commands), len(lives[0].machine.commands))
        assert commands[:shortest] == lives[0].machine.commands[:shortest]
