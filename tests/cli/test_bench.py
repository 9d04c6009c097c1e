"""`raftkv-trio bench`: load on real nodes, what it shows, and how it ends."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from raftkv_trio import __version__
from tests.cli.cluster import Cluster
from tests.cli.program import PROGRAM, Node, environment_with, refusal, run, serving_alone
from tests.integration.terminal import open_terminal

SHORT = ("--duration", "0.5", "--clients", "4", "--keys", "20")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        yield node


def measured(*arguments: str, directory: Path) -> dict[str, Any]:
    """What `-w json` says."""
    done = run("bench", *arguments, *SHORT, "-w", "json", directory=directory)
    assert (done.returncode, done.stderr) == (0, ""), done
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_each_operation(node: Node, tmp_path: Path) -> None:
    """Every response is counted once, the values have their size, and a program can read all of it."""
    for operation, kinds in (("put", ["put"]), ("get", ["get"]), ("mixed", ["get", "put"])):
        seen = measured(operation, "--endpoint", node.url, "--value-size", "7", directory=tmp_path)
        assert (seen["servers"], list(seen["results"])) == ([node.url], kinds)
        assert (seen["version"], seen["duration_s"], seen["all_members"]) == (__version__, 0.5, False)
        assert seen["read_percent"] == (90 if operation == "mixed" else None)
        assert 0 < seen["longest_stall_s"] < seen["elapsed_s"]
        assert (seen["was_interrupted"], seen["unreached"], seen["elapsed_s"] >= 0.5) == (False, {}, True)
        for kind, result in seen["results"].items():
            count = result["succeeded"]
            assert result["statuses"] == {"200" if kind == "get" else "204": count}
            assert sum(bucket["count"] for bucket in result["histogram"]) == count > 0
            assert result["rate"] == pytest.approx(count / seen["elapsed_s"], rel=1e-4)
            times = result["latency_s"]
            assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["p99.9"] <= times["max"]
    assert len(node.wait_answer(200, "/bench/19").content) == 7


def test_the_table(node: Node, tmp_path: Path) -> None:
    """A head, a line an operation, and a histogram; no bar where standard error is no terminal."""
    done = run("bench", "mixed", *SHORT, "--endpoint", node.url, directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, columns, *rest = done.stdout.splitlines()
    assert head.startswith(f"mixed on {node.url}: 4 clients, values of 100 bytes, 20 keys, 0.")
    assert columns.split() == ["REQUESTS", "PER", "S", "P50", "P90", "P99", "P99.9", "MAX", "ERRORS"]
    assert [line.split()[0] for line in rest[:2]] == ["get", "put"]
    assert "get, how long requests took:" in rest
    assert re.search(r"^longest time without a success: [\d.]+ ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^  <= [\d.]+ ms +\d+ +[\d.]+ % +#+$", done.stdout, re.MULTILINE)


@pytest.fixture
def cluster(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, free_ports(6))
    try:
        for node_id in cluster.urls:
            cluster.start(node_id)
        for node in cluster.nodes.values():
            node.wait_answer(200, "/-/ready")
        yield cluster
    finally:
        cluster.close()


def leader_of(cluster: Cluster) -> int:
    """The node that leads, once one does."""
    leaders: list[int] = []

    def leads() -> bool:
        leaders[:] = [i for i, node in cluster.nodes.items() if node.status()["role"] == "leader"]
        return bool(leaders)

    next(iter(cluster.nodes.values())).wait(leads)
    return leaders[0]


def test_the_leader_gets_it_or_all(cluster: Cluster, tmp_path: Path) -> None:
    """Whichever member is asked, the load goes to the leader; with --all-members to each that answers."""
    leader = leader_of(cluster)
    other, gone = (i for i in cluster.urls if i != leader)
    follower = cluster.urls[other]
    seen = measured("put", "--endpoint", follower, directory=tmp_path)
    assert seen["servers"] == [cluster.urls[leader]]
    seen = measured("put", "--endpoint", follower, "--all-members", directory=tmp_path)
    assert seen["servers"][0] == cluster.urls[leader]
    assert sorted(seen["servers"]) == sorted(cluster.urls.values())
    assert seen["all_members"]
    assert seen["results"]["put"]["succeeded"] > 0
    assert seen["left_out"] == {}

    cluster.kill(gone)
    members = f"{cluster.urls[leader]}/-/members"
    cluster.nodes[leader].wait(
        lambda: not next(m for m in httpx.get(members).json() if m["id"] == gone)["is_active"]
    )
    reason = "it does not answer the leader"
    arguments = ("put", "--endpoint", follower, "--all-members")
    seen = measured(*arguments, directory=tmp_path)
    assert (sorted(seen["servers"]), seen["left_out"]) == (
        sorted([follower, cluster.urls[leader]]),
        {str(gone): reason},
    )
    done = run("bench", *arguments, *SHORT, directory=tmp_path)
    assert done.stdout.splitlines()[1] == f"left out: node {gone} ({reason})"


def answered_puts(node: Node) -> float:
    """How many PUTs of clients this node has answered with success; forwarded ones are not among them."""
    metrics = node.wait_answer(200, "/-/metrics").text
    samples = re.findall(r'^raftkv_http_requests_total\{(.*method="PUT".*)\} (\S+)$', metrics, re.MULTILINE)
    return sum(float(count) for labels, count in samples if 'status="204"' in labels)


@pytest.mark.parametrize("is_killed", [False, True])
def test_it_follows_the_leader(cluster: Cluster, tmp_path: Path, is_killed: bool) -> None:
    """When leadership is transferred, or the leader dies, the load goes on at the new leader in this run.

    A former leader that is alive would go on answering, since it forwards: its rate would be another one.
    """
    former = leader_of(cluster)
    command = [
        *PROGRAM,
        "bench",
        "put",
        "--duration",
        "600",
        "--endpoint",
        cluster.urls[former],
        "-w",
        "json",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment_with(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        cluster.nodes[former].wait(lambda: answered_puts(cluster.nodes[former]) > 100)
        if is_killed:
            cluster.kill(former)
        else:
            done = run("member", "transfer", "--endpoint", cluster.urls[former], directory=tmp_path)
            assert done.returncode == 0, done
        leader = leader_of(cluster)
        assert leader != former
        cluster.nodes[leader].wait(lambda: answered_puts(cluster.nodes[leader]) > 100)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stderr) == (130, b"")
    seen = json.loads(stdout)
    assert seen["servers"] == [cluster.urls[former], cluster.urls[leader]]
    assert seen["leader_changes"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'put|get|mixed'"),
        (["post"], "Invalid value for 'put|get|mixed': 'post' is not one of 'put', 'get', 'mixed'"),
        (["put", "--clients", "0"], "Invalid value for '--clients': '0' is not an integer from 1 on"),
        (["put", "--clients", "99999999"], "--clients 99999999: only "),
        (["put", "--keys", "x"], "Invalid value for '--keys': 'x' is not an integer from 1 on"),
        (["put", "--duration", "nan"], "--duration must be positive, and at most 86400 s"),
        (["put", "--duration", "inf"], "--duration must be positive, and at most 86400 s"),
        (["put", "--timeout", "0"], "--timeout must be positive"),
        (["mixed", "--reads", "101"], "Invalid value for '--reads': '101' is not an integer from 0 to 100"),
        (["mixed", "--reads", "-1"], "Invalid value for '--reads': '-1' is not an integer from 0 to 100"),
        (["put", "--reads", "90"], "--reads applies to mixed only; leave it out for put"),
        (
            ["put", "--value-size", "2097153"],
            "--value-size must be at most 2097152; a node takes at most 1572864 unless ",
        ),
        (["put", "--endpoint", "a"], "--endpoint 'a' is not of the form host:port"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Bad input is refused with one line."""
    assert refusal("bench", *arguments, directory=tmp_path).startswith(sentence)


