"""lease, lock, elect: what etcdctl prints of etcd, they print of a node; signals, exit codes, wrong input."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.program import PROGRAM, environment_with
from tests.cli.test_keys import common, etcdctl, keys
from tests.etcd.servers import HOST, ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.streaming import streaming, streaming_etcdctl, streaming_ours


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_node(tmp_path_factory.mktemp("node")) as running:
        yield running


def lease(server: ApiServer, *arguments: str) -> tuple[int, bytes, bytes]:
    """Exit code and outputs of `raftkv-trio lease`."""
    return keys(server, "lease", *arguments)


def grant(server: ApiServer) -> str:
    code, output, errors = lease(server, "grant", "600")
    assert (code, errors) == (0, b"")
    return output.split()[1].decode()


def without_ids(output: bytes) -> str:
    """Without what belongs to the server, ids of leases and the seconds that have passed."""
    text = re.sub(r'("ID"|"id"|"lease"| : )(:?)\d{6,}', r"\1\2ID", common(output))
    text = re.sub(r"\b[0-9a-f]{15,16}\b", "ID", text)
    return re.sub(r'remaining\(\d+s\)|"ttl":\d+|"TTL" : 5\d\d', "LEFT", text)


FORMATS = ("simple", "json", "fields")


@needs_etcd
def test_the_output_is_that_of_etcdctl(tmp_path: Path) -> None:
    """Byte for byte, apart from ids, terms and time: ours and etcdctl on a node, as etcdctl on etcd."""
    with open_etcd(tmp_path) as etcd, open_node(tmp_path) as node:
        ours, theirs = grant(node), grant(etcd)
        for server, lease_id in ((node, ours), (etcd, theirs)):
            assert keys(server, "put", "k", "v", "--lease", lease_id)[0] == 0
        for arguments in (
            ["timetolive", "ID"],
            ["timetolive", "ID", "--keys"],
            ["list"],
            ["grant", "600"],
            ["keep-alive", "ID", "--once"],
            ["revoke", "ID"],
            ["timetolive", "ID"],
            ["keep-alive", "ID"],
        ):
            # A lease is revoked once.
            for form in FORMATS if arguments[0] != "revoke" else FORMATS[:1]:
                asked = [each if each != "ID" else ours for each in arguments]
                code, output, errors = lease(node, *asked, "-w", form)
                assert (code, errors) == (0, b""), arguments
                asked = [each if each != "ID" else theirs for each in arguments]
                expected = etcdctl(etcd, "lease", *asked, "-w", form)
                outputs = [output, expected]
                if arguments[0] != "revoke":
                    asked = [each if each != "ID" else ours for each in arguments]
                    outputs.append(etcdctl(node, "lease", *asked, "-w", form))
                assert len(set(map(without_ids, outputs))) == 1, (arguments, outputs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lease", "grant", "x"], "integer"),
        (["lease", "grant"], "Missing argument"),
        (["lease", "revoke", "xyz"], "hexadecimal"),
        (["lease", "revoke", "123"], "etcdserver: requested lease not found"),
        (["lease", "keep-alive", "123", "--once"], "etcdserver: requested lease not found"),
        (["lock"], "Missing argument"),
        (["lock", "l", "--ttl", "0"], "integer"),
        (["lock", "l", "./nothing"], "cannot run ./nothing: No such file"),
        (["lock", "l", "sh", "-c", "true"], "'-c'; flags of the command to run come after '--'; see"),
        (["lock", "l", "--tll", "5"], "'--tll'. Did you mean '--ttl'? see"),
        (["elect", "e"], "a VALUE, or --listen"),
        (["elect", "e", "v", "--listen"], "not both"),
    ],
    ids=str,
)
def test_wrong_input(node: ApiServer, arguments: list[str], words: str) -> None:
    """Exit code 2, one sentence, no traceback."""
    code, output, errors = keys(node, *arguments)
    assert (code, output) == (2, b"")
    [line] = errors.decode().splitlines()
    assert line.startswith("raftkv-trio: ")
    assert words in line


def test_a_command_under_a_lock(node: ApiServer) -> None:
    """It has the variables and the input, its exit code is that of `lock`, and the lock is released then."""
    script = 'echo "$ETCD_LOCK_KEY $ETCD_LOCK_REV $(cat)"; exit 3'
    code, output, errors = keys(node, "lock", "c", "--", "sh", "-c", script, stdin=b"input")
    assert (code, errors) == (3, b"")
    assert re.fullmatch(rb"c/[0-9a-f]+ \d+ input\n", output)
    assert keys(node, "get", "c/", "--prefix")[1] == b""


@pytest.mark.parametrize("other", ["raftkv-trio", pytest.param("etcdctl", marks=needs_etcd)])
def test_a_lock_is_released_by_a_signal(node: ApiServer, other: str) -> None:
    """Who waits for it has it then, also etcdctl; one that is signalled while it waits was never there."""
    start = streaming_ours if other == "raftkv-trio" else streaming_etcdctl
    with ExitStack() as stack:
        first = stack.enter_context(streaming_ours(node, "lock", "s"))
        first.wait(lambda one: one.output.endswith(b"\n\n"))
        impatient = stack.enter_context(streaming_ours(node, "lock", "s"))
        wait_waiting(node, b"s/", 2)
        waiting = stack.enter_context(start(node, "lock", "s"))
        wait_waiting(node, b"s/", 3)
        assert impatient.end(signal.SIGTERM) == 143
        assert (impatient.output, waiting.output) == (b"", b"")
        assert first.end(signal.SIGINT) == 0
        waiting.wait(lambda one: one.output.endswith(b"\n\n"))
        assert waiting.output != first.output
        waiting.end(signal.SIGINT)
        assert keys(node, "get", "s/", "--prefix")[1] == b""


def wait_waiting(server: ApiServer, prefix: bytes, count: int) -> None:
    """Return when so many keys are there."""
    while keys(server, "get", prefix, "--prefix", "--keys-only")[1].count(prefix) != count:
        pass  # each look is a process of its own


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["term", "hup"])
def test_a_signal_for_the_command_under_a_lock(node: ApiServer, number: signal.Signals) -> None:
    """It is passed on, and the lock is released when the command has ended."""
    script = "trap 'echo signalled; exit 7' TERM HUP; echo begun; while :; do sleep 0.01; done"
    with streaming_ours(node, "lock", "t", "--", "sh", "-c", script) as lock:
        lock.wait(lambda one: one.output == b"begun\n")
        assert lock.end(number) == 7
        assert lock.output == b"begun\nsignalled\n"
    assert keys(node, "get", "t/", "--prefix")[1] == b""


def test_a_closed_terminal(node: ApiServer) -> None:
    """SIGHUP releases a lock; who waits for it under `nohup` waits on."""
    ours = [*PROGRAM, "lock", "u", "--endpoints", f"{HOST}:{node.port}"]
    nohup = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *ours]
    with ExitStack() as stack:
        first = stack.enter_context(streaming(ours, environment_with(None)))
        first.wait(lambda one: one.output.endswith(b"\n\n"))
        waiting = stack.enter_context(streaming(nohup, environment_with(None)))
        impatient = stack.enter_context(streaming(ours, environment_with(None)))
        wait_waiting(node, b"u/", 3)
        assert impatient.end(signal.SIGHUP) == 129
        waiting.process.send_signal(signal.SIGHUP)
        assert first.end(signal.SIGHUP) == 0
        waiting.wait(lambda one: one.output.endswith(b"\n\n"))
        assert waiting.end(signal.SIGTERM) == 0
        assert keys(node, "get", "u/", "--prefix")[1] == b""


@pytest.mark.parametrize(
    "arguments", [["lock", "l"], ["elect", "e", "v"], ["elect", "-l", "e"]], ids=" ".join
)
def test_no_member_answers(arguments: list[str]) -> None:
    """The command says so, once, and why; it goes on until a signal comes."""
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))  # and does not listen: who connects is refused
        endpoint = f"{HOST}:{nobody.getsockname()[1]}"
        command = [*PROGRAM, *arguments, "--endpoints", endpoint, "--timeout", "1"]
        with streaming(command, environment_with(None)) as running:
            running.wait(lambda one: one.errors.count(b"\n") == 2)
            first, second = running.errors.decode().splitlines()
            assert first == "raftkv-trio: no answer within 1 s; still trying"
            assert second.startswith(f"  http://{endpoint}: ")
            assert running.end(signal.SIGTERM) == (0 if "-l" in arguments else 143)
            assert running.output == b""


@pytest.mark.parametrize("other", ["raftkv-trio", pytest.param("etcdctl", marks=needs_etcd)])
def test_an_election(node: ApiServer, other: str) -> None:
    """One leads until a signal; the next one follows; a listener hears of both; etcdctl takes part in it."""
    start = streaming_ours if other == "raftkv-trio" else streaming_etcdctl
    with ExitStack() as stack:
        first = stack.enter_context(streaming_ours(node, "elect", "e", "one"))
        first.wait(lambda one: one.output.endswith(b"\none\n"))
        listener = stack.enter_context(start(node, "elect", "--listen", "e"))
        listener.wait(lambda one: one.output.endswith(b"\none\n"))
        second = stack.enter_context(start(node, "elect", "e", "two"))
        wait_waiting(node, b"e/", 2)
        assert first.end(signal.SIGTERM) == 0
        second.wait(lambda one: one.output.endswith(b"\ntwo\n"))
        listener.wait(lambda one: one.output == first.output + second.output)
        listener.end(signal.SIGINT)
        assert second.end(signal.SIGINT) == 0
    assert keys(node, "get", "e/", "--prefix")[1] == b""


def test_a_lease_that_is_kept_alive(node: ApiServer) -> None:
    """Again and again, until it is gone."""
    lease_id = lease(node, "grant", "1")[1].split()[1].decode()
    with streaming_ours(node, "lease", "keep-alive", lease_id) as alive:
        alive.wait(lambda one: one.output.count(b"keepalived with TTL(") >= 3)
        assert lease(node, "revoke", lease_id)[0] == 0
        assert alive.wait_exit() == 0
        assert alive.output.endswith(b"lease %b expired or revoked.\n" % lease_id.encode())


def test_a_lease_that_nobody_renews(tmp_path: Path) -> None:
    """It is given up when its TTL is over, and not after --timeout (5 s): exit code 1, and why."""
    with open_node(tmp_path) as node:
        lease_id = lease(node, "grant", "7")[1].split()[1].decode()
        with streaming_ours(node, "lease", "keep-alive", lease_id) as alive:
            alive.wait(lambda one: b"keepalived with TTL(7)" in one.output)
            os.kill(node.pid, signal.SIGSTOP)
            try:
                assert alive.wait_exit() == 1
            finally:
                os.kill(node.pid, signal.SIGCONT)
            said = re.search(
                r"lease (\w+) may have expired: not renewed for (\d+) s\n", alive.errors.decode()
            )
            assert said is not None
            assert said[1] == lease_id
            assert int(said[2]) >= 7
