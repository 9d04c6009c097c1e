"""`run_node` inside a user's nursery: the example, and cancellation at any moment."""

import fcntl
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from raftkv_trio import Node, NodeConfig, parse_cluster, run_node
from raftkv_trio.errors import NoLeader, OutcomeUnknown, ProposalError
from tests.conftest import find_free_ports
from tests.machines import Commands

ROOT = Path(__file__).parents[2]
SEGMENT_BYTES = 1024 * 1024  # a start reads the whole of the newest segment
MOMENTS_ALONE, MOMENTS_OF_THREE = 40, 60


class Member:
    """A node that is run again and again from its directory; `node` is None while it does not run."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.scope = trio.CancelScope()
        self.node: Node | None = None
        self.machine = Commands()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Run once, until `scope` is cancelled, which is a new one afterwards."""
        self.machine = Commands()
        with self.scope:
            async with trio.open_nursery() as nursery:
                self.node = await nursery.start(run_node, self._config, self.machine)
                started()
        self.node = None
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        self.node = None  # until it runs again
        self.scope.cancel()

    async def run_for_ever(self) -> None:
        while True:
            await self.run()


def members(directory: Path, count: int, tick_interval_s: float = 0.1) -> list[Member]:
    urls = ",".join(f"http://127.0.0.1:{port}" for port in find_free_ports(count))
    return [
        Member(
            NodeConfig(
                node_id=node_id,
                members=parse_cluster(urls),
                data_dir=directory / str(node_id),
                tick_interval_s=tick_interval_s,
                segment_bytes=SEGMENT_BYTES,
            )
        )
        for node_id in range(1, count + 1)
    ]


class Load:
    """Clients' commands, each one once, and what their clients were told of them."""

    def __init__(self) -> None:
        self._count = 0
        self.acknowledged: list[bytes] = []
        self.refused: set[bytes] = set()

    async def propose(self, node: Node) -> bytes | None:
        """Propose the next command; returns it if it was acknowledged."""
        self._count += 1
        command = b"%d" % self._count
        await trio.lowlevel.checkpoint()  # a node that is stopping refuses without one
        try:
            await node.propose(command)
        except OutcomeUnknown:
            return None
        except ProposalError:
            self.refused.add(command)
            return None
        self.acknowledged.append(command)
        return command

    def check(self, commands: Sequence[bytes]) -> None:
        """Everything acknowledged is in the log, once; nothing refused is."""
        assert len(self.acknowledged) > 100
        assert set(self.acknowledged) <= set(commands)
        assert self.refused.isdisjoint(commands)
        assert len(commands) == len(set(commands))


@contextmanager
def nothing_left() -> Iterator[None]:
    """What runs inside leaves neither a task nor a thread at work."""
    before = trio.lowlevel.current_statistics().tasks_living
    yield
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert [t.name for t in threading.enumerate() if " from " in t.name] == []  # as Trio names those at work


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


def test_the_example_ends_with_a_sentence(tmp_path: Path) -> None:
    """A second counter in the same directory is told so, without a traceback."""
    command = [sys.executable, str(ROOT / "examples" / "counter.py"), str(tmp_path / "data")]
    environment = {"PYTHONPATH": str(ROOT)}
    (tmp_path / "data").mkdir()
    lock = os.open(tmp_path / "data" / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    finally:
        os.close(lock)
    assert (second.returncode, second.stdout) == (1, "")
    assert re.fullmatch(r"data directory \S+ is in use by a running node; .*\n", second.stderr)


async def test_cancelled_at_any_moment_it_unwinds_and_loses_nothing(tmp_path: Path) -> None:
    """Cancelled at random moments of its start and under load, a node leaves no task and loses nothing."""
    rng = random.Random(4)
    (member,) = members(tmp_path, 1)
    load = Load()

    async def ask() -> None:
        while member.node is not None:
            await load.propose(member.node)

    with trio.fail_after(240):
        for moment in range(MOMENTS_ALONE):
            with nothing_left():
                async with trio.open_nursery() as nursery:

                    def serve_clients(moment: int = moment, nursery: trio.Nursery = nursery) -> None:
                        if moment % 2:
                            member.scope.deadline = trio.current_time() + rng.uniform(0, 0.1)
                        for _ in range(4):
                            nursery.start_soon(ask)

                    if not moment % 2:
                        member.scope.deadline = trio.current_time() + rng.uniform(0, 0.1)
                    nursery.start_soon(member.run, serve_clients)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.run_for_ever)
            load.check(await applied_by(member))
            nursery.cancel_scope.cancel()


async def test_members_cancelled_at_any_moment_lose_nothing_together(tmp_path: Path) -> None:
    """One or two of three nodes are cancelled at random moments under load, and start again.

    Every command that was acknowledged is known to every node at once, and none is lost.
    """
    rng = random.Random(5)
    three = members(tmp_path, 3, tick_interval_s=0.01)
    load = Load()

    async def ask() -> None:
        while True:
            proposer, reader = rng.choice(three), rng.choice(three)
            command = None if proposer.node is None else await load.propose(proposer.node)
            if command is not None and reader.node is not None:
                machine = reader.machine
                try:
                    await reader.node.wait_readable()
                except NoLeader:
                    continue  # it was cancelled
                assert command in machine.commands
            await trio.lowlevel.checkpoint()

    with trio.fail_after(240), nothing_left():
        async with trio.open_nursery() as nursery:
            for member in three:
                nursery.start_soon(member.run_for_ever)
            async with trio.open_nursery() as clients:
                for _ in range(4):
                    clients.start_soon(ask)
                for _ in range(MOMENTS_OF_THREE):
                    acknowledged = len(load.acknowledged)
                    while len(load.acknowledged) == acknowledged:  # noqa: ASYNC110 - any of many clients
                        await trio.sleep(0.01)
                    await trio.sleep(rng.uniform(0, 0.1))
                    for member in rng.sample(three, rng.choice([1, 1, 2])):
                        member.cancel()
                clients.cancel_scope.cancel()
            orders = [await applied_by(member) for member in three]
            nursery.cancel_scope.cancel()
    common = min(map(len, orders))  # what was given up may have been applied between two looks
    assert orders[0][:common] == orders[1][:common] == orders[2][:common]
    for order in orders:
        load.check(order)


async def applied_by(member: Member) -> Sequence[bytes]:
    """What a member has applied, once it is up and has caught up."""
    while member.node is None:  # noqa: ASYNC110 - it may be starting
        await trio.sleep(0.01)
    await member.node.wait_readable()
    return list(member.machine.commands)
