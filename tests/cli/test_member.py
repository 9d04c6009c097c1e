"""`raftkv-trio member`: who is in a cluster, and changes of it, by a user's commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from raftkv_trio.member_client import Members, forecast
from tests.cli.cluster import Cluster
from tests.cli.program import refusal, run


def member(cluster: Cluster, *arguments: str) -> str:
    """What a `member` command says, asked of node 2."""
    done = run("member", *arguments, "--endpoint", cluster.urls[2], directory=cluster.directory)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def listed(cluster: Cluster) -> dict[int, dict[str, Any]]:
    return {seen["id"]: seen for seen in json.loads(member(cluster, "list", "-w", "json"))}


def leading(cluster: Cluster) -> int:
    """Who leads, by the table."""
    rows = [line.split() for line in member(cluster, "list").splitlines()]
    (leader,) = (int(row[0]) for row in rows if row[1] == "leader")
    return leader


def test_members_by_command(cluster: Cluster) -> None:
    """Add, change, remove and hand over work through any member; what a change does is said before; and
    what makes no sense is one sentence, with exit code 2."""
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    url = "http://127.0.0.1:42379"

    said = member(cluster, "add", "4", url, "--dry-run")
    assert "quorum    2 of 3 -> 3 of 4" in said
    assert set(listed(cluster)) == {1, 2, 3}
    assert "node 4 is a learner" in member(cluster, "add", "4", url, "--promote", "manual")
    seen = listed(cluster)
    assert (seen[4]["role"], seen[4]["promote"], seen[4]["url"]) == ("learner", "manual", url)
    assert [seen[i]["is_active"] for i in (1, 2, 3, 4)] == [True, True, True, False]
    rows = [line.split() for line in member(cluster, "list").splitlines()]
    assert rows[0][:4] == ["ID", "ROLE", "PROMOTE", "ANSWERS"]
    assert sorted(row[1] for row in rows[1:]) == ["leader", "learner", "voter", "voter"]

    for arguments, sentence in (
        (("add", "4", "http://127.0.0.1:52379"), "node 4 is a member already"),
        (("add", "5", url), "is the address of node 4"),
        (("add", "0", url), "node id '0' is not a positive integer"),
        (("add", "5", "five"), "does not begin with http://"),
        (("promote", "4"), "node 4 has not caught up yet"),
        (("remove", "9"), "node 9 is no member of this cluster"),
        (("transfer", "4"), "Node 4 is no other voter that answers"),
    ):
        refused = refusal("member", *arguments, "--endpoint", cluster.urls[1], directory=cluster.directory)
        assert sentence in refused, arguments

    assert "42380" in member(cluster, "update", "4", "http://127.0.0.1:42380")
    assert listed(cluster)[4]["url"] == "http://127.0.0.1:42380"
    assert "node 4 is removed" in member(cluster, "remove", "4")
    (leader,) = (
        int(row[0])
        for row in (line.split() for line in member(cluster, "list").splitlines())
        if row[1] == "leader"
    )
    heir = next(i for i in (1, 2, 3) if i != leader)
    member(cluster, "transfer", str(heir))
    (leader_now,) = (
        int(row[0])
        for row in (line.split() for line in member(cluster, "list").splitlines())
        if row[1] == "leader"
    )
    assert leader_now == heir
    member(cluster, "remove", str(leader))
    assert cluster.nodes.pop(leader).wait_exit() == 0


def test_nobody_answers(tmp_path: Path) -> None:
    """Every endpoint is tried, and named; the exit code is 1."""
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    said = refusal(
        "member", "list", "--endpoint", urls[0], "--endpoint", urls[1], directory=tmp_path, exit_code=1
    )
    assert all(f"{url} does not answer: Connection refused" in said for url in urls)


@pytest.mark.parametrize(
    ("active", "change", "verdict"),
    [
        ((1, 2, 3), {"action": "remove", "id": 3}, "1, 2, which is a quorum"),
        ((1, 2), {"action": "remove", "id": 2}, "1, which is no quorum: it would be refused"),
        ((1, 2), {"action": "remove", "id": 3}, "1, 2, which is a quorum"),
        ((), {"action": "remove", "id": 3}, "nobody knows: no leader could be asked"),
        ((1, 2, 3, 4), {"action": "promote", "id": 4}, "1, 2, 3, 4, which is a quorum"),
        ((1, 2), {"action": "promote", "id": 4}, "1, 2, which is no quorum: it would be refused"),
        ((1, 2, 3), {"action": "add", "id": 5}, "1, 2, 3, 5, which is a quorum"),
    ],
)
def test_what_a_change_would_do(active: tuple[int, ...], change: dict[str, Any], verdict: str) -> None:
    """The forecast counts who answers among the voters afterwards."""
    assert forecast(of(active), [change]).endswith(f"answers   {verdict}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "remove", "id": 9}, "node 9 is no member"),
        ({"action": "add", "id": 3}, "node 3 is a member"),
        ({"action": "promote", "id": 3}, "a voter already"),
        ({"action": "add", "id": 5, "url": "http://127.0.0.1:22379"}, "is the address of node 2"),
        ({"action": "readdress", "id": 3, "url": "http://127.0.0.1:22379"}, "is the address of node 2"),
    ],
)
def test_what_would_be_refused(change: dict[str, Any], words: str) -> None:
    """What makes no sense is told instead of a forecast; and a forced change is not called refused."""
    said = forecast(of((1, 2, 3)), [change])
    assert said.startswith("refused: ")
    assert words in said
    forced = forecast(of((1,)), [{"action": "remove", "id": 3}], is_forced=True)
    assert forced.endswith("1, which is no quorum")


def of(active: tuple[int, ...]) -> Members:
    """Three voters and a learner, as a leader sees them, or as nobody does."""
    members = [
        {
            "id": i,
            "url": f"http://127.0.0.1:{i}2379",
            "role": "voter" if i < 4 else "learner",
            "is_active": i in active if active else None,
        }
        for i in range(1, 5)
    ]
    return Members(1 if active else None, members)
