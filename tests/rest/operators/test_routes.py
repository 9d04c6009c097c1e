"""`/-/`: what operators see and do, and problem documents for what they cannot."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import TransferFailed
from tests.peers.members import until
from tests.rest.serving import Served, open_client, open_cluster, open_survivor

Ports = Callable[[int], list[int]]


def check_problem(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert words in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail"}


async def test_status(client: httpx.AsyncClient, served: Served) -> None:
    """The status is this node's own view of itself, as JSON."""
    await client.put("/key", content=b"v")
    status = await client.get("/-/status")
    assert status.headers["Content-Type"] == "application/json"
    seen = status.json()
    assert (seen["id"], seen["role"], seen["leader_id"], seen["health"]) == (1, "leader", 1, None)
    assert int(seen["cluster_id"], 16) == served.node.cluster_id
    assert seen["applied_index"] == seen["commit_index"] == served.node.status().applied_index
    assert (seen["term"], seen["revision"]) == (served.node.status().term, 2)


async def test_members(client: httpx.AsyncClient) -> None:
    """The members are listed with what the leader knows of them."""
    (member,) = (await client.get("/-/members")).json()
    assert (member["id"], member["url"], member["role"]) == (1, "http://127.0.0.1:1", "voter")


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_second_process_under_this_id_is_told(
    client: httpx.AsyncClient, served: Served, is_refused: bool
) -> None:
    """The status of both processes says it; the one that is refused is not healthy."""
    served.parts.peers.second_process.told("two processes run as node 1", is_refused=is_refused)
    assert (await client.get("/-/status")).json()["health"] == "two processes run as node 1"
    answer = await client.get("/-/healthy")
    if is_refused:
        check_problem(answer, 503, "two processes run as node 1")
    else:
        assert answer.status_code == 200


async def test_healthy_and_ready(client: httpx.AsyncClient) -> None:
    """A node that can serve says so in a word; HEAD works too, as probes use it."""
    await client.get("/key")  # which waits until the node leads
    for path, word in (("/-/healthy", "healthy\n"), ("/-/ready", "ready\n")):
        answer = await client.get(path)
        assert (answer.status_code, answer.text) == (200, word)
        assert (await client.head(path)).status_code == 200


@pytest.mark.parametrize("path", ["/-/status", "/-/anything", "/-/", "/-/a/b?c"])
async def test_put_is_reserved(client: httpx.AsyncClient, served: Served, path: str) -> None:
    """Nothing can be put under /-/."""
    check_problem(await client.put(path, content=b"v"), 403, "reserved for operators")
    assert len(served.store) == 0


async def test_problems(client: httpx.AsyncClient) -> None:
    """Unknown paths and methods are problem documents; a 405 names the methods."""
    for path in ("/-/", "/-/none", "/-/status/", "/-//status", "/-/members/4/x", "/-/%FF", "/-/%00"):
        check_problem(await client.get(path), 404, "nothing for operators")
    refused = await client.delete("/-/status")
    check_problem(refused, 405, "does not support the method; it has GET, ")
    assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    options = await client.options("/-/status")
    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    too_large = await client.post("/-/members", content=b"m" * 20_000)
    assert too_large.status_code == 413


async def test_alone_there_is_nobody_to_hand_over_to(client: httpx.AsyncClient) -> None:
    """The only voter goes on leading, and says so."""
    check_problem(await client.post("/-/leader"), 409, "the only voter")
    assert (await client.put("/key", content=b"v")).status_code == 204


async def test_hand_over(tmp_path: Path, free_ports: Ports) -> None:
    """The leader transfers leadership at once and no write fails; a follower says which node leads.

    A request in an unknown form is refused.
    """
    async with open_cluster(tmp_path, free_ports(3)) as nodes:
        leader, follower, _ = nodes
        async with open_client(leader) as to_leader, open_client(follower) as to_follower:
            refused = await to_follower.post("/-/leader")
            check_problem(refused, 409, f"Node {leader.node.id} leads")
            itself = await to_leader.post("/-/leader", json={"to": leader.node.id})
            check_problem(itself, 409, "leads already")
            for path, body in (
                ("/-/leader", {"to": str(follower.node.id)}),
                ("/-/leader", {"to": follower.node.id, "dry_run": True}),
                (f"/-/leader?to={follower.node.id}", None),
            ):
                check_problem(await to_leader.post(path, json=body), 400, 'as {"to": 3}, or nothing')
            assert leader.node.status().role == "leader"
            handed = await to_leader.post("/-/leader")
            assert (handed.status_code, handed.content) == (204, b"")
            assert leader.node.status().role == "follower"
            assert (await to_leader.put("/key", content=b"v")).status_code == 204
            assert (await to_follower.get("/key")).content == b"v"