def test_nobody_answers(tmp_path: Path) -> None:
    """It ends as the other commands do."""
    said = refusal("bench", "put", "--endpoint", "127.0.0.1:1", directory=tmp_path, exit_code=1)
    assert said == "http://127.0.0.1:1 does not answer: Connection refused"


def test_nothing_succeeds(tmp_path: Path) -> None:
    """What was counted is shown, with exit code 1; a load that cannot write its keys says so at once."""
    with serving_alone("--max-value-size", "10", directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        done = run("bench", "put", *SHORT, "--endpoint", node.url, directory=tmp_path)
        assert done.returncode == 1
        limit = re.escape("A value has at most 10 bytes (--max-value-size)")
        assert re.search(rf"^put: [\d,]+ times status 413: {limit}$", done.stdout, re.MULTILINE)
        assert done.stderr == "raftkv-trio: no request succeeded; the output says why\n"
        moment = ["--duration", "0.000001", "--endpoint", node.url]
        done = run("bench", "put", *moment, directory=tmp_path)
        assert done.returncode == 1
        assert "the time was over before any request was answered" in done.stderr
        said = refusal("bench", "get", *SHORT, "--endpoint", node.url, directory=tmp_path, exit_code=1)
        assert said == (
            f"there are no keys to read, since {node.url} answers PUT with status 413: "
            "A value has at most 10 bytes (--max-value-size)"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_early(node: Node, tmp_path: Path, number: signal.Signals) -> None:
    """What was measured until then is shown, and the exit code tells of the signal."""
    command = [*PROGRAM, "bench", "put", "--duration", "600", "--endpoint", node.url, "-w", "json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment_with(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        node.wait(lambda: int(node.status()["applied_index"]) > 100)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stderr) == (128 + number, b"")
    seen = json.loads(stdout)
    assert seen["was_interrupted"]
    assert seen["results"]["put"]["succeeded"] > 0


async def test_the_bar_and_ctrl_c(node: Node, tmp_path: Path) -> None:
    """In a terminal a bar shows how far it is, and Ctrl-C ends it with the table below."""
    command = [*PROGRAM, "bench", "get", "--duration", "600", "--endpoint", node.url]
    async with open_terminal(command, tmp_path) as terminal:
        some_rate = re.compile(r"get +\[.* [1-9][\d,]*/s")
        while not some_rate.search(terminal.shown):  # noqa: ASYNC110 - the terminal tells nobody
            await trio.sleep(0.02)
        assert "writing keys  [####################################]  100%" in terminal.shown
        # Not typed: at a Ctrl-C a terminal throws away what was written to it and not shown yet.
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.process.wait() == 130
        said = "get, how long requests took:"
        while said not in terminal.shown:  # noqa: ASYNC110 - the terminal tells nobody
            await trio.sleep(0.02)
    assert "Traceback" not in terminal.shown
