"""Wrong passwords, 200 a second: no election comes of it, and those who are known hardly notice."""

import statistics
from base64 import b64encode
from collections import Counter
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.access.credentials.passwords import Passwords
from raftkv_trio.kv import ROOT, AddUser, EnableAuth, GrantRole
from tests.integration.cluster import Cluster
from tests.integration.test_auth_state import make_members
from tests.rest.serving import Wire

RATE, SECONDS = 200, 5.0
SENT = 0  # in the place of a status
PASSWORD = "the password of root"


def basic(password: str) -> bytes:
    return b"Authorization: Basic " + b64encode(f"{ROOT}:{password}".encode())


class Others:
    """Clients that show the right password; each puts a key and gets it, again and again, with pauses."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.latencies: list[float] = []

    async def run(self, node_id: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._cluster.rest_port(node_id)) as stream:
            wire = Wire(stream)
            while True:
                for line, content in ((b"PUT /%d" % node_id, b"value"), (b"GET /%d" % node_id, b"")):
                    began = trio.current_time()
                    length = b"Content-Length: %d" % len(content)
                    answer = await wire.ask(line, basic(PASSWORD), length, content=content)
                    self.latencies.append(trio.current_time() - began)
                    assert answer.status in (200, 204), answer
                await trio.sleep(0.01)

    def take(self) -> tuple[float, float]:
        """Median and 95th percentile, in ms, of what was measured since the last call."""
        taken, self.latencies = self.latencies, []
        return statistics.median(taken) * 1000, statistics.quantiles(taken, n=20)[-1] * 1000


async def flood(port: int, hosts: int, statuses: Counter[int]) -> None:
    """Send wrong passwords from so many hosts, whether those before them are answered or not."""

    async def count_answers(wire: Wire) -> None:
        while True:
            statuses[(await wire.answer()).status] += 1

    async with AsyncExitStack() as stack:
        wires = []
        for number in range(max(hosts, 20)):
            host = f"127.0.{1 + number % hosts}.1"
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=host)
            wires.append(Wire(await stack.enter_async_context(stream)))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for wire in wires:
            nursery.start_soon(count_answers, wire)
        begin = trio.current_time()
        for number in count():
            await trio.sleep_until(begin + number / RATE)
            guess = basic(f"guess {number}")
            request = b"GET /1 HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % guess
            await wires[number % len(wires)].send(request)
            statuses[SENT] += 1


@pytest.mark.timing
@pytest.mark.parametrize("hosts", [1, 250])
async def test_a_flood_of_wrong_passwords(tmp_path: Path, http: httpx.AsyncClient, hosts: int) -> None:
    """Against the leader, from one host or many: no election, and others wait less than twice as long.

    Who is not known yet can prove the right password all the while.
    """
    record = await Passwords().record_of(PASSWORD, "")
    cluster = Cluster(tmp_path)
    make_members(cluster, [AddUser(ROOT, record), GrantRole(ROOT, ROOT), EnableAuth()])
    try:
        cluster.start(*cluster.ids)
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        term = (await cluster.status(http, leader))["term"]
        others, statuses = Others(cluster), Counter[int]()

        async def measure() -> tuple[float, float]:
            await trio.sleep(1)
            others.take()
            await trio.sleep(SECONDS)
            return others.take()

        async with trio.open_nursery() as nursery:
            for node_id in cluster.ids:
                nursery.start_soon(others.run, node_id)
            before = await measure()
            async with trio.open_nursery() as attackers:
                attackers.start_soon(flood, cluster.rest_port(leader), hosts, statuses)
                during = await measure()
                attackers.cancel_scope.cancel()
            after = await measure()
            nursery.cancel_scope.cancel()
        terms = {(await cluster.status(http, node_id))["term"] for node_id in cluster.ids}
    finally:
        cluster.kill(*cluster.ids)
    print(f"{hosts} hosts: median and p95 in ms {before}, then {during}, then {after}; {statuses}")
    assert terms == {term}
    assert statuses.pop(SENT) > 0.8 * RATE * SECONDS
    assert set(statuses) <= {401, 429}
    # What else the machine has to do changes, too.
    assert during[0] < 2 * max(before[0], after[0])
    assert during[1] < 2 * max(before[1], after[1])
