"""`raftkv-trio snapshot`: every member that is named is asked, and each has a line that is true."""

import re
import subprocess
from signal import SIGCONT, SIGSTOP

import pytest
import trio

from raftkv_trio.client.rest import NOT_A_NODE, NobodyDid, RequestRefused
from raftkv_trio.client.snapshots import NOTHING_APPLIED, take_snapshots
from tests.cli.cluster import Cluster
from tests.cli.program import DEADLINE_S, PROGRAM, environment_with, run
from tests.client.stranger import open_stranger, response


def test_a_member_that_is_down_keeps_no_other_from_it(cluster: Cluster) -> None:
    """The others take their snapshots, the exit code is 1, and the line of the first says why."""
    for node_id in (2, 3):
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    endpoints = [argument for url in cluster.urls.values() for argument in ("--endpoint", url)]
    done = run("snapshot", *endpoints, directory=cluster.directory)
    assert done.returncode == 1
    down, *others = done.stdout.splitlines()
    assert down == f"{cluster.urls[1]}: unreachable: Connection refused"
    for node_id, line in zip((2, 3), others, strict=True):
        status = cluster.nodes[node_id].status()
        told = re.fullmatch(rf"{cluster.urls[node_id]}: snapshot at index (\d+) of term (\d+)", line)
        assert told is not None, line
        # An election may follow on the first one, so that the snapshot may be of an earlier term than now.
        assert int(told[1]) == status["snapshot_index"]
        assert 2 <= int(told[2]) <= status["term"]
        assert status["snapshot_index"] >= 2
    assert done.stderr == "raftkv-trio: 1 of 3 members took no snapshot; the lines above say why\n"
    done = run("snapshot", *endpoints[2:], directory=cluster.directory)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, others, "")


def test_a_member_that_takes_long_is_named_while_it_does(cluster: Cluster) -> None:
    """On standard error, after a moment: nobody watches an empty screen for ten minutes."""
    for node_id in cluster.urls:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")
    endpoints = [argument for url in cluster.urls.values() for argument in ("--endpoint", url)]
    paused = cluster.nodes[2].process
    paused.send_signal(SIGSTOP)
    command = subprocess.Popen(
        [*PROGRAM, "snapshot", *endpoints],
        env=environment_with(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        try:
            assert command.stderr is not None
            line = command.stderr.readline()
            assert re.fullmatch(rf"waiting for {cluster.urls[2]}, for at most 600 s in all .*\n", line), line
            paused.send_signal(SIGCONT)
            stdout, stderr = command.communicate(timeout=DEADLINE_S)
        finally:
            paused.send_signal(SIGCONT)
            command.kill()
    assert (command.returncode, stderr, len(stdout.splitlines())) == (0, "", 3)


async def test_all_refuse_for_one_reason() -> None:
    """Then that is the error, once, of the kind that has exit code 2; for several reasons each is told."""
    unknown = {"/-/snapshot": response({"detail": "who asks?"}, "401 Unauthorized")}
    denied = {"/-/snapshot": response({"detail": "not you"}, "403 Forbidden")}
    async with trio.open_nursery() as nursery:
        servers = [(await open_stranger(nursery, each)).address for each in (unknown, unknown, denied)]
        with pytest.raises(RequestRefused) as refused:
            await take_snapshots(servers[:2], 60)
        assert str(refused.value) == "who asks?; name a user (on the command line of raftkv-trio with --user)"
        with pytest.raises(NobodyDid, match="not you"):
            await take_snapshots(servers, 60)
        nursery.cancel_scope.cancel()


async def test_what_is_no_snapshot() -> None:
    """Index 0 is none, nor is a refusal, nor what another program answers."""
    answers = {
        response({"index": 0, "term": 0}): f"failed: {NOTHING_APPLIED}",
        response({"detail": "set back"}, "503 Service Unavailable"): "failed: set back",
        response({"index": "\x1b"}): f"failed: {NOT_A_NODE}",
    }
    async with trio.open_nursery() as nursery:
        servers = [await open_stranger(nursery, {"/-/snapshot": answer}) for answer in answers]
        good = await open_stranger(nursery, {"/-/snapshot": response({"index": 5, "term": 2})})
        taken = await take_snapshots([good.address, *(server.address for server in servers)], 60)
        assert [line.removeprefix("http://127.0.0.1:").partition(": ")[2] for line, _ in taken] == [
            "snapshot at index 5 of term 2",
            *answers.values(),
        ]
        assert [failure is None for _, failure in taken] == [True, False, False, False]
        with pytest.raises(NobodyDid, match=NOTHING_APPLIED):
            await take_snapshots([servers[0].address], 60)
        nursery.cancel_scope.cancel()
