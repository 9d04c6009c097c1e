"""A member whose data directory is lost: its peers refuse it, and it says so and ends."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from signal import SIGINT

import pytest

from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import write_sealed
from tests.cli.program import Node, serving

Start = Callable[[int], AbstractContextManager[Node]]


@pytest.fixture
def start(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Start:
    """Starts node 1 or 2 of a cluster of two."""
    peer_ports, rest_ports = free_ports(2), free_ports(2)
    cluster = ",".join(f"http://127.0.0.1:{port}" for port in peer_ports)

    def start(node_id: int) -> AbstractContextManager[Node]:
        port = rest_ports[node_id - 1]
        return serving(
            "--id", str(node_id), "--cluster", cluster, "--port", str(port), directory=tmp_path, port=port
        )

    return start


def test_a_wiped_member_ends(tmp_path: Path, start: Start) -> None:
    """A peer that knows the member's lost directory is enough: exit code 2 and what to do, each time."""
    with start(1) as one:
        with start(2) as two:
            two.wait_answer(200, "/-/ready")
            assert two.end(SIGINT) == 0
        shutil.rmtree(tmp_path / "raftkv-trio-2")
        for _ in range(2):
            with start(2) as wiped:
                assert wiped.wait_exit() == 2
                *_, last = wiped.said.splitlines()
                assert last == (
                    "raftkv-trio: node 1 knows node 2 by another data directory, and raftkv-trio-2 is new:"
                    " a member that has lost its directory has forgotten its votes;"
                    " bring the directory back, or remove the member and add it under a new id"
                )
        one.wait_said("node 2 came back with another data directory and has forgotten its votes")
        assert one.end(SIGINT) == 0


def test_a_confused_peer_ends_nobody(tmp_path: Path, start: Start) -> None:
    """A member whose directory was in use goes on when a peer has another in mind, over a restart too."""
    with start(1) as one, start(2) as two:
        two.wait_answer(200, "/-/ready")
        assert one.end(SIGINT) == 0
        write_sealed(OsDisk(), tmp_path / "raftkv-trio-1" / "peers", {2: b"x" * 16})
        with start(1):
            two.wait_said("node 1 refused this node")
            assert two.wait_answer(200, "/-/healthy")
            assert two.end(SIGINT) == 0
            with start(2) as again:
                again.wait_said("node 1 refused this node")
                assert again.wait_answer(200, "/-/healthy")
                assert again.end(SIGINT) == 0
