"""watch: what etcdctl prints of etcd, it prints of a node; commands, lines of input, signals, wrong input."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.cli.test_keys import common, keys
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.streaming import Streaming, streaming_etcdctl, streaming_ours

#: How the last event ends: its value, in JSON too, or its revision.
LAST = rb"the last\n|the last\"\n|dGhlIGxhc3Q=|the last.*Lease|\n7\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_node(tmp_path_factory.mktemp("node")) as running:
        yield running


def put(server: ApiServer, *key_and_value: str | bytes) -> None:
    code, _, errors = keys(server, "put", *key_and_value)
    assert code == 0, errors


WATCHES: list[list[str | bytes]] = [
    ["k/1"],
    ["k/", "--prefix", "--prev-kv", "-w", "json"],
    ["k/", "--prefix", "--prev-kv", "--rev=6", "-w", "fields"],
    ["k/1", "k/3", "--rev=3"],
    [b"", "--prefix"],
    ["--prefix", "k/", "--", "sh", "-c", 'echo "$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"'],
]
WRITES: list[list[str | bytes]] = [
    ["put", "k/1", "one"],
    ["put", "k/2", 'two "quoted"\n'],
    ["put", "k/1", "uno"],
    ["del", "k/1"],
    ["put", b"k/\xff", b"\xfe\x01"],
]


def all_say_the_same(running: list[Streaming]) -> None:
    """Wait until what each has printed is what the first one has printed."""
    expected, *others = running
    for other in others:
        other.wait(lambda one: said(one.output) == said(expected.output))


def said(output: bytes) -> object:
    """What does not depend on how many revisions share a response, which is up to the server.

    That is the events of JSON. Of another form it is what the watch has said, and what its commands have:
    these run when all events of a response are printed.
    """
    text = common(output)
    if not text.startswith('{"Header"'):
        lines = text.splitlines()
        return [
            [line for line in lines if line.startswith('"') is by_command] for by_command in (False, True)
        ]
    whole = text[: text.rfind("\n") + 1]
    return [event for line in whole.splitlines() for event in json.loads(line)["Events"]]


@needs_etcd
def test_the_output_is_that_of_etcdctl(tmp_path: Path) -> None:
    """Byte for byte, apart from ids and terms: etcdctl on a node, and ours on both, as etcdctl on etcd."""
    with open_etcd(tmp_path) as etcd, open_node(tmp_path) as node, ExitStack() as stack:
        for arguments in WRITES:
            for server in (etcd, node):
                assert keys(server, *arguments)[0] == 0
        ways = [(start, server) for start in (streaming_etcdctl, streaming_ours) for server in (etcd, node)]
        started = [
            [stack.enter_context(start(server, "watch", "--rev=2", *arguments)) for start, server in ways]
            for arguments in WATCHES
        ]
        for running in started:
            for each in running:
                each.wait(lambda one: one.output)
        for server in (etcd, node):
            put(server, "k/1", "the last")
        for running in started:
            running[0].wait(lambda one: re.search(LAST, one.output))
            all_say_the_same(running)


def test_events_as_they_happen(node: ApiServer) -> None:
    """From the moment on at which the watch has begun; SIGINT and SIGTERM end it."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with streaming_ours(node, "watch", "live") as watch:
            value = 0
            while not watch.output:  # until it has begun
                value += 1
                put(node, "live", str(value))
            put(node, "live", "last")
            watch.wait(lambda one: one.output.endswith(b"PUT\nlive\nlast\n"))
            assert watch.end(number) == code
            assert watch.errors == b""


@needs_etcd
def test_lines_of_input_of_etcdctl(node: ApiServer) -> None:
    """Two watches on one stream, progress, and a command, at a node."""
    put(node, "e/1", "a")
    with streaming_etcdctl(node, "watch", "-i") as watch:
        watch.say("watch e/1 --rev=1")
        watch.wait(lambda one: one.output == b"PUT\ne/1\na\n")
        watch.say("watch e/2 --rev=1 -- echo hi")
        put(node, "e/2", "b")
        watch.wait(lambda one: one.output.endswith(b"PUT\ne/2\nb\nhi\n"))
        watch.say("progress")
        watch.wait(lambda one: one.output.count(b"progress notify: ") == 2)


