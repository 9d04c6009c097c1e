"""Changes of members of real processes that meet others, or the loss of the leader."""

import random
from pathlib import Path

import httpx
import pytest
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import members, started, wait_role


async def test_two_changes_at_once(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Asked of two nodes at the same time both are made, one after the other."""
    with started(tmp_path, 5, founders=3) as cluster:
        await cluster.wait_ready(http)
        answers: dict[int, httpx.Response] = {}

        async def ask(asked: int, node_id: int) -> None:
            url = cluster.url(asked, f"/{node_id}")
            answers[node_id] = await http.post(url, content=cluster.peer_url(node_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1, 4)
            nursery.start_soon(ask, 2, 5)
        assert [answers[node_id].status_code for node_id in (4, 5)] == [204, 204]
        assert answers[4].headers["X-Raft-Index"] != answers[5].headers["X-Raft-Index"]
        cluster.start(4, 5)
        for node_id in (4, 5):
            await wait_role(http, cluster, 3, node_id, "voter")


async def test_several_changes_in_one_request(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Two newcomers take the places of two members, the leader among them, through a joint configuration."""
    with started(tmp_path, 5, founders=3) as cluster:
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        stays, leaves = (node_id for node_id in cluster.ids[:3] if node_id != leader)
        for node_id in (4, 5):
            body = {"id": node_id, "url": cluster.peer_url(node_id), "promote": "manual"}
            added = await http.post(cluster.url(stays, "/-/members"), json=body)
            assert added.status_code == 200, added.text
        cluster.start(4, 5)
        await cluster.wait_ready(http)
        changes = [{"action": "remove", "id": i} for i in (leader, leaves)]
        changes += [{"action": "promote", "id": i} for i in (4, 5)]
        with trio.fail_after(PATIENCE_S):
            while True:
                changed = await http.post(cluster.url(stays, "/-/members"), json={"changes": changes})
                if changed.status_code == 200:
                    break
                assert "has not caught up yet" in changed.text  # nor will be promoted by itself
                await trio.sleep(POLL_S)
        assert [cluster.wait_exit(node_id) for node_id in (leader, leaves)] == [0, 0]
        seen = await members(http, cluster, stays)
        assert {(i, member["role"]) for i, member in seen.items()} == {(i, "voter") for i in (stays, 4, 5)}
        assert (await http.put(cluster.url(5, "/key"), content=b"value")).status_code == 204


@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.long)])
async def test_a_change_while_the_leader_is_lost(
    tmp_path: Path, http: httpx.AsyncClient, rounds: int
) -> None:
    """kill -9 of the leader while a change is under way: what its caller is told is true."""
    rng = random.Random(rounds)
    with started(tmp_path, 3, founders=3) as cluster:
        for number in range(rounds):
            await cluster.wait_ready(http)
            leader = await cluster.leader(http)
            asked = next(node_id for node_id in cluster.ids if node_id != leader)
            new_id = 10 + number
            body = {"id": new_id, "url": f"http://127.0.0.1:{new_id}", "promote": "manual"}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_after, cluster, leader, rng.random() * 0.02)
                answer = await http.post(cluster.url(asked, "/-/members"), json=body)
            assert answer.status_code in (200, 503, 504), answer.text
            cluster.start(leader)
            await cluster.wait_ready(http)
            assert (await http.get(cluster.url(asked, "/key"))).status_code == 404  # all before is applied
            is_member = new_id in await members(http, cluster, asked)
            if answer.status_code != 504:
                assert is_member == (answer.status_code == 200)
            elif is_member:
                await wait_role(http, cluster, leader, new_id, "learner")


async def kill_after(cluster: Cluster, node_id: int, delay_s: float) -> None:
    await trio.sleep(delay_s)
    cluster.kill(node_id)
