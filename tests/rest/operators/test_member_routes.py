"""Changes of members over REST: what is done, and what is refused, each with its own status and sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from tests.rest.operators.test_routes import check_problem
from tests.rest.serving import PATIENCE_S, Served, open_client, open_cluster, open_server, open_survivor

Ports = Callable[[int], list[int]]
IMPATIENT = RestConfig(port=0, request_timeout_s=0.3)


def url(number: int) -> str:
    """An address that no server listens on."""
    return f"http://127.0.0.1:{number}"


def learner(node_id: int) -> dict[str, Any]:
    """A change that adds a node; no process runs it, so it stays a learner."""
    return {"id": node_id, "url": url(node_id), "promote": "manual"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON object"),
        (b"[]", "no JSON object"),
        (b'{"id": 2', "no JSON object"),
        (b"{}", "Name the changes as"),
        (b'{"url": "http://a:1"}', "Name the changes as"),
        (b'{"id": null, "url": "http://a:1"}', "Name the changes as"),
        (b'{"id": "2", "url": "http://a:1"}', "ids are numbers"),
        (b'{"id": 2.0, "url": "http://a:1"}', "ids are numbers"),
        (b'{"id": 2}', 'To add a member takes its peer URL: "url": "http://host:port"'),
        (b'{"id": 2, "url": null}', "To add a member takes its peer URL"),
        (b'{"id": 0, "url": "http://a:1"}', "node id '0' is not a positive integer"),
        (b'{"id": -1, "url": "http://a:1"}', "node id '-1' is not a positive integer"),
        (b'{"id": true, "url": "http://a:1"}', "Name the changes as"),
        (b'{"id": 2, "url": "a:1"}', "does not begin with http://"),
        (b'{"id": 2, "url": "http://' + b"a." * 2000 + b'a:1"}', "has 4010 characters; use at most 512"),
        (b'{"id": 2, "url": "http://a"}', "not of the form http://host:port"),
        (b'{"id": 2, "url": "http://a:1", "promote": "never"}', "promote is auto or manual"),
        (b'{"id": 2, "url": "http://a:1", "promote": []}', "promote is auto or manual"),
        (
            b'{"id": 2, "url": "http://a:1", "weight": 3}',
            "To add a member takes id and url and promote, and no",
        ),
        (b'{"changes": []}', "Name the changes as"),
        (b'{"changes": [2]}', "Name the changes as"),
        (b'{"changes": [{"action": "demote", "id": 2}]}', "Name the changes as"),
        (b'{"changes": [{"action": "add", "id": 2}]}', "peer URL"),
        (b'{"changes": [{"action": "update", "id": 1}]}', "To update a member takes its peer URL"),
        (b'{"changes": [{"action": "readdress", "id": 1, "url": "http://a:1"}]}', "promote and update"),
        (
            b'{"changes": [{"action": "remove", "id": 1, "url": "http://a:1"}]}',
            'To remove a member takes id, and no "url"',
        ),
        (b'{"changes": null, "id": 2, "url": "http://a:1"}', 'The only field is changes, not "id", "url"'),
    ],
)
async def test_a_malformed_change(client: httpx.AsyncClient, served: Served, body: bytes, words: str) -> None:
    """It is 400, says what is wrong, and nothing has changed."""
    check_problem(await client.post("/-/members", content=body), 400, words)
    assert list(served.parts.membership.envelope.members) == [1]


@pytest.mark.parametrize(
    ("query", "more", "words"),
    [
        ("", {"dry_run": True}, 'The only field is changes, not "dry_run"; the query may be ?force=true'),
        ("", {"force": "no", "dryrun": 1}, 'changes, not "dryrun", "force"'),
        ("?dry-run=true", {}, 'Unknown query parameter "dry-run"; the query may be ?force=true, and POST'),
        ("?force=true&dry_run", {}, 'Unknown query parameter "dry_run"'),
        ("?force=yes", {}, "force is true or false"),
        ("?force=false&force=true", {}, "force is true or false"),
    ],
)
async def test_what_is_beside_the_changes(
    client: httpx.AsyncClient, served: Served, query: str, more: dict[str, Any], words: str
) -> None:
    """An unknown field or query is refused: it may have been meant to prevent the change."""
    body = {"changes": [{"action": "add", **learner(2)}], **more}
    for path in ("/-/members", "/-/members/dry-run"):
        check_problem(await client.post(path + query, json=body), 400, words)
    assert list(served.parts.membership.envelope.members) == [1]


async def test_what_is_beside_a_path(client: httpx.AsyncClient, served: Served) -> None:
    """The paths of one member are as strict, about content and query."""
    await client.post("/-/members", json=learner(2))
    for method, path, fields in (
        ("DELETE", "/-/members/2", {}),
        ("POST", "/-/members/2/promote", {}),
        ("PUT", "/-/members/2", {"url": url(7)}),
    ):
        dry = {**fields, "dry_run": True}
        check_problem(await client.request(method, path, json=dry), 400, 'no "dry_run"')
        check_problem(await client.request(method, path, json={**fields, "id": 1}), 400, 'leave out "id"')
        check_problem(await client.request(method, path, json=[fields]), 400, "no JSON object")
        asked = await client.request(method, f"{path}?dry-run=1", json=fields)
        check_problem(asked, 400, 'Unknown query parameter "dry-run"')
    assert served.parts.membership.envelope.members[2].address.url == url(2)
    assert served.parts.membership.conf_state.learners == (2,)


async def test_ids_that_are_none_or_unknown(client: httpx.AsyncClient) -> None:
    """Id 0 and words are 400, and an unknown id is 404, under /-/ and at the root."""
    for member_id, status, words in (
        ("0", 400, "not a positive integer"),
        ("four", 400, "not a positive integer"),
        ("99999999999999999999", 400, "not a positive integer"),
        ("9", 404, "node 9 is not a member of this cluster"),
    ):
        path = f"/-/members/{member_id}"
        check_problem(await client.delete(path), status, words)
        check_problem(await client.post(f"{path}/promote"), status, words)
        check_problem(await client.put(path, json={"url": url(9)}), status, words)
    removed = await client.delete("/9")
    assert (removed.status_code, removed.text.strip()) == (404, "node 9 is not a member of this cluster")


async def test_a_member_is_added_promoted_too_early_and_removed(client: httpx.AsyncClient) -> None:
    """Each step says what became of it; a removed id is never taken again."""
    added = await client.post("/-/members", json=learner(2))
    assert added.status_code == 200
    shown = added.json()["members"][1]
    assert (shown["id"], shown["role"], shown["promote"]) == (2, "learner", "manual")
    check_problem(await client.post("/-/members", json=learner(2)), 409, f"a member already, at {url(2)}")
    check_problem(await client.post("/-/members/2/promote"), 409, "has not caught up yet")
    check_problem(await client.post("/-/members/1/promote"), 409, "a voter already")
    removed = await client.delete("/-/members/2")
    assert (removed.status_code, [m["id"] for m in removed.json()["members"]]) == (200, [1])
    check_problem(await client.delete("/-/members/2"), 404, "not a member of this cluster: it was removed")
    check_problem(await client.post("/-/members", json=learner(2)), 409, "a removed id is never taken again")
    root = await client.post("/2", content=url(2))
    assert (root.status_code, "a removed id is never taken again" in root.text) == (409, True)


async def test_addresses_are_of_one_member_each(client: httpx.AsyncClient) -> None:
    """Neither a newcomer nor a member that moves, nor two of one request, may have the same."""
    await client.post("/-/members", json=learner(2))
    taken = {"id": 3, "url": url(2)}
    check_problem(await client.post("/-/members", json=taken), 409, f"{url(2)} is the address of node 2")
    moved = await client.put("/-/members/1", json={"url": url(2)})
    check_problem(moved, 409, f"{url(2)} is the address of node 2")
    two = {"changes": [{"action": "add", "id": i, "url": url(7)} for i in (3, 4)]}
    check_problem(await client.post("/-/members", json=two), 409, f"{url(7)} is the address of node 3")


async def test_a_member_hands_its_address_to_another(client: httpx.AsyncClient) -> None:
    """Where both are asked for at once, through a joint configuration, that is no conflict."""
    await client.post("/-/members", json=learner(2))
    passed_on = [{"action": "remove", "id": 2}, {"action": "add", **learner(3), "url": url(2)}]
    changed = await client.post("/-/members", json={"changes": passed_on})
    assert changed.status_code == 200
    with trio.fail_after(PATIENCE_S):
        while len(seen := (await client.get("/-/members")).json()) > 2:  # noqa: ASYNC110
            await trio.sleep(0.01)  # until the joint configuration is left
    assert [(m["id"], m["url"]) for m in seen] == [(1, url(1)), (3, url(2))]


async def test_a_member_moves(client: httpx.AsyncClient) -> None:
    """PUT of its URL gives a member another address; without one it is 400."""
    moved = await client.put("/-/members/1", json={"url": url(7)})
    assert (moved.status_code, moved.json()["members"][0]["url"]) == (200, url(7))
    check_problem(await client.put("/-/members/1", json={}), 400, "takes its peer URL")
    check_problem(await client.put("/-/members/1", content=url(7)), 400, "no JSON object")


async def test_several_changes_make_sense_together(client: httpx.AsyncClient, served: Served) -> None:
    """All are made, or none; each member is named once."""
    twice = {"changes": [{"action": "add", **learner(2)}, {"action": "remove", "id": 2}]}
    check_problem(await client.post("/-/members", json=twice), 409, "each member only once")
    half = {"changes": [{"action": "add", **learner(2)}, {"action": "remove", "id": 9}]}
    check_problem(await client.post("/-/members", json=half), 404, "node 9 is not a member")
    assert list(served.parts.membership.envelope.members) == [1]
    both = {"changes": [{"action": "add", **learner(i)} for i in (2, 3)]}
    assert (await client.post("/-/members", json=both)).status_code == 200
    assert list(served.parts.membership.envelope.members) == [1, 2, 3]


async def test_a_dry_run(client: httpx.AsyncClient, served: Served) -> None:
    """It says what the change itself would, forced or not, and changes nothing."""
    path = "/-/members/dry-run"
    assert (await client.post(path, json=learner(2))).json() == {"waits_for": None}
    check_problem(await client.post(path, json={"action": "remove", "id": 1}), 409, "the last voter")
    check_problem(await client.post(path, json={"action": "remove", "id": 9}), 404, "not a member")
    check_problem(await client.post(path, content=b"[]"), 400, "no JSON object")
    assert list(served.parts.membership.envelope.members) == [1]
    await client.post("/-/members", json=learner(2))
    promotion = {"action": "promote", "id": 2}
    check_problem(await client.post(path, json=promotion), 409, "has not caught up yet")
    assert (await client.post(f"{path}?force=true", json=promotion)).status_code == 200
    assert served.parts.membership.conf_state.learners == (2,)


async def test_a_dry_run_asks_the_leader(tmp_path: Path, free_ports: Ports) -> None:
    """Only the leader knows which members respond; it says what its own removal would wait for."""
    async with open_cluster(tmp_path, free_ports(2)) as (leader, follower):
        body = {"action": "remove", "id": leader.node.id}
        async with open_client(follower) as client:
            refused = await client.post("/-/members/dry-run", json=body)
            check_problem(refused, 503, f"node {follower.node.id} does not lead; ask the leader")
        async with open_client(leader) as client:
            told = (await client.post("/-/members/dry-run", json=body)).json()
            assert told == {"waits_for": "leadership is transferred before the leader is removed"}
        assert leader.parts.raw.status().transferee is None


async def test_a_directory_is_forgotten(tmp_path: Path, free_ports: Ports) -> None:
    """By the node that is asked alone, and not that of a voter. What is beside the path is refused."""
    async with open_cluster(tmp_path, free_ports(2)) as (leader, follower):
        async with open_client(leader) as client:
            assert (await client.post("/-/members", json={**learner(9), "promote": "manual"})).is_success
            path = "/-/members/9/forget"
            assert (await client.post(path)).json() == {"was_known": False}
            await leader.parts.peers._peer_keys.learn(9, bytes(32))
            check_problem(await client.post(f"{path}?force=true"), 400, "takes no query and no content")
            check_problem(await client.post(path, json={"id": 9}), 400, "takes no query and no content")
            assert (await client.post(path)).json() == {"was_known": True}
            check_problem(await client.post("/-/members/0/forget"), 400, "is not a positive integer")
            check_problem(await client.post("/-/members/8/forget"), 404, "is not a member")
        for served, other in ((leader, follower), (follower, leader)):
            async with open_client(served) as client:
                refused = await client.post(f"/-/members/{other.node.id}/forget")
                check_problem(refused, 409, "remove it and add the node under a new id")
        async with open_client(follower) as client:  # which may be behind
            assert (await client.post("/-/members/8/forget")).json() == {"was_known": False}


@pytest.mark.parametrize("path", ["/1", "/-/members/1", "/-/members/1?force=true"])
async def test_the_last_voter_stays(client: httpx.AsyncClient, path: str) -> None:
    """The last voter cannot be removed, not even by force or if a learner stays."""
    await client.post("/-/members", json=learner(2))
    refused = await client.delete(path)
    assert (refused.status_code, "the last voter cannot be removed" in refused.text) == (409, True)
    assert (await client.put("/key", content=b"v")).status_code == 204


async def test_one_post_makes_the_change_that_it_names(client: httpx.AsyncClient) -> None:
    """Without a list too: a request for another change adds nothing."""
    moved = {"action": "update", "id": 9, "url": url(9)}
    check_problem(await client.post("/-/members", json=moved), 404, "node 9 is not a member")


async def test_a_leader_with_nobody_to_hand_over_to_stays(client: httpx.AsyncClient) -> None:
    """A learner that becomes a voter by the same change cannot lead in time; it is said at once."""
    await client.post("/-/members", json=learner(2))
    both = {"changes": [{"action": "promote", "id": 2}, {"action": "remove", "id": 1}]}
    check_problem(await client.post("/-/members?force=true", json=both), 409, "promote one first")


async def test_force_promotes_one_that_lags(client: httpx.AsyncClient) -> None:
    """Force overrides refusals that are due to the members' present state, and no others."""
    await client.post("/-/members", json=learner(2))
    forced = await client.post("/-/members/2/promote?force=true")
    assert (forced.status_code, forced.json()["members"][1]["role"]) == (200, "voter")


