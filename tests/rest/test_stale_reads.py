"""`Cache-Control: max-stale=N`: reads without a quorum show all that was acknowledged N seconds before."""

from collections.abc import Callable
from pathlib import Path

import httpx
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from tests.rest.serving import PATIENCE_S, Served, open_client, open_cluster, open_server, open_survivor

STALE = ["max-stale", "max-stale=60", "Max-Stale=60", 'max-stale="60"', "no-transform, max-stale=60 , x=y"]
FRESH = ["", "max-stale=0", "max-stale=-1", "max-stale=x", "max-stale=", "xmax-stale=60", "max-stale=60s"]


async def ask(client: httpx.AsyncClient, directives: str) -> httpx.Response:
    return await client.get("/key", headers={"Cache-Control": directives})


async def test_a_follower_without_a_leader(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """A follower answers by itself while a round that it has applied is recent enough; else not at all."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=False)
    async with survivor as follower, open_client(follower) as client:
        for directives in FRESH:
            assert (await ask(client, directives)).status_code == 503, directives
        for directives in STALE:
            answer = await ask(client, directives)
            assert (answer.status_code, "there is no such key" in answer.text) == (404, True), directives
        follower.clock.ahead_s = 30
        assert (await ask(client, "max-stale=30")).status_code == 503
        assert (await ask(client, "max-stale")).status_code == 404
        assert (await ask(client, "max-stale=60")).status_code == 404


async def test_a_leader_without_a_quorum(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """Even a leader asks a quorum before it answers a request that accepts nothing stale."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=True)
    async with survivor as leader, open_client(leader) as client:
        assert (await ask(client, "max-stale=0")).status_code == 503
        assert (await ask(client, "max-stale=1")).status_code == 404


async def test_a_follower_that_hears_the_leader_and_applies_nothing(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """With a full or hanging disk a follower hears each heartbeat, and its state grows old all the same."""
    config = RestConfig(port=0, request_timeout_s=0.3)
    async with (
        open_cluster(tmp_path, free_ports(3), config) as (leader, follower, _),
        open_client(leader) as to_leader,
        open_client(follower) as to_follower,
    ):
        assert (await to_leader.put("/key", content=b"old")).status_code == 204
        assert (await ask(to_follower, "max-stale=0")).content == b"old"
        follower.disk.gate.close()
        assert (await to_leader.put("/key", content=b"new")).status_code == 204
        assert (await ask(to_follower, "max-stale=20")).content == b"old"
        follower.clock.ahead_s = 10
        await heard_after(follower, 10)
        # 10 s and more after the write: an answer must show it or be refused.
        assert (await ask(to_follower, "max-stale=5")).status_code == 503
        assert (await ask(to_follower, "max-stale=20")).content == b"old"
        follower.disk.gate.open()
        with trio.fail_after(PATIENCE_S):
            while (answer := await ask(to_follower, "max-stale=5")).status_code != 200:
                pass
        assert answer.content == b"new"


async def heard_after(served: Served, ahead_s: float) -> None:
    """Wait until a heartbeat has come since the clock was put on."""
    with trio.fail_after(PATIENCE_S):
        while (served.node.status().leader_contact_age_s or ahead_s) > ahead_s / 2:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)


async def test_a_leader_that_was_paused(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """A leader that has not noticed yet that it is deposed trusts its last round, and not its office."""
    config = RestConfig(port=0, request_timeout_s=0.1)
    survivor = open_survivor(tmp_path, free_ports(2), config, leads=True)
    async with survivor as leader, open_client(leader) as client:
        assert (await ask(client, "max-stale=60")).status_code == 404
        leader.clock.ahead_s = 100
        leader.parts.driver.turn()  # as after a pause: it leads, and hears itself
        assert leader.node.status().role == "leader"
        assert (await ask(client, "max-stale=60")).status_code == 503
        assert (await ask(client, "max-stale=120")).status_code == 404


async def test_reads_that_accept_an_age_keep_a_node_fresh(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """A follower that is asked begins rounds by itself, so that later reads find it fresh."""
    async with open_cluster(tmp_path, free_ports(3)) as (_, follower, _), open_client(follower) as client:
        assert (await ask(client, "max-stale=0")).status_code == 404
        begun_at = follower.parts.freshness.as_of
        assert begun_at is not None
        follower.clock.ahead_s = 6
        assert (await ask(client, "max-stale=10")).status_code == 404
        with trio.fail_after(PATIENCE_S):
            while (follower.parts.freshness.as_of or 0) < begun_at + 6:  # noqa: ASYNC110 - no event
                await trio.sleep(0.01)


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
