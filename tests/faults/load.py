"""Clients that go on through all faults, and the outcomes of their requests."""

import random
from collections import Counter
from itertools import pairwise

import httpx
import trio

from raftkv_trio.testing import History, RegisterGet
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import POLL_S, Cluster

_CLIENTS = 8
_ANSWER_S = 5.0  # a client that has waited for so long asks another node
_THINKING_S = 0.02


class Load:
    """Clients of all nodes; they share some keys, and each has keys that only it writes, once.

    Args:
        clients: how many.
        thinking_s: how long each waits after an answer, on average.
    """

    def __init__(
        self,
        cluster: Cluster,
        http: httpx.AsyncClient,
        seed: int,
        *,
        clients: int = _CLIENTS,
        thinking_s: float = _THINKING_S,
    ) -> None:
        self.history: RegisterHistory = History(trio.current_time)
        self._cluster = cluster
        self._thinking_s = thinking_s
        self._rngs = [random.Random(f"client {number} of {seed}") for number in range(clients)]
        self._clients = [
            Client(f"client-{number}", cluster, http, self.history, rng)
            for number, rng in enumerate(self._rngs)
        ]

    async def run(self) -> None:
        """Ask until cancelled; what is under way then has an unknown outcome."""
        async with trio.open_nursery() as nursery:
            for client, rng in zip(self._clients, self._rngs, strict=True):
                nursery.start_soon(self._ask_for_ever, client, rng)

    async def _ask_for_ever(self, client: Client, rng: random.Random) -> None:
        while True:
            node_id = rng.choice(self._cluster.ids)
            with trio.move_on_after(_ANSWER_S):
                await (client.create(node_id) if rng.random() < 0.1 else client.ask_anything(node_id))
            await trio.sleep(rng.uniform(0, 2 * self._thinking_s))

    async def write_through_all(self) -> None:
        """Return when each node has had a write acknowledged."""
        client = self._clients[0]
        for node_id in self._cluster.ids:
            await client.create(node_id)
            while client.status != 204:
                await trio.sleep(POLL_S)
                await client.create(node_id)

    async def read_all(self) -> None:
        """Read every key that was ever asked for, so that the history tells what is left of it."""
        keys = sorted({str(operation.key) for operation in self.history.operations})
        async with trio.open_nursery() as nursery:
            for number, client in enumerate(self._clients):
                nursery.start_soon(self._read, client, keys[number :: len(self._clients)])

    async def _read(self, client: Client, keys: list[str]) -> None:
        for number, key in enumerate(keys):
            node_id = self._cluster.ids[number % len(self._cluster.ids)]
            await client.get(node_id, key)
            assert client.status in (200, 404), f"node {node_id} answers {client.status}"

    def outcomes(self) -> Counter[str]:
        """How many operations of each kind ended how; what was cut off by the end is unknown."""
        return Counter(f"{type(o.request).__name__} {o.outcome.value}" for o in self.history.operations)

    def longest_without_write_s(self) -> float:
        """The longest time that no client was told that a write was applied."""
        acknowledged = [
            o.ended_at
            for o in self.history.operations
            if o.ended_at is not None and o.answer is not None and o.answer.applied
            if not isinstance(o.request, RegisterGet)
        ]
        return max(after - before for before, after in pairwise(sorted(acknowledged)))
