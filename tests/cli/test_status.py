"""`raftkv-trio status`: all members as each sees itself, if at least one of them is up."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.rest import NO_REST_API, NOT_A_NODE
from raftkv_trio.client.status import survey, table
from raftkv_trio.errors import ConfigError, RaftKVError
from tests.cli.cluster import Cluster
from tests.cli.program import alone, refusal, run, serving
from tests.client.stranger import open_stranger, response


def status(cluster: Cluster, *endpoint_ids: int) -> dict[int, dict[str, Any]]:
    """What `-w json` says, asked from these; by member id."""
    endpoints = [argument for i in endpoint_ids for argument in ("--endpoint", cluster.urls[i])]
    done = run("status", "-w", "json", *endpoints, directory=cluster.directory)
    assert (done.returncode, done.stderr) == (0, "")
    reports = json.loads(done.stdout)
    assert [report["id"] for report in reports] == [1, 2, 3]
    return {report["id"]: report for report in reports}


def test_members_come_and_go(cluster: Cluster) -> None:
    """A member that answers is shown as it sees itself, one that does not, as far as the others know it."""
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")

    reports = status(cluster, 2)
    assert sorted(report["role"] for report in reports.values()) == ["follower", "follower", "leader"]
    (leader_id,) = (i for i, report in reports.items() if report["role"] == "leader")
    for i, report in reports.items():
        assert (report["client_url"], report["url"]) == (cluster.urls[i], cluster.peer_urls[i])
        assert (report["leader_id"], report["health"]) == (leader_id, "ok")
        assert report["term"] == reports[leader_id]["term"] >= 2
        assert (
            report["lag"] == reports[leader_id]["commit_index"] - report["applied_index"]
            or report["lag"] == 0
        )

    down, other = (i for i in reports if i != leader_id)
    cluster.kill(down)
    reports = status(cluster, other)
    assert (reports[down]["health"], reports[down]["role"]) == ("unreachable: Connection refused", None)
    assert reports[down]["client_url"] == cluster.urls[down]
    assert reports[leader_id]["role"] == "leader"

    cluster.kill(leader_id)
    cluster.nodes[other].wait_answer(503, "/-/ready")
    report = status(cluster, leader_id, other)[other]
    assert report["leader_id"] is None
    assert report["health"].startswith("no leader is known; node ")

    cluster.kill(other)
    cluster.start(other)  # and has met nobody since
    cluster.nodes[other].wait_answer(200, "/-/healthy")
    reports = status(cluster, other)
    assert reports[other]["client_url"] == cluster.urls[other]
    assert reports[down]["client_url"] is None
    assert reports[down]["health"] == (
        f"unreachable: no member that answers has met it; node {other} says: Connection refused"
    )


def test_nobody_answers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """The error names each endpoint, with exit code 1; the default endpoint is raftexample's port."""
    one, two = free_ports(2)
    endpoints = [f"http://127.0.0.1:{one}", f"127.0.0.1:{two}"]
    said = refusal(
        "status",
        directory=tmp_path,
        exit_code=1,
        environment={"RAFTKV_TRIO_ENDPOINT": " ".join(endpoints)},
    )
    head, *lines = said.splitlines()
    assert head == "no member answered:"
    assert lines == [
        f"http://127.0.0.1:{port} does not answer: Connection refused" for port in sorted((one, two), key=str)
    ]
    said = refusal("status", directory=tmp_path, exit_code=1)
    assert said.startswith("http://127.0.0.1:9121 does not answer: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cert", "c"], "--cert is only half of a pair; name the other half with --key"),
        (
            ["--endpoint", "https://a:1", "--cacert", "none"],
            "--cacert none has no certificate in PEM, or cannot be read",
        ),
        (["--endpoint", "a"], "--endpoint 'a' is not of the form host:port"),
        (["--timeout", "0"], "--timeout must be positive"),
        (["-w", "xml"], "Invalid value for '-w'"),
        (["1"], "Got unexpected extra argument"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Bad flags are refused with one line."""
    assert refusal("status", *arguments, directory=tmp_path).startswith(sentence)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("RAFTKV_TRIO_ENDPOINT", "a", "'a' is not of the form host:port"),
        ("RAFTKV_TRIO_TIMEOUT", "0", "must be positive"),
    ],
)
def test_a_variable_that_does_not_fit(tmp_path: Path, variable: str, value: str, reason: str) -> None:
    """It is named, and not the flag that nobody gave."""
    said = refusal("status", directory=tmp_path, environment={variable: value})
    assert said.startswith(f"{variable} {reason}")


# ------------------------------------------------------------ members that are none, in this process

STATUS = {
    "id": 1,
    "cluster_id": "a",
    "role": "follower",
    "term": 3,
    "leader_id": 2,
    "last_index": 12,
    "commit_index": 10,
    "applied_index": 9,
    "health": None,
}
MEMBER = {"id": 1, "url": "http://one:1", "client_url": None, "role": "voter"}


def test_a_peer_port_is_asked(tmp_path: Path) -> None:
    """Every command that asks a node says what may be wrong, in the same words."""
    port, arguments = alone()
    with serving(*arguments, directory=tmp_path, port=port) as node:
        node.wait_answer(200, "/-/ready")
        peer_port = arguments[arguments.index("--listen-peer") + 1]
        said = f"http://{peer_port} does not answer: {NO_REST_API}"
        for command in (("status",), ("member", "list"), ("snapshot",), ("backup", "file")):
            asked = (*command, "--endpoint", peer_port)
            assert refusal(*asked, directory=tmp_path, exit_code=1) == said


def test_endpoints_of_a_procfile(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """Without an endpoint the nodes of the Procfile in the working directory are asked; one may be down."""
    peer_port, port, other = free_ports(3)
    alone_at = f"serve --cluster http://127.0.0.1:{peer_port} --port {port}"
    (tmp_path / "Procfile").write_text(f"a: raftkv-trio {alone_at}\nb: raftkv-trio serve --port {other}\n")
    said = refusal("status", directory=tmp_path, exit_code=1)
    assert re.findall(r"http://127.0.0.1:(\d+) does not answer", said) == sorted((str(port), str(other)))
    with serving(*alone_at.split()[1:], port=port, directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        for command in ("status", "member list", "snapshot --endpoint " + node.url):
            assert run(*command.split(), directory=tmp_path).returncode == 0


def test_a_procfile_of_another_program(tmp_path: Path) -> None:
    """It is nothing that was asked for: the default port is asked."""
    (tmp_path / "Procfile").write_text("web: x\nweb: y\n")
    assert "http://127.0.0.1:9121" in refusal("status", directory=tmp_path, exit_code=1)


def test_endpoints_of_the_environment(tmp_path: Path) -> None:
    """They are separated by commas, as those of --cluster, or by spaces."""
    for endpoints in ("127.0.0.1:1,http://127.0.0.1:2", "127.0.0.1:1 127.0.0.1:2"):
        environment = {"RAFTKV_TRIO_ENDPOINT": endpoints}
        said = refusal("status", directory=tmp_path, environment=environment, exit_code=1)
        assert said.count("Connection refused") == 2


async def stranger(nursery: trio.Nursery, status: bytes, members: bytes = b"") -> PeerAddress:
    """A server that answers what `status` asks of a node with these bytes."""
    return (await open_stranger(nursery, {"/-/status": status, "/-/members": members})).address


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", NO_REST_API),
        (b"\x15\x03\x01\0\x02\x02\x50", NO_REST_API),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", NO_REST_API),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]", NOT_A_NODE),
        (response({}).replace(b"{}", b"\xff\xff"), NOT_A_NODE),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 500_000, NOT_A_NODE),
        (
            b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1_100_000,
            f"{NOT_A_NODE}: its answer is longer than 1048576 bytes",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            f"{NOT_A_NODE}: it answers with status 404; the REST API has another port (--port)"
            " than etcd's (--etcd-port)",
        ),
        (response([]), NOT_A_NODE),
        (response({**STATUS, "term": "3"}), NOT_A_NODE),
        (response({**STATUS, "health": 3}), NOT_A_NODE),
        (response({**STATUS, "certificates": ["2027-01-31T12:00:00Z"]}), NOT_A_NODE),
        (response({**STATUS, "certificates": {"cert_file": "soon\x1b"}}), NOT_A_NODE),
    ],
    ids=range(13),
)
async def test_strangers_are_told(reply: bytes, reason: str) -> None:
    """What answers but is no node is unreachable, with a reason."""
    async with trio.open_nursery() as nursery:
        address = await stranger(nursery, reply, response([MEMBER]))
        sentence = f"the server at {address.url} is {reason}"
        if reason == NO_REST_API:
            sentence = f"{address.url} does not answer: {reason}"
        with pytest.raises(RaftKVError, match=f"^{re.escape(sentence)}$"):
            await survey([address], 60)
        nursery.cancel_scope.cancel()


async def test_whoever_says_nothing_is_not_waited_for() -> None:
    """A member that accepts and never answers costs the timeout, and the others are shown."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        silent = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        members = [MEMBER, {**MEMBER, "id": 2, "client_url": silent}]
        address = await stranger(nursery, response(STATUS), response(members))
        one, two = await survey([address], 0.5)
        assert (one.health, one.lag, one.client_url) == ("ok", 1, address.url)
        assert (one.cluster_id, two.cluster_id) == ("a", None)
        assert two.health == "unreachable: nothing within 0.5 s"
        await listener.aclose()
        nursery.cancel_scope.cancel()


async def test_what_the_table_shows() -> None:
    """A line a member, a dash for what is not known, and nothing that drives a terminal."""
    async with trio.open_nursery() as nursery:
        members = [MEMBER, {**MEMBER, "id": 2, "client_url": "http://b\x1bc:1"}, {**MEMBER, "id": 10}]
        health = "no leader is known; \x1b[2J\n\N{SNOWMAN}"
        address = await stranger(
            nursery, response({**STATUS, "leader_id": None, "health": health}), response(members)
        )
        lines = table(await survey([address], 60)).splitlines()
        nursery.cancel_scope.cancel()
    malformed = "unreachable: client URL 'http://b\\x1bc:1' is not of the form http://host:port"
    shown = "no leader is known; \\x1b[2J\\n\N{SNOWMAN}"
    unknown = "-         -     -       -     -       -        -"
    assert lines == [
        f"ID  ROLE      TERM  LEADER  LAST  COMMIT  APPLIED  LAG  {'HEALTH':<{len(malformed)}}  CLIENT URL",
        f"1   follower  3     -       12    10      9        1    {shown:<{len(malformed)}}  {address.url}",
        f"2   {unknown}    {malformed}  http://b\\x1bc:1",
        f"10  {unknown}    {'unreachable: no member that answers has met it':<{len(malformed)}}  -",
    ]


async def test_the_column_of_certificates() -> None:
    """It has the day on which the first of a member's certificates ends, and a dash where none is known."""
    async with trio.open_nursery() as nursery:
        ends = {"cert_file": "2027-02-01T12:00:00Z", "peer_cert_file": "2027-01-31T12:00:00Z"}
        members = [MEMBER, {**MEMBER, "id": 2}]
        address = await stranger(nursery, response({**STATUS, "certificates": ends}), response(members))
        reports = await survey([address], 60)
        nursery.cancel_scope.cancel()
    header, one, two = table(reports).splitlines()
    assert "  LAG  CERTS END   HEALTH  " in header
    assert "  1    2027-01-31  ok  " in one
    assert "  -    -           unreachable: " in two
    assert [report.certificates for report in reports] == [ends, {}]


async def test_a_long_health_is_shown_to_its_end() -> None:
    """What to do stands at the end of a sentence, so the whole of it comes below the table."""
    async with trio.open_nursery() as nursery:
        health = f"the node is \x1b[2Jill: {'x' * 400}; stop it"
        address = await stranger(nursery, response({**STATUS, "health": health}), response([MEMBER]))
        lines = table(await survey([address], 60)).splitlines()
        nursery.cancel_scope.cancel()
    assert "the node is \\x1b[2Jill: xxx" in lines[1]
    assert len(lines[1]) < 200
    assert lines[2:] == [f"node 1: the node is \\x1b[2Jill: {'x' * 400}; stop it"]


async def test_a_member_that_was_never_met() -> None:
    """Members say what keeps them from it, the leader first; what no member says is not made up."""
    away = {**MEMBER, "id": 3, "trouble": "its secret is another one"}
    async with trio.open_nursery() as nursery:
        leader = await stranger(
            nursery, response({**STATUS, "id": 2, "role": "leader"}), response([{**away, "trouble": "a\x1b"}])
        )
        address = await stranger(
            nursery, response(STATUS), response([MEMBER, {**MEMBER, "id": 2, "client_url": leader.url}, away])
        )
        *_, shown = await survey([address], 60)
        assert shown.health == "unreachable: no member that answers has met it; node 2 says: a\x1b"
        assert table([shown]).splitlines()[1].endswith("node 2 says: a\\x1b  -")
        for trouble in (None, 3):
            alone = await stranger(
                nursery, response(STATUS), response([MEMBER, {**away, "trouble": trouble}])
            )
            *_, shown = await survey([alone], 60)
            assert shown.health == "unreachable: no member that answers has met it"
        nursery.cancel_scope.cancel()


async def test_a_learner_and_another_node_at_an_address() -> None:
    """A learner is shown as one; a node with another id at a member's address is not that member."""
    async with trio.open_nursery() as nursery:
        other = await stranger(nursery, response({**STATUS, "id": 7}), response([]))
        members = [{**MEMBER, "role": "learner"}, {**MEMBER, "id": 2, "client_url": other.url}]
        address = await stranger(nursery, response({**STATUS, "applied_index": 10}), response(members))
        one, two = await survey([address], 60)
        assert one.role == "learner"
        assert two.health == "unreachable: another node answers there"
        nursery.cancel_scope.cancel()


async def test_endpoints_of_two_clusters() -> None:
    """They are refused, since no table could hold both."""
    async with trio.open_nursery() as nursery:
        one = await stranger(nursery, response(STATUS), response([MEMBER]))
        two = await stranger(nursery, response({**STATUS, "id": 2, "cluster_id": "b"}), response([MEMBER]))
        with pytest.raises(ConfigError, match="are of different clusters"):
            await survey([one, two], 60)
        nursery.cancel_scope.cancel()


async def test_a_member_that_tells_of_no_other() -> None:
    """It is shown alone, and why: a cluster that checks users tells its members to root only."""
    refusal = response({"detail": "who asks?"}, "401 Unauthorized")
    async with trio.open_nursery() as nursery:
        one = await stranger(nursery, response(STATUS), refusal)
        two = await stranger(nursery, response({**STATUS, "id": 2}), refusal)
        reports = await survey([one, two], 60)
        assert [(report.id, report.url, report.client_url) for report in reports] == [
            (STATUS["id"], None, one.url),
            (2, None, two.url),
        ]
        told = table(reports).splitlines()[-1]
        assert told.startswith("other members may be missing: who asks?; name a user")
        assert "--user" in told
        nursery.cancel_scope.cancel()
