"""Real processes whose cluster changes its members while it serves."""

import signal
from pathlib import Path

import httpx
import pytest
import trio

from tests.cli.program import run
from tests.integration.cluster import PATIENCE_S, POLL_S
from tests.integration.members import add, fill, members, started, wait_alike, wait_role, wait_said


async def test_a_node_joins_and_another_is_removed(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """What was written before is read from the newcomer; the removed node ends well, and starts no more."""
    with started(tmp_path, 4, founders=3) as cluster:
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(1, "/key"), content=b"value")).status_code == 204
        await add(http, cluster, 2, 4)
        assert (await http.get(cluster.url(4, "/key"))).text == "value"
        assert (await http.delete(cluster.url(4, "/3"))).status_code == 204
        assert cluster.wait_exit(3) == 0
        cluster.start(3)
        assert cluster.wait_exit(3) == 2
        assert "node 3 was removed from its cluster" in cluster.log(3).read_text()
        assert (await http.put(cluster.url(4, "/key"), content=b"later")).status_code == 204
        assert (await http.get(cluster.url(1, "/key"))).text == "later"


async def test_the_removal_of_a_live_leader_is_no_reason_for_a_warning(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Its late messages are refused quietly; there is a write under way, which it acknowledges."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        others = [i for i in cluster.ids if i != leader]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, http, cluster, others[0], 200, "meanwhile")
            assert (await http.delete(cluster.url(others[1], f"/{leader}"))).status_code == 204
        assert cluster.wait_exit(leader) == 0
        for node_id in others:
            assert "refused: a" not in cluster.log(node_id).read_text()


async def test_a_node_joins_after_snapshots_and_compaction(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """The first entries are long gone, and more are written while it joins; it comes to the same state."""
    with started(tmp_path, 4, founders=3) as cluster:
        await cluster.wait_ready(http)
        await fill(http, cluster, 1, 700, "before")
        leader = await cluster.leader(http)
        assert (await cluster.status(http, leader))["snapshot_index"] > 500
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, http, cluster, leader, 600, "meanwhile")
            await add(http, cluster, leader, 4)
        await wait_alike(http, cluster, *cluster.ids)
        assert (await http.get(cluster.url(4, "/699x"))).text == "before"
        assert (await http.get(cluster.url(4, "/7x"))).text == "meanwhile"


async def test_a_node_that_nobody_added_waits_and_says_so(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Log and clients hear what is to be done, commands ask the next; SIGTERM ends it; then it joins."""
    with started(tmp_path, 3, founders=2) as cluster:
        await cluster.wait_ready(http)
        cluster.start(3)
        to_do = f"raftkv-trio member add 3 {cluster.peer_url(3)}"
        await wait_said(cluster, 3, to_do)
        for method, path in (("GET", "/key"), ("PUT", "/key"), ("POST", "/4"), ("GET", "/-/ready")):
            answer = await http.request(method, cluster.url(3, path), content=b"")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert to_do in (answer.json()["detail"] if path.startswith("/-/") else answer.text)
        assert (await http.get(cluster.url(3, "/-/healthy"))).status_code == 200
        endpoints = [word for i in (3, 1) for word in ("--endpoint", cluster.url(i, ""))]
        listed = await trio.to_thread.run_sync(lambda: run("member", "list", *endpoints, directory=tmp_path))
        assert (listed.returncode, listed.stderr) == (0, "")
        asked = await trio.to_thread.run_sync(lambda: run("status", *endpoints[:2], directory=tmp_path))
        assert asked.returncode == 1
        assert to_do in asked.stderr
        assert "majority" not in asked.stderr
        began = trio.current_time()
        assert cluster.stop(3, signal.SIGTERM) == 0
        assert trio.current_time() - began < 5
        assert not (cluster.data_dir(3) / "identity").exists()
        cluster.start(3)
        answer = await http.post(cluster.url(1, "/3"), content=cluster.peer_url(3))
        assert answer.status_code == 204
        await wait_role(http, cluster, 2, 3, "voter")


async def test_a_joiner_at_another_address_waits(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """The member that told it may have missed a change; it says what differs, and joins when both agree."""
    with started(tmp_path, 3, founders=2) as cluster:
        await cluster.wait_ready(http)
        added = await http.post(cluster.url(1, "/3"), content="http://127.0.0.1:1")
        assert added.status_code == 204
        cluster.start(3)
        await wait_said(
            cluster, 3, f"with http://127.0.0.1:1, but its configuration says {cluster.peer_url(3)}"
        )
        assert (await http.get(cluster.url(3, "/key"))).status_code == 503
        body = {"url": cluster.peer_url(3)}
        assert (await http.put(cluster.url(2, "/-/members/3"), json=body)).status_code == 200
        await wait_role(http, cluster, 2, 3, "voter")
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(3, "/key"), content=b"value")).status_code == 204


async def test_a_node_joins_while_none_of_the_members_can_be_reached(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """It says so, and joins when they are there again."""
    with started(tmp_path, 2, founders=1) as cluster:
        await cluster.wait_ready(http)
        await http.post(cluster.url(1, "/2"), content=cluster.peer_url(2))
        cluster.kill(1)
        cluster.start(2)
        await wait_said(cluster, 2, "no member can be reached yet")
        cluster.start(1)
        await cluster.wait_ready(http)
        await wait_role(http, cluster, 1, 2, "voter")


@pytest.mark.parametrize("size", [2, 3])
async def test_the_leader_is_removed(tmp_path: Path, http: httpx.AsyncClient, size: int) -> None:
    """Asked itself, it hands over, answers and ends; the others go on, in clusters of two and of three."""
    with started(tmp_path, size, founders=size) as cluster:
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != leader]
        removed = await http.delete(cluster.url(leader, f"/-/members/{leader}"))
        assert removed.status_code == 200, removed.text
        assert cluster.wait_exit(leader) == 0
        for node_id in others:
            assert (await http.put(cluster.url(node_id, "/key"), content=b"v")).status_code == 204
            assert set(await members(http, cluster, node_id)) == set(others)
        assert await cluster.leader(http) in others


async def test_another_id_takes_the_address_of_one_removed(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Node 4 stands where node 3 was; one that was down meanwhile finds it there."""
    with started(tmp_path, 4, founders=3) as cluster:
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        asked, follower = (1, 2) if leader == 1 else (2, 1)
        assert (await http.delete(cluster.url(asked, "/3"))).status_code == 204
        assert cluster.wait_exit(3) == 0
        cluster.move(4, to_where=3)
        await add(http, cluster, asked, 4)
        cluster.kill(follower)
        assert (await http.put(cluster.url(4, "/key"), content=b"value")).status_code == 204
        cluster.start(follower)
        await cluster.wait_ready(http)
        assert (await http.get(cluster.url(follower, "/key"))).text == "value"
        assert (await members(http, cluster, follower))[4]["url"] == cluster.peer_url(4)


@pytest.mark.long
async def test_a_member_moves(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """After PUT /-/members/3 and a start at the new address it is one of them, and when all restart too."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        cluster.stop(3)
        cluster.move(3)
        asked = await cluster.leader(http)
        moved = await http.put(cluster.url(asked, "/-/members/3"), json={"url": cluster.peer_url(3)})
        assert moved.status_code == 200, moved.text
        cluster.start(3)
        await cluster.wait_ready(http)
        assert (await members(http, cluster, 3))[3]["url"] == cluster.peer_url(3)
        cluster.kill()
        cluster.start()
        await cluster.wait_ready(http)
        cluster.kill(1)
        assert (await http.put(cluster.url(3, "/key"), content=b"value")).status_code == 204


async def test_a_change_that_would_leave_no_quorum(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """With one of three down, removing one of the others is 409 and says why; forced it is done."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        down, other = (node_id for node_id in cluster.ids if node_id != leader)
        cluster.kill(down)
        with trio.fail_after(PATIENCE_S):
            while (await members(http, cluster, leader))[down]["is_active"]:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        refused = await http.delete(cluster.url(leader, f"/-/members/{other}"))
        assert refused.status_code == 409
        assert f"only {leader} would acknowledge new entries, which is no quorum" in refused.json()["detail"]
        forced = await http.delete(cluster.url(leader, f"/-/members/{other}?force=true"))
        assert forced.status_code == 200
        assert cluster.wait_exit(other) == 0
        cluster.start(down)
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(down, "/key"), content=b"value")).status_code == 204
