"""`raftkv-trio member`: the members of a cluster, seen and changed by commands."""

import json
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from raftkv_trio.cli.commands import program
from raftkv_trio.cli.member import remove
from raftkv_trio.client.members import Members, forecast
from raftkv_trio.client.rest import NoAnswer, NobodyDid, RequestFailed
from raftkv_trio.errors import RaftKVError
from tests.cli.cluster import Cluster
from tests.cli.program import refusal, run

PATIENCE_S = 30.0


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
    (leader,) = (int(row[0]) for row in rows if row[2] == "yes")
    return leader


def test_members_by_command(cluster: Cluster) -> None:
    """Add, update, remove and transfer work through any member; a dry run prints the effect of a change; and
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
    assert rows[0][:5] == ["ID", "KIND", "LEADS", "PROMOTE", "ANSWERS"]
    assert sorted(tuple(row[1:3]) for row in rows[1:]) == [
        ("learner", "no"),
        ("voter", "no"),
        ("voter", "no"),
        ("voter", "yes"),
    ]

    for arguments, sentence in (
        (("add", "4", "http://127.0.0.1:52379"), "node 4 is a member already"),
        (("add", "5", url), "is the address of node 4"),
        (("add", "0", url), "node id '0' is not a positive integer"),
        (("add", "5", "five"), "does not begin with http://"),
        (("promote", "4"), "node 4 has not caught up yet"),
        (("remove", "9"), "node 9 is not a member of this cluster"),
        (("transfer", "4"), "node 4 is not a voter that acknowledges"),
    ):
        for more in ((), ("--dry-run",)) if arguments[0] != "transfer" else ((),):
            command = ("member", *arguments, *more, "--endpoint", cluster.urls[1])
            assert sentence in refusal(*command, directory=cluster.directory), command

    assert "42380" in member(cluster, "update", "4", "http://127.0.0.1:42380")
    assert listed(cluster)[4]["url"] == "http://127.0.0.1:42380"
    assert "node 4 is removed" in member(cluster, "remove", "4")
    again = ("member", "add", "4", url, "--dry-run", "--endpoint", cluster.urls[1])
    assert "a removed id is never taken again" in refusal(*again, directory=cluster.directory)
    leader = leading(cluster)
    said = member(cluster, "remove", str(leader), "--dry-run")
    assert said.endswith("first     leadership is transferred before the leader is removed\n")
    assert leading(cluster) == leader
    successor = next(i for i in (1, 2, 3) if i != leader)
    assert member(cluster, "transfer", str(successor)) == f"node {successor} leads\n"
    assert leading(cluster) == successor
    said = member(cluster, "transfer")
    assert said == f"node {leading(cluster)} leads\n"
    assert said != f"node {successor} leads\n"
    member(cluster, "remove", str(leader))
    assert cluster.nodes.pop(leader).wait_exit() == 0


def test_the_list_says_what_is_wrong_with_an_inactive_member(cluster: Cluster) -> None:
    """The leader cannot know, so the member itself is asked."""
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    assert len(member(cluster, "list").splitlines()) == 4
    gone = next(i for i in (1, 3) if i != leading(cluster))
    cluster.kill(gone)
    deadline = monotonic() + PATIENCE_S
    while listed(cluster)[gone]["is_active"] is not False:
        assert monotonic() < deadline
    said = member(cluster, "list").splitlines()[-1]
    assert said == f"node {gone}: {cluster.urls[gone]} does not answer: Connection refused"


def test_nobody_answers(tmp_path: Path) -> None:
    """Every endpoint is tried, and has a line of its own; the exit code is 1."""
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    done = run("member", "list", "--endpoint", urls[0], "--endpoint", urls[1], directory=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "raftkv-trio: no member answered:",
        *[f"  {url} does not answer: Connection refused" for url in urls],
    ]


@pytest.mark.parametrize(
    ("procfile", "why"),
    [
        (None, "no ./Procfile names nodes, so this asks http://127.0.0.1:1"),
        ("a: raftkv-trio serve --port 1\n", "without --endpoint this asks the nodes of ./Procfile"),
    ],
)
@pytest.mark.parametrize("command", [("status",), ("member", "list"), ("snapshot",), ("backup", "file")])
def test_nobody_answers_where_nobody_was_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    procfile: str | None,
    why: str,
    command: tuple[str, ...],
) -> None:
    """Who gave no --endpoint is told which were asked instead, and of the flag."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFTKV_TRIO_ENDPOINT", raising=False)
    if procfile is not None:
        Path("Procfile").write_text(procfile)
    else:
        monkeypatch.setattr("raftkv_trio.cli.shared_flags.DEFAULT_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(RaftKVError) as caught:
        program.main([*command], standalone_mode=False)
    assert str(caught.value).splitlines() == [
        "http://127.0.0.1:1 does not answer: Connection refused",
        f"{why}; name members with --endpoint",
    ]


@pytest.mark.parametrize("status", [503, 507])
def test_where_no_quorum_is_left_to_agree(status: int) -> None:
    """If members answer and can do nothing, the text names the page for a majority that is lost."""
    failures = [
        RequestFailed("http://one", "no leader is known", status),
        NoAnswer("http://two", "Connection refused", was_sent=False),
    ]
    assert ("The majority is lost" in str(NobodyDid(failures))) is (status == 503)


@pytest.mark.parametrize(
    ("active", "change", "verdict"),
    [
        ((1, 2, 3), {"action": "remove", "id": 3}, "1, 2, which is a quorum"),
        ((1, 2), {"action": "remove", "id": 2}, "1, which is no quorum"),
        ((1, 2), {"action": "remove", "id": 3}, "1, 2, which is a quorum"),
        ((1, 2, 3, 4), {"action": "promote", "id": 4}, "1, 2, 3, 4, which is a quorum"),
        ((1, 2), {"action": "promote", "id": 4}, "1, 2, which is no quorum"),
        ((1, 2, 3), {"action": "add", "id": 5}, "1, 2, 3, 5, which is a quorum"),
    ],
)
def test_what_a_change_would_do(active: tuple[int, ...], change: dict[str, Any], verdict: str) -> None:
    """The forecast counts the voters that would respond after the change."""
    assert forecast(of(active), [change]).endswith(f"answers   {verdict}")


def of(active: tuple[int, ...]) -> Members:
    """Three voters and a learner, as a leader sees them."""
    members = [
        {
            "id": i,
            "url": f"http://127.0.0.1:{i}2379",
            "role": "voter" if i < 4 else "learner",
            "is_active": i in active,
        }
        for i in range(1, 5)
    ]
    return Members(1, members)


@pytest.mark.parametrize("switch", ["force", "dry_run"])
def test_a_forgotten_variable_changes_no_change(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """Whether a change is forced, or not made at all, is said with the command, and in no variable."""
    monkeypatch.setenv(f"RAFTKV_TRIO_{switch.upper()}", "1")
    assert remove.make_context("remove", ["3"]).params[switch] is False
