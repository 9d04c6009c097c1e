"""A counter that the Lock service guards, on real nodes under faults: no increment is lost.

The holder of a lock may be one no more, and not know it: its lease has run out while it, or its node, stood
still. So each write is fenced: a txn that compares the create revision of the lock's key.
"""

import base64
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.faults.namespaced import NamespacedCluster, open_namespaced
from tests.integration.cluster import PATIENCE_S, POLL_S

pytestmark = pytest.mark.faults

ETCD_PORT = 2379
ARGUMENTS = ("--request-timeout", "2", "--etcd-port", str(ETCD_PORT))
WORKERS = 5
#: Shorter than some faults; no worker renews its lease.
TTL_S = 2
ROUNDS, FAULT_S, CALM_S = 5, 2.5, 1.5
#: A worker that has waited for so long asks another node; for a lock it waits longer.
ANSWER_S, LOCK_S = 3.0, 10.0


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


NAME, COUNTER = encoded(b"lock"), encoded(b"counter")


class NoAnswer(Exception):
    """It was refused, or it is not known what came of it."""


class Counting:
    """Workers that increment the counter, and what they were told.

    Attributes:
        confirmed: the values that they have written, as they were told.
        unknown: how many of their writes had no answer.
        fenced: how many were refused, since the lock was another's.
    """

    def __init__(self, cluster: NamespacedCluster, http: httpx.AsyncClient, seed: int) -> None:
        self.confirmed: list[int] = []
        self.unknown = self.fenced = 0
        self._cluster = cluster
        self._http = http
        self._seed = seed

    async def call(self, node_id: int, path: str, answer_s: float = ANSWER_S, **fields: Any) -> Any:
        """The answer of a node, as JSON; raises NoAnswer."""
        url = f"http://{self._cluster.network.address(node_id)}:{ETCD_PORT}/v3/{path}"
        try:
            answer = await self._http.post(url, json=fields, timeout=answer_s)
        except httpx.TransportError as error:
            raise NoAnswer from error
        if answer.status_code != 200:
            raise NoAnswer(answer.text)
        return answer.json()

    async def read(self, node_id: int, key: str) -> Mapping[str, str]:
        """A key as it is now; nothing if there is none."""
        found = (await self.call(node_id, "kv/range", key=key)).get("kvs", [{}])
        return dict(found[0])

    async def lock(self, node_id: int) -> tuple[str, str]:
        """Wait for the lock; its key, and the create revision of that."""
        lease = (await self.call(node_id, "lease/grant", TTL=TTL_S))["ID"]
        key: str = (await self.call(node_id, "lock/lock", LOCK_S, name=NAME, lease=lease))["key"]
        there = await self.read(node_id, key)
        if not there:
            raise NoAnswer("the lease has run out already")
        return key, there["create_revision"]

    async def next_value(self, node_id: int) -> int:
        """What the counter is to be next."""
        value = (await self.read(node_id, COUNTER)).get("value", "")
        return int(base64.b64decode(value) or b"0") + 1

    async def write(self, node_id: int, key: str, created: str, value: int) -> bool:
        """Write the counter if the lock is still that one; returns whether it was."""
        compare = {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": created}
        put = {"request_put": {"key": COUNTER, "value": encoded(b"%d" % value)}}
        try:
            answer = await self.call(node_id, "kv/txn", compare=[compare], success=[put])
        except NoAnswer:
            self.unknown += 1
            raise
        if answer.get("succeeded"):
            self.confirmed.append(value)
            return True
        self.fenced += 1
        return False

    async def work(self, number: int) -> None:
        """Increment until cancelled, sometimes slowly; which node is asked does not matter."""
        rng = random.Random(f"worker {number} of {self._seed}")
        while True:
            node_id = rng.choice(self._cluster.ids)
            try:
                key, created = await self.lock(node_id)
                for _ in range(rng.randint(1, 4)):
                    value = await self.next_value(rng.choice(self._cluster.ids))
                    await trio.sleep(rng.choice((0, 0, rng.uniform(0, TTL_S / 2))))
                    if not await self.write(rng.choice(self._cluster.ids), key, created, value):
                        break
                await self.call(node_id, "lock/unlock", key=key)
            except NoAnswer:
                await trio.sleep(POLL_S)  # its lease ends its place in the queue

    async def outlive_its_lock(self) -> None:
        """Write as the holder of a lock that has become another's meanwhile; the write must be refused."""
        key, created = await self.lock(1)
        value = await self.next_value(1)
        while await self.read(1, key):  # noqa: ASYNC110 - it is another process whose state is waited for
            await trio.sleep(POLL_S)
        other, other_created = await self.lock(2)
        assert await self.write(2, other, other_created, await self.next_value(2))
        assert not await self.write(3, key, created, value)
        await self.call(2, "lock/unlock", key=other)


async def strike(cluster: NamespacedCluster, http: httpx.AsyncClient, rng: random.Random) -> None:
    """A few faults, one after the other, most of them at the leader; then all is whole."""
    kinds = ["kill", "halt", "cut", "cut"]
    for number in range(ROUNDS):
        leader = await cluster.leader(http)
        node_id = leader if rng.random() < 0.7 else rng.choice(cluster.ids)
        others = [other for other in cluster.ids if other != node_id]
        match kinds[number % len(kinds)]:
            case "kill":
                cluster.kill(node_id)
                await trio.sleep(rng.uniform(0, FAULT_S))
                cluster.start(node_id)
            case "halt":
                cluster.halt(node_id)
                await trio.sleep(FAULT_S)
                cluster.resume(node_id)
            case _:
                for other in others:
                    cluster.network.cut(other, node_id)
                    if number % 2:
                        cluster.network.cut(node_id, other)
                await trio.sleep(FAULT_S)
                cluster.network.heal()
        await trio.sleep(CALM_S)
        await cluster.wait_ready(http)


async def test_a_counter_under_a_lock_loses_nothing(
    tmp_path: Path, faults_seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each increment that was confirmed counts once, whoever held the lock, or believed that it did."""
    async with open_namespaced(tmp_path, 3, ARGUMENTS) as (cluster, http):
        counting = Counting(cluster, http, faults_seed)
        await counting.outlive_its_lock()
        async with trio.open_nursery() as nursery:
            for number in range(WORKERS):
                nursery.start_soon(counting.work, number)
            await strike(cluster, http, random.Random(faults_seed))
            nursery.cancel_scope.cancel()
        under_way = WORKERS  # at most: a worker that was cancelled may just have written
        with trio.fail_after(PATIENCE_S):
            last = await counting.next_value(1) - 1
    confirmed, unknown = counting.confirmed, counting.unknown + under_way
    with capsys.disabled():
        print(f"\n{last}: {len(confirmed)} confirmed, {counting.unknown} unknown, {counting.fenced} fenced")
    assert len(set(confirmed)) == len(confirmed), "two have written the same value: an increment is lost"
    assert max(confirmed) <= last
    assert len(confirmed) <= last <= len(confirmed) + unknown
    assert len(confirmed) > ROUNDS
    assert counting.fenced