async def test_a_leader_that_only_steps_down_has_not_handed_over(tmp_path: Path, free_ports: Ports) -> None:
    """It loses its quorum meanwhile, stops leading, and nobody leads: 504, and not 204."""
    answers: list[httpx.Response] = []

    async def ask(leader: Served) -> None:
        async with open_client(leader) as client:
            answers.append(await client.post("/-/leader"))

    async def begin(leader: Served, follower: Served) -> None:
        follower.parts.leadership_transfer.resign()  # it does not want to lead
        nursery.start_soon(ask, leader)
        await until(lambda: leader.parts.leadership_transfer._request is not None)

    config = RestConfig(port=0, request_timeout_s=4)
    async with trio.open_nursery() as nursery:
        survivor = open_survivor(tmp_path, free_ports(2), config, leads=True, before_the_stop=begin)
        async with survivor as leader:
            leader.clock.gate.open()
            await until(lambda: bool(answers))
            assert leader.node.status().role != "leader"
    check_problem(answers[0], 504, "no leader is known yet")


async def test_a_leader_without_a_quorum_does_not_know_who_is_root(tmp_path: Path, free_ports: Ports) -> None:
    """Others may have changed the users; so it does nothing."""
    survivor = open_survivor(tmp_path, free_ports(2), RestConfig(port=0, request_timeout_s=0.1), leads=True)
    async with survivor as leader, open_client(leader) as client:
        check_problem(await client.post("/-/leader"), 503, "certainly nothing was changed")
        assert leader.parts.leadership_transfer._request is None


async def test_a_leader_that_loses_leadership_while_the_content_arrives_has_not_transferred_it(
    tmp_path: Path, free_ports: Ports
) -> None:
    """The request finds a node that does not lead, however it began: 409, and not 204."""
    async with open_cluster(tmp_path, free_ports(3)) as (leader, second, _), leader.connect() as wire:
        await wire.send(
            b"POST /-/leader HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await wire.answer(b"POST")).status == 100
        await leader.node.transfer_leadership(second.node.id)
        await wire.send(b"0\r\n\r\n")
        refused = await wire.answer(b"POST")
        assert refused.status == 409
        assert f"Node {second.node.id} leads" in refused.content.decode()


async def test_only_a_leader_with_another_voter_can_transfer_leadership(
    served: Served, tmp_path: Path, free_ports: Ports
) -> None:
    """All others raise at once: nobody took over."""
    await served.node.wait_readable()
    with pytest.raises(TransferFailed, match="the only voter"):
        await served.node.transfer_leadership()
    async with open_cluster(tmp_path / "cluster", free_ports(2)) as (_, follower):
        with pytest.raises(TransferFailed, match="does not lead"):
            await follower.node.transfer_leadership()


async def test_another_leader_than_the_given_one_is_no_success(tmp_path: Path, free_ports: Ports) -> None:
    """Of two operators who name different nodes, the one whose node does not lead is told which does."""
    async with open_cluster(tmp_path, free_ports(3)) as (leader, second, third):
        third.parts.leadership_transfer.resign()
        async with open_client(leader) as client, trio.open_nursery() as nursery:

            async def ask_for_third() -> None:
                refused = await client.post("/-/leader", json={"to": third.node.id})
                check_problem(refused, 503, f"node {second.node.id} leads now, and not node {third.node.id}")

            nursery.start_soon(ask_for_third)
            transfer = leader.parts.leadership_transfer
            await until(lambda: transfer._request is not None and transfer._request.to == third.node.id)
            assert (await client.post("/-/leader", json={"to": second.node.id})).status_code == 204


async def test_hand_over_to_nobody(tmp_path: Path, free_ports: Ports) -> None:
    """If no voter takes over in time, the leader answers 503 and goes on."""
    config = RestConfig(port=0, request_timeout_s=2)
    async with open_cluster(tmp_path, free_ports(2), config) as (leader, follower):
        follower.parts.leadership_transfer.resign()
        async with open_client(leader) as client:
            check_problem(await client.post("/-/leader"), 503, "No other voter took over")
        assert leader.node.status().role == "leader"
