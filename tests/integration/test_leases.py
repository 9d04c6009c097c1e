"""Leases over real nodes: they outlive a leader that is killed or paused, and end when nobody renews them."""

import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.conftest import find_free_ports
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

#: Clients renew twenty times in it. How long an election takes does not matter: after it the lease has its
#: whole time again.
TTL_S = 6
KEY, VALUE = base64.b64encode(b"/leased").decode(), base64.b64encode(b"value").decode()
RENEW_S = 0.3


class Leases:
    """A client of leases, over JSON."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient, ports: dict[int, int]) -> None:
        self.cluster = cluster
        self._http = http
        self._ports = ports
        self.last_renewed_s = 0.0
        self.renewals = 0

    async def call(self, node_id: int, path: str, **fields: Any) -> dict[str, Any] | None:
        """The answer of a node; None if it has none but an error, or is not there."""
        try:
            url = f"http://127.0.0.1:{self._ports[node_id]}/v3/{path}"
            answer = await self._http.post(url, json=fields)
        except httpx.TransportError:
            return None
        if answer.status_code != 200:
            return None
        seen: dict[str, Any] = answer.json()
        return dict(seen.get("result", seen))

    async def must(self, node_id: int, path: str, **fields: Any) -> dict[str, Any]:
        """The answer, however often a node must be asked for it."""
        with trio.fail_after(PATIENCE_S):
            while (seen := await self.call(node_id, path, **fields)) is None:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
            return seen

    async def keep_alive(self, *node_ids: int) -> None:
        """Renew lease 7 through these nodes in turn, until cancelled."""
        for node_id in itertools.cycle(node_ids):
            asked_s = trio.current_time()
            seen = await self.call(node_id, "lease/keepalive", ID=7)
            if seen is not None:
                assert seen.get("TTL") == str(TTL_S), "the lease has expired though it was renewed"
                self.last_renewed_s = asked_s
                self.renewals += 1
            await trio.sleep(RENEW_S)

    async def renewed(self, more: int) -> None:
        """Return after so many more renewals."""
        goal = self.renewals + more
        with trio.fail_after(PATIENCE_S):
            while self.renewals < goal:  # noqa: ASYNC110 - another task counts them
                await trio.sleep(POLL_S)

    async def has_key(self, node_id: int) -> bool:
        """Whether a node has the key, by what it has applied."""
        return "kvs" in await self.must(node_id, "kv/range", key=KEY, serializable=True)

    async def revision(self, node_id: int) -> int:
        return int((await self.must(node_id, "kv/range", key=KEY))["header"]["revision"])


@asynccontextmanager
async def leased(directory: Path, http: httpx.AsyncClient) -> AsyncIterator[Leases]:
    """A cluster of three with lease 7, to which a key is attached."""
    cluster = Cluster(directory, arguments=("--request-timeout", "2"))
    ports = dict(zip(cluster.ids, find_free_ports(3), strict=True))
    for node_id, port in ports.items():
        cluster.give(node_id, "--etcd-port", str(port))
    cluster.start()
    try:
        leases = Leases(cluster, http, ports)
        await cluster.wait_ready(http)
        assert await leases.must(1, "lease/grant", ID=7, TTL=TTL_S)
        assert await leases.must(2, "kv/put", key=KEY, value=VALUE, lease=7)
        yield leases
    finally:
        cluster.kill()


async def test_a_killed_leader(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """The lease lives while it is renewed, and ends on all nodes when it is not: not before its time."""
    async with leased(tmp_path, http) as leases:
        cluster = leases.cluster
        dead = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != dead]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leases.keep_alive, *others)
            await leases.renewed(3)
            await trio.to_thread.run_sync(cluster.kill, dead)
            await cluster.leader(http, *others)
            await trio.sleep(TTL_S)
            await leases.renewed(3)
            revision = await leases.revision(others[0])  # a start may take longer than the lease lives
            nursery.cancel_scope.cancel()
        cluster.start(dead)
        await cluster.wait_ready(http)
        with trio.fail_after(PATIENCE_S):
            for node_id in cluster.ids:
                while await leases.has_key(node_id):  # noqa: ASYNC110
                    await trio.sleep(POLL_S)
                assert trio.current_time() >= leases.last_renewed_s + TTL_S
        seen = await leases.must(others[1], "lease/timetolive", ID=7)
        assert seen["TTL"] == "-1"
        assert await leases.revision(dead) == revision + 1
        await cluster.wait_equal(http)


@pytest.mark.long
async def test_a_halted_leader(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """SIGSTOP for longer than the lease lives: when it goes on, by its clock the lease expired long ago."""
    async with leased(tmp_path, http) as leases:
        cluster = leases.cluster
        halted = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != halted]
        revision = await leases.revision(halted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leases.keep_alive, *others)
            await leases.renewed(3)
            cluster.halt(halted)
            await cluster.leader(http, *others)
            await trio.sleep(2 * TTL_S)
            await leases.renewed(3)
            cluster.resume(halted)
            await cluster.wait_ready(http)
            await cluster.leader(http)
            # What it had to say in its old term has been told by now.
            await leases.renewed(10)
            nursery.cancel_scope.cancel()
        assert await leases.revision(halted) == revision
        assert await leases.has_key(halted)
        assert await leases.must(halted, "lease/revoke", ID=7)
        assert not await leases.has_key(halted)