def has_said(words: bytes, watch: Streaming) -> bool:
    return words in watch.errors


def test_lines_of_input(node: ApiServer) -> None:
    """Each begins a watch, or asks for progress; a wrong one ends nothing; they end with input."""
    put(node, "i/1", "a 1")
    with streaming_ours(node, "watch", "-i") as watch:
        watch.say("watch i/1 --rev=1")
        watch.wait(lambda one: one.output == b"PUT\ni/1\na 1\n")
        for line, words in (
            ("what", b"unknown line 'what'"),
            ("watch", b"needs a KEY"),
            ("watch --nope i", b"--nope"),
            ("watch 'i", b"No closing quotation"),
            ("watch b a", b"range is empty"),
            ("", b""),
        ):
            watch.say(line)
            watch.wait(partial(has_said, words))
        watch.say("watch 'i/ 2' --rev=1 -- sh -c 'echo hi $ETCD_WATCH_KEY'")
        put(node, "i/ 2", "b")
        watch.wait(lambda one: one.output.endswith(b'hi "i/ 2"\n'))
        watch.say("progress")
        watch.wait(lambda one: one.output.count(b"progress notify: ") == 2)
        assert watch.process.stdin is not None
        watch.process.stdin.close()
        assert watch.wait_exit() == 0
        assert watch.errors.count(b"raftkv-trio: ") == watch.errors.count(b"\n") == 5


def test_a_signal_is_passed_on_to_the_command(node: ApiServer) -> None:
    """The command may do what it must; then the watch ends."""
    put(node, "s", "1")
    script = "trap 'echo signalled; exit 0' TERM; echo begun; while :; do sleep 0.01; done"
    with streaming_ours(node, "watch", "s", "--rev=1", "--", "sh", "-c", script) as watch:
        watch.wait(lambda one: b"begun" in one.output)
        assert watch.end(signal.SIGTERM) == 143
        assert watch.output.endswith(b"begun\nsignalled\n")


def test_a_command_that_fails(node: ApiServer) -> None:
    """It ends the watch with exit code 1; one that cannot be run with 2."""
    put(node, "f", "1")
    code, _, errors = keys(node, "watch", "f", "--rev=1", "--", "sh", "-c", "exit 3")
    assert (code, errors) == (1, b"raftkv-trio: the command sh ended with exit code 3\n")
    code, _, errors = keys(node, "watch", "f", "--rev=1", "--", "./nothing")
    assert (code, errors) == (2, b"raftkv-trio: cannot run ./nothing: No such file or directory\n")


def test_a_compacted_revision(node: ApiServer) -> None:
    """Exit code 2 and etcd's reason; JSON has the revision from which on a watch may begin."""
    put(node, "c", "1")
    put(node, "c", "2")
    revision = re.search(rb'"revision":(\d+)', keys(node, "get", "c", "-w", "json")[1])
    assert revision is not None
    assert keys(node, "compact", revision[1])[0] == 0
    code, output, errors = keys(node, "watch", "c", "--rev=1", "-w", "json")
    assert (code, errors.count(b"\n")) == (2, 1)
    assert b"required revision has been compacted" in errors
    assert b'"CompactRevision":%b,"Canceled":true' % revision[1] in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs a KEY"),
        (["a", "--"], "no command after '--'"),
        (["a", "b", "--prefix"], "leave RANGE_END out"),
        (["a", "--rev", "-1"], "integer"),
        (["-i", "a"], "lines of standard input"),
        (["b", "a"], "watcher range is empty"),
        (["a", "--timeout", "0"], "--timeout must be positive"),
    ],
    ids=str,
)
def test_wrong_input(node: ApiServer, arguments: list[str | bytes], words: str) -> None:
    """Exit code 2, one sentence, no traceback."""
    code, output, errors = keys(node, "watch", *arguments)
    assert (code, output) == (2, b"")
    [line] = errors.decode().splitlines()
    assert line.startswith("raftkv-trio: ")
    assert words in line