async def test_a_change_without_a_leader(tmp_path: Path, free_ports: Ports) -> None:
    """It is 503 in time, certainly not made, and says when to try again."""
    async with open_survivor(tmp_path, free_ports(2), IMPATIENT, leads=False) as survivor:
        survivor.parts.raw.forget_leader()
        async with open_client(survivor) as client:
            refused = await client.post("/-/members", json=learner(3))
            check_problem(refused, 503, "certainly nothing was changed")
            assert refused.headers["Retry-After"] == "1"
            assert (await client.post("/3", content=url(3))).status_code == 503


async def test_a_change_without_a_quorum(tmp_path: Path, free_ports: Ports) -> None:
    """A leader without a quorum does not know who may ask for it by now; it makes no change: 503."""
    leader = open_survivor(tmp_path, free_ports(2), IMPATIENT, leads=True)
    async with leader as survivor, open_client(survivor) as client:
        refused = await client.post("/-/members?force=true", json=learner(3))
        check_problem(refused, 503, "certainly nothing was changed")


async def test_a_manual_promotion(tmp_path: Path, free_ports: Ports) -> None:
    """A follower passes it on; the learner that has caught up, and waits for it, votes."""
    ports = free_ports(3)
    async with open_cluster(tmp_path, ports[:2]) as (leader, follower):
        members = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(ports, start=1)}
        async with open_client(follower) as client:
            body = {"id": 3, "url": members[3].url, "promote": "manual"}
            assert (await client.post("/-/members", json=body)).status_code == 200
            async with open_server(
                tmp_path / "3", node_id=3, members=members, listen=members[3], join=True
            ) as newcomer:
                with trio.fail_after(PATIENCE_S):
                    while (promoted := await client.post("/-/members/3/promote")).status_code == 409:
                        assert "has not caught up yet" in promoted.text
                        await trio.sleep(0.05)
                assert promoted.status_code == 200
                assert newcomer.node.id in leader.parts.raw.status().configuration.voters


@pytest.mark.parametrize("path", ["/-/members", "/-/leader"])
async def test_what_is_no_text(client: httpx.AsyncClient, path: str) -> None:
    """Bytes that are not UTF-8 are no JSON, and an error of the client."""
    assert (await client.post(path, content=b'{"to": "\xff"}')).status_code in (400, 409)
