"""Real processes that change their members, or are restarted one by one, while clients write."""

import random
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.testing import History, Register, check_linearizable
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import PATIENCE_S, Cluster
from tests.integration.members import add, members, started

CLIENTS = 4
WRITES_A_STEP = 100


class Load:
    """Clients of the nodes that serve, until they are cancelled."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient, rng: random.Random) -> None:
        self.history: RegisterHistory = History(trio.current_time)
        self.serving = {1}
        self.clients = [Client(f"client-{i}", cluster, http, self.history, rng) for i in range(CLIENTS)]
        self._rng = rng
        self._written = 0
        self._more = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(self._ask, client)

    async def _ask(self, client: Client) -> None:
        while True:
            node_id = self._rng.choice(sorted(self.serving))
            await (client.create(node_id) if self._rng.random() < 0.2 else client.ask_anything(node_id))
            if client.status == 204:
                self._written += 1
                self._more.set()

    async def wait_written(self, more: int) -> None:
        """Until so many more writes were acknowledged."""
        wanted = self._written + more
        with trio.fail_after(PATIENCE_S):
            while self._written < wanted:
                self._more = trio.Event()
                await self._more.wait()


@pytest.mark.parametrize("largest", [3, pytest.param(7, marks=pytest.mark.long)])
async def test_from_one_node_to_many_and_back(tmp_path: Path, http: httpx.AsyncClient, largest: int) -> None:
    """Each member comes and goes under a load of writes: nothing is lost, and all linearizable."""
    rng = random.Random(largest)
    with started(tmp_path, largest, founders=1) as cluster:
        load = Load(cluster, http, rng)
        await cluster.wait_ready(http)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            for node_id in range(2, largest + 1):
                await add(http, cluster, rng.choice(sorted(load.serving)), node_id)
                load.serving.add(node_id)
                await load.wait_written(WRITES_A_STEP)
            for node_id in rng.sample(sorted(load.serving), largest - 1):
                asked = rng.choice(sorted(load.serving))
                load.serving.remove(node_id)
                answer = await http.delete(cluster.url(asked, f"/{node_id}"))
                assert answer.status_code == 204, answer.text
                assert await trio.to_thread.run_sync(cluster.wait_exit, node_id) == 0
                await load.wait_written(WRITES_A_STEP)
            nursery.cancel_scope.cancel()
        (last,) = load.serving
        assert set(await members(http, cluster, last)) == {last}
        for key in {str(operation.key) for operation in load.history.operations}:
            await load.clients[0].get(last, key)
            assert load.clients[0].status in (200, 404)
    check_linearizable(load.history, Register())
