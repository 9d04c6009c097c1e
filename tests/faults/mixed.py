"""Faults of nodes and disks, and faults of the network at the same time, one after another under load.

The seed decides which faults strike, when and for how long; which node a fault strikes depends on the leader.
The machine is real, so equal seeds give similar runs, not equal ones.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx
import trio

from raftkv_trio.testing import Register, check_linearizable
from tests.faults.load import Load
from tests.faults.namespaced import NamespacedCluster
from tests.faults.network import NotInThisKernel
from tests.integration.cluster import PATIENCE_S, POLL_S

_FAULT_S = (1.0, 6.0)
_PAUSE_S = (1.0, 4.0)
_ANSWER_S = 0.5


@dataclass(slots=True)
class Scene:
    """What a fault is made of."""

    cluster: NamespacedCluster
    http: httpx.AsyncClient
    rng: random.Random

    async def target(self) -> int:
        """A node, mostly the leader if a node knows it."""
        leader = await self.leader() if self.rng.random() < 0.7 else None
        return leader or self.rng.choice(self.cluster.ids)

    async def leader(self) -> int | None:
        for node_id in self.cluster.running:
            try:
                with trio.move_on_after(_ANSWER_S):
                    if (await self.cluster.status(self.http, node_id))["role"] == "leader":
                        return node_id
            except httpx.TransportError:
                pass  # whether it is this one is not known
        return None

    def check_alive(self) -> None:
        """No fault of ours is a reason for a node to end."""
        for node_id, code in self.cluster.take_ended().items():
            last_words = self.cluster.log(node_id).read_text().splitlines()[-1]
            raise AssertionError(f"node {node_id} has ended with exit code {code}: {last_words}")


Fault = Callable[[Scene], AbstractAsyncContextManager[None]]

# ---------------------------------------------------------------- nodes and disks


@asynccontextmanager
async def kill_9_of_one(scene: Scene) -> AsyncIterator[None]:
    node_id = await scene.target()
    scene.cluster.kill(node_id)
    try:
        yield
    finally:
        scene.cluster.start(node_id)


@asynccontextmanager
async def kill_9_of_all(scene: Scene) -> AsyncIterator[None]:
    scene.cluster.kill()
    try:
        yield
    finally:
        scene.cluster.start()


@asynccontextmanager
async def clean_stop(scene: Scene) -> AsyncIterator[None]:
    node_id = await scene.target()
    await scene.cluster.wait_serving(scene.http, node_id)  # before, it would end by the signal
    exit_code = await trio.to_thread.run_sync(scene.cluster.stop, node_id)
    try:
        assert exit_code == 0
        yield
    finally:
        scene.cluster.start(node_id)


@asynccontextmanager
async def halt(scene: Scene) -> AsyncIterator[None]:
    node_id = await scene.target()
    scene.cluster.halt(node_id)
    try:
        yield
    finally:
        scene.cluster.resume(node_id)


@asynccontextmanager
async def full_disk(scene: Scene) -> AsyncIterator[None]:
    node_id = await scene.target()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_full, scene.cluster, node_id)
            yield
            nursery.cancel_scope.cancel()
    finally:
        scene.cluster.disks.free(node_id)


async def keep_full(cluster: NamespacedCluster, node_id: int) -> None:
    """Take the room that the node makes as well."""
    while True:
        cluster.disks.fill(node_id)
        await trio.sleep(POLL_S)


# ---------------------------------------------------------------- the network


@asynccontextmanager
async def partition(scene: Scene) -> AsyncIterator[None]:
    """A minority, mostly with the leader, and the others hear nothing of each other."""
    first = await scene.target()
    others = [node_id for node_id in scene.cluster.ids if node_id != first]
    side = [first, *scene.rng.sample(others, scene.rng.randrange(len(scene.cluster.ids) // 2))]
    with network_heals(scene):
        for one in side:
            for other in set(scene.cluster.ids) - set(side):
                scene.cluster.network.cut(one, other)
                scene.cluster.network.cut(other, one)
        yield


@asynccontextmanager
async def one_way_cut(scene: Scene) -> AsyncIterator[None]:
    """One node hears no other node, or is heard by none."""
    node_id = await scene.target()
    is_deaf = scene.rng.random() < 0.5
    with network_heals(scene):
        for other in set(scene.cluster.ids) - {node_id}:
            scene.cluster.network.cut(*((other, node_id) if is_deaf else (node_id, other)))
        yield


@asynccontextmanager
async def ring(scene: Scene) -> AsyncIterator[None]:
    """Each hears only its two neighbours."""
    with network_heals(scene):
        cut_to_ring(scene.cluster)
        yield


@asynccontextmanager
async def loss(scene: Scene) -> AsyncIterator[None]:
    with network_heals(scene):
        for node_id in scene.cluster.ids:
            scene.cluster.network.lose(node_id, scene.rng.uniform(0.01, 0.3))
        yield


@asynccontextmanager
async def narrow_link(scene: Scene) -> AsyncIterator[None]:
    node_id = await scene.target()
    with network_heals(scene):
        scene.cluster.network.narrow(node_id, scene.rng.choice([50, 100, 200]))
        yield


@contextmanager
def network_heals(scene: Scene) -> Iterator[None]:
    try:
        yield
    finally:
        scene.cluster.network.heal()


def cut_to_ring(cluster: NamespacedCluster) -> None:
    """Each node, of five, goes on hearing the one before and the one after it."""
    for one in cluster.ids:
        for other in cluster.ids:
            if (one - other) % len(cluster.ids) not in (0, 1, len(cluster.ids) - 1):
                cluster.network.cut(one, other)


# ---------------------------------------------------------------- the run

NODE_FAULTS: Sequence[Fault] = (kill_9_of_one, kill_9_of_all, clean_stop, halt, full_disk)
LINK_FAULTS: Sequence[Fault] = (partition, one_way_cut, ring, loss, narrow_link)


@dataclass(frozen=True, slots=True)
class Report:
    """What happened in a run that went well."""

    seed: int
    seconds: float
    faults: Counter[str]
    outcomes: Counter[str]
    longest_without_write_s: float
    recovered_s: float
    checked_steps: int

    def __str__(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))

        return (
            f"seed {self.seed}, {self.seconds:.0f} s; {self.outcomes.total()} operations in"
            f" {self.checked_steps} steps of the checker: {counts(self.outcomes)}\n"
            f"faults: {counts(self.faults)}\n"
            f"longest without an acknowledged write: {self.longest_without_write_s:.1f} s;"
            f" all nodes took writes {self.recovered_s:.1f} s after the last fault"
        )


async def run_mixed(
    cluster: NamespacedCluster,
    http: httpx.AsyncClient,
    *,
    seed: int,
    seconds: float,
    streams: Sequence[Sequence[Fault]] = (NODE_FAULTS, LINK_FAULTS),
) -> Report:
    """Faults under load for so long; then all heals, and all that was promised must hold.

    Args:
        streams: faults of one happen one after another, those of several at the same time.

    Raises:
        HistoryError, trio.TooSlowError, AssertionError: it does not hold.
    """
    load = Load(cluster, http, seed)
    scene = Scene(cluster, http, random.Random(f"targets of {seed}"))
    faults: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as drawn:
                for number, kinds in enumerate(streams):
                    rng = random.Random(f"stream {number} of {seed}")
                    drawn.start_soon(draw_faults, scene, kinds, rng, faults)
        healed_at = trio.current_time()
        with trio.fail_after(PATIENCE_S):
            await load.write_through_all()
        recovered_s = trio.current_time() - healed_at
        nursery.cancel_scope.cancel()
    scene.check_alive()
    await cluster.wait_ready(http)
    await cluster.wait_equal(http)
    await load.read_all()
    return Report(
        seed=seed,
        seconds=seconds,
        faults=faults,
        outcomes=load.outcomes(),
        longest_without_write_s=load.longest_without_write_s(),
        recovered_s=recovered_s,
        checked_steps=check_linearizable(load.history, Register()),
    )


async def draw_faults(scene: Scene, kinds: Sequence[Fault], rng: random.Random, counts: Counter[str]) -> None:
    """For ever: each of `kinds` once, in an order that is drawn, and again."""
    while True:
        for fault in rng.sample(kinds, len(kinds)):
            try:
                async with fault(scene):
                    counts[fault.__name__] += 1
                    await trio.sleep(rng.uniform(*_FAULT_S))
            except NotInThisKernel:
                counts[f"{fault.__name__} that the kernel lacks"] += 1
            await trio.sleep(rng.uniform(*_PAUSE_S))
            scene.check_alive()
