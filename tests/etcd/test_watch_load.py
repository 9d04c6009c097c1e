"""Many watches of many keys while these are put: what each is told, what it costs, and how long it takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.etcd.servers import PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node

STREAMS = 10
#: Of memory, at the node.
MOST_BYTES_A_WATCH = 4096


def load(server: ApiServer, watches: int, keys: int, rate: int, seconds: float) -> dict[str, Any]:
    """What the clients have seen. Its program checks that each event comes once and in order."""
    numbers = [server.port, watches, keys, STREAMS, rate, seconds, *([server.pid] if server.pid else [])]
    command = [sys.executable, "-m", "benchmarks.programs.watch_load", *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    print(server.name, seen)
    assert seen["errors"] == 0
    assert seen["puts"] == rate * seconds if rate else seen["puts"] > 0
    assert seen["events"] == seen["puts"] * watches // keys
    return seen


def test_some_watches(tmp_path: Path) -> None:
    """Each of 2,000 watches is told each put of its key once and in order, and takes little memory."""
    with open_node(tmp_path) as node:
        assert load(node, 2000, 200, 200, 1)["bytes_per_watch"] < MOST_BYTES_A_WATCH
        load(node, 200, 20, 0, 0.3)  # one put after the other


@needs_etcd
@pytest.mark.timing
def test_many_watches_beside_etcd(tmp_path: Path) -> None:
    """The same of 10,000 watches on 1,000 keys at 500 puts a second; a put is delivered within twice the time
    that it takes on an etcd in the same minute."""
    with open_node(tmp_path) as node, open_etcd(tmp_path) as etcd:
        rounds = [(load(node, 10_000, 1000, 500, 5), load(etcd, 10_000, 1000, 500, 5)) for _ in range(3)]
    assert rounds[0][0]["bytes_per_watch"] < MOST_BYTES_A_WATCH
    assert min(ours["p50_ms"] / theirs["p50_ms"] for ours, theirs in rounds) < 2
