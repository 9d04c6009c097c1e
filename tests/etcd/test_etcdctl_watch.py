"""`etcdctl watch` says the same of a node as of etcd: events of the past and of the present, and commands."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.etcd.servers import HOST, PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.test_etcdctl import etcdctl

pytestmark = needs_etcd
#: What is done before a watch begins; the last one is its end.
BEFORE = [("put", "k/1", "one"), ("put", "k/2", "two"), ("del", "k/1"), ("put", "z", "other")]
LAST = "put", "k/end", "last"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, ApiServer]]:
    directory = tmp_path_factory.mktemp("servers")
    with open_etcd(directory) as etcd, open_node(directory) as node:
        for server in (etcd, node):
            for command in (*BEFORE, LAST):
                assert etcdctl(server, *command)[0] == 0
        yield etcd, node


def watch(server: ApiServer, arguments: Sequence[str], stdin: str = "") -> str:
    """What it prints up to what it says of the last put, and one line more where that is its value."""
    command = ["etcdctl", "--endpoints", f"{HOST}:{server.port}", "watch", *arguments]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    with subprocess.Popen(
        ["timeout", str(int(PATIENCE_S)), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(stdin)
        running.stdin.flush()
        said = ""
        for line in running.stdout:
            said += line
            if "last" in line or "bGFzdA" in line:
                break
        running.terminate()
    return said


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("k/", "--prefix", "--rev", "2"), ""),
        (("k/", "--prefix", "--rev", "2", "--prev-kv"), ""),
        (("k/2", "zz", "--rev", "1"), ""),
        (("k/end", "--rev", "5"), ""),
        (("-i",), "watch k/ --prefix --rev 2\n"),
        (
            ("k/", "--prefix", "--rev", "2", "--", "sh", "-c"),
            "",
        ),
    ],
)
def test_as_etcd(both: tuple[ApiServer, ApiServer], arguments: tuple[str, ...], stdin: str) -> None:
    """The same lines."""
    if arguments[-1] == "-c":
        arguments = (*arguments, "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE")
    etcd, node = [watch(server, arguments, stdin) for server in both]
    assert "last" in etcd
    assert node == etcd


def test_the_events_as_json(both: tuple[ApiServer, ApiServer]) -> None:
    """The same events, however many a response has."""
    told: list[list[Any]] = []
    for server in both:
        lines = watch(server, ("k/", "--prefix", "--rev", "2", "--prev-kv", "-w", "json")).splitlines()
        told.append([event for line in lines for event in json.loads(line)["Events"]])
    assert len(told[0]) == 4
    assert told[1] == told[0]


def test_what_is_compacted(tmp_path: Path) -> None:
    """A watch of what is compacted ends with the same words and the same exit code."""
    said = []
    with open_etcd(tmp_path) as etcd, open_node(tmp_path) as node:
        for server in (etcd, node):
            for _ in range(4):
                etcdctl(server, "put", "k", "v")
            etcdctl(server, "compaction", "4")
            said.append(etcdctl(server, "watch", "k", "--rev", "2"))
    assert said[1] == said[0]
    assert "compacted" in "".join(map(str, said[0]))
