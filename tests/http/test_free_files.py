"""A real process without a free file descriptor: it waits for one wherever it needs one, and goes on."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.program import DEADLINE_S, Node, serving_alone

SPARE_FILES = 12
FLOOD = 100
FLAGS = ["--data-dir", "data", "--snapshot-entries", "20", "--request-timeout", "60"]


@contextmanager
def flooded(node: Node, *ports: int) -> Iterator[None]:
    """Lower the limit of its open files, and connect until none is free, at each of these ports."""
    pid = node.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(number) for number in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE_FILES, hard))
    with ExitStack() as flood:
        for _ in range(FLOOD):
            for port in ports:
                client = flood.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
                if port != node.port:
                    client.sendall(b"\0\0")  # the beginning of a frame, without an end
        node.wait_said("Too many open files")
        yield


def peer_port(node: Node) -> int:
    (port,) = [int(word.rpartition(":")[2]) for word in node.said.split() if word.startswith("127.0.0.1:")]
    return port


@pytest.mark.parametrize("floods_peers", [False, True])
def test_a_flood_of_connections(tmp_path: Path, floods_peers: bool) -> None:
    """Writes on open connections go on meanwhile, a snapshot waits, and all is served after the flood."""
    with serving_alone(*FLAGS, directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        ports = [node.port, peer_port(node)] if floods_peers else [node.port]
        with httpx.Client(base_url=node.url, timeout=DEADLINE_S) as client:
            assert client.put("/key", content=b"before").status_code == 204
            with flooded(node, *ports):
                for number in range(50):
                    assert client.put("/key", content=b"%d" % number).status_code == 204
                node.wait_said(r"snap/.*: Too many open files")
                lines = len(node.said.splitlines())
        assert node.wait_answer(200, "/key").content == b"49"
        node.wait_said("took a snapshot")
        as_json = {"Content-Type": "application/json"}
        assert httpx.post(f"{node.url}/-/snapshot", headers=as_json, timeout=DEADLINE_S).status_code == 200
        assert lines < 20
        assert "ERROR" not in node.said
