"""`raftkv-trio member forget`: a stranger was first under the id of a member; real processes."""

from contextlib import AbstractContextManager
from signal import SIGKILL

import pytest

from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import read_peers, write_peers
from tests.cli.cluster import Cluster
from tests.cli.program import Node, refusal, run, serving
from tests.cli.test_member import listed, member
from tests.conftest import find_free_ports

ADDED = 4
STRANGERS_KEY = b"the key of some stranger, no. 4!"


@pytest.fixture
def running(cluster: Cluster) -> Cluster:
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    return cluster


def joining(cluster: Cluster, peer_url: str, data_dir: str, port: int) -> AbstractContextManager[Node]:
    """Node 4 with that data directory: the node that was added, or a stranger that came first."""
    urls = [*cluster.peer_urls.values(), peer_url]
    arguments = ["--id", str(ADDED), "--cluster", ",".join(urls), "--port", str(port), "--join"]
    return serving(*arguments, "--data-dir", data_dir, directory=cluster.directory, port=port)


def add(cluster: Cluster, *promote: str) -> str:
    """Node 4 is added; returns its peer URL."""
    (peer_port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{peer_port}"
    member(cluster, "add", str(ADDED), url, *promote)
    return url


@pytest.mark.parametrize(
    ("promote", "reason"),
    [
        ("auto", "node 4 is a voter, and another node under its id would not know how it has voted"),
        ("manual", "node 4 has acknowledged entries up to "),
    ],
)
def test_a_stranger_that_has_caught_up_is_not_forgotten(running: Cluster, promote: str, reason: str) -> None:
    """What it has promised cannot be taken back: its id is removed, and nobody has forgotten anything."""
    url = add(running, "--promote", promote)
    role = "voter" if promote == "auto" else "learner"
    port, *_ = find_free_ports(1)
    with joining(running, url, "stranger", port) as stranger:
        stranger.wait(lambda: listed(running)[ADDED]["match"] and listed(running)[ADDED]["role"] == role)
        assert stranger.end(SIGKILL) == -SIGKILL
    command = ("member", "forget", str(ADDED), "--endpoint", running.urls[2])
    refused = refusal(*command, directory=running.directory)
    assert refused.startswith(reason)
    assert refused.endswith("; remove it and add the node under a new id")
    assert not any("forgotten" in node.said for node in running.nodes.values())
    member(running, "remove", str(ADDED))
    refused = refusal(*command, directory=running.directory)
    assert refused == "node 4 is not a member of this cluster"


def test_a_stranger_that_has_acknowledged_nothing_is_forgotten(cluster: Cluster, running: Cluster) -> None:
    """All members forget it, and say so in their logs; then the node that was added is met, and starts again
    later."""
    url = add(cluster, "--promote", "manual")
    for node_id in cluster.urls:
        cluster.kill(node_id)
        home = cluster.directory / f"raftkv-trio-{node_id}"
        write_peers(OsDisk(), home, {**read_peers(OsDisk(), home), ADDED: STRANGERS_KEY})
    for node_id in cluster.urls:
        cluster.start(node_id)
    cluster.nodes[2].wait_answer(200, "/-/ready")
    port, *_ = find_free_ports(1)
    with joining(cluster, url, "added", port) as added:
        assert added.wait_exit() == 2
        assert "came back with another data directory" in added.said
    cluster.nodes[2].wait(
        lambda: all(seen["client_url"] for i, seen in listed(cluster).items() if i != ADDED)
    )

    assert member(cluster, "forget", "4").splitlines() == [f"node {i}: forgot node 4" for i in (1, 2, 3)]
    for node in cluster.nodes.values():
        node.wait_said("WARNING.* an operator has had the data directory of node 4 forgotten")
    for _ in range(2):
        with joining(cluster, url, "added", port) as added:
            added.wait_answer(200, "/-/ready")
            assert "set back" not in added.said
            assert added.end(SIGKILL) == -SIGKILL


def test_a_member_that_cannot_be_asked_is_named(running: Cluster) -> None:
    """With exit code 1 and an error; the lines of all members, who are asked all the same, are output."""
    add(running, "--promote", "manual")
    leader = running.nodes[2].status()["leader_id"]
    gone = next(i for i in (1, 3) if i != leader)
    running.kill(gone)
    done = run("member", "forget", str(ADDED), "--endpoint", running.urls[2], directory=running.directory)
    assert done.returncode == 1
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines == {
        **{f"node {i}": "did not know node 4" for i in (1, 2, 3) if i != gone},
        f"node {gone}": f"{running.urls[gone]} does not answer: Connection refused",
    }
    assert done.stderr == (
        "raftkv-trio: 1 of 3 members did not forget node 4; the lines above say why; give the command again"
        " when they answer\n"
    )


def test_without_a_leader_nobody_is_asked_to_forget(cluster: Cluster) -> None:
    """Only the leader knows what a node has acknowledged."""
    cluster.start(2)
    cluster.nodes[2].wait_answer(200, "/-/healthy")
    command = ("member", "forget", "3", "--endpoint", cluster.urls[2])
    sentence = refusal(*command, directory=cluster.directory, exit_code=1)
    assert sentence.startswith("no leader is known")
