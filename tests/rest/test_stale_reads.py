"""`Cache-Control: max-stale`: reads that need no quorum, as long as the leader was heard from."""

from collections.abc import Callable
from pathlib import Path

import httpx
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from tests.rest.serving import PATIENCE_S, open_client, open_server, open_survivor

STALE = ["max-stale", "max-stale=60", "Max-Stale=60", 'max-stale="60"', "no-transform, max-stale=60 , x=y"]
FRESH = ["", "max-stale=0", "max-stale=-1", "max-stale=x", "max-stale=", "xmax-stale=60", "max-stale=60s"]


async def ask(client: httpx.AsyncClient, directives: str) -> httpx.Response:
    return await client.get("/key", headers={"Cache-Control": directives})


async def test_a_follower_without_a_leader(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """A follower answers by itself while the leader was heard from recently enough, and else not at all."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=False)
    async with survivor as follower, open_client(follower) as client:
        for directives in FRESH:
            assert (await ask(client, directives)).status_code == 503, directives
        for directives in STALE:
            answer = await ask(client, directives)
            assert (answer.status_code, answer.content) == (404, b"Failed to GET\n"), directives
        follower.clock.ahead_s = 30
        assert (await ask(client, "max-stale=30")).status_code == 503
        assert (await ask(client, "max-stale=60")).status_code == 404


async def test_a_leader_without_a_quorum(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """Even a leader asks a quorum before it answers a request that accepts nothing stale."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=True)
    async with survivor as leader, open_client(leader) as client:
        assert (await ask(client, "max-stale=0")).status_code == 503
        assert (await ask(client, "max-stale=1")).status_code == 404


async def test_a_leader_that_gave_up(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """A leader that lost its quorum counts as its own contact until that moment, and no longer."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=True)
    async with survivor as leader, open_client(leader) as client:
        leader.clock.ahead_s = 100  # it became leader so long ago
        leader.clock.gate.open()
        with trio.fail_after(PATIENCE_S):
            while leader.node.status().leader_id is not None:
                await leader.parts.leader.changed.wait()
        leader.clock.gate.close()
        assert (await ask(client, "max-stale=60")).status_code == 404
        leader.clock.ahead_s = 160
        assert (await ask(client, "max-stale=60")).status_code == 503
        assert (await ask(client, "max-stale=120")).status_code == 404


async def test_without_any_leader(tmp_path: Path) -> None:
    """If no leader is known, only requests that accept any age are answered."""
    members = {1: PeerAddress("127.0.0.1", 1), 2: PeerAddress("127.0.0.1", 2)}
    config = RestConfig(port=0, request_timeout_s=0.1)
    async with (
        open_server(tmp_path / "data", config, members=members) as served,
        open_client(served) as client,
    ):
        assert (await ask(client, "max-stale=999999999")).status_code == 503
        assert (await ask(client, "max-stale")).status_code == 404
