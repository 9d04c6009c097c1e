"""kill -9 of every node, again and again: nothing that was acknowledged is lost, and all was linearizable."""

import random
from collections.abc import Sequence

import httpx
import pytest
import trio

from raftkv_trio.testing import History, Register, RegisterGet, RegisterPut, check_linearizable
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import Cluster

CLIENTS = 9


@pytest.fixture
def arguments() -> Sequence[str]:
    """Snapshots all the time, and hardly anything kept behind them."""
    return ("--snapshot-entries", "50", "--catch-up-entries", "20")


class Countdown:
    def __init__(self, left: int) -> None:
        self._left = left
        self.is_over = trio.Event()

    def count(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.is_over.set()


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.long)])
async def test_kill_9_of_all_loses_nothing_acknowledged(
    cluster: Cluster, http: httpx.AsyncClient, rounds: int
) -> None:
    """Clients write and read through all nodes until all are killed; their history is linearizable.

    In the end every key is read: what was written to it last is there, and each write to a key of its own.
    """
    rng = random.Random(rounds)
    history: RegisterHistory = History(trio.current_time)
    clients = [Client(f"client-{number}", cluster, http, history, rng) for number in range(CLIENTS)]
    for _ in range(rounds):
        await cluster.wait_ready(http)
        writes = Countdown(rng.randrange(50, 200))
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(ask_until_killed, client, cluster, rng, writes)
            await writes.is_over.wait()
            cluster.kill()
        cluster.start()
    await cluster.wait_ready(http)
    for key in {str(operation.key) for operation in history.operations}:
        await clients[0].get(rng.choice(cluster.ids), key)
        assert clients[0].status in (200, 404)
    check_linearizable(history, Register())
    answered = [o for o in history.operations if o.answer is not None and o.answer.applied]
    assert sum(isinstance(o.request, RegisterPut) for o in answered) >= 50 * rounds
    assert sum(isinstance(o.request, RegisterGet) for o in answered) >= 10 * rounds


async def ask_until_killed(client: Client, cluster: Cluster, rng: random.Random, writes: Countdown) -> None:
    """Requests on keys that all share, and at times one on a key of its own, each through any node."""
    while True:
        node_id = rng.choice(cluster.ids)
        await (client.create(node_id) if rng.random() < 0.25 else client.ask_anything(node_id))
        if client.status is None:
            return
        if client.status == 204:
            writes.count()
