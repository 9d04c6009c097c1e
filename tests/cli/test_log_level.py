"""The least severity that is logged, and how it is changed while the node runs."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from signal import SIGINT

import httpx

from tests.cli.program import Node, serving_alone

HEAD = (
    b"PUT /-/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def test_the_level_can_be_changed_at_run_time(tmp_path: Path) -> None:
    """PUT /-/log-level takes effect at once; what is no level is refused and changes nothing."""
    with serving_alone("--log-level", "error", directory=tmp_path) as node:
        url = node.url + "/-/log-level"
        assert node.wait_answer(200, "/-/log-level").text == "error\n"
        assert node.said == ""
        for nonsense in ("", "loud", "info debug", "\xff\n", "20", "CRITICAL"):
            refused = httpx.put(url, json={"level": nonsense})
            assert refused.status_code == 400
            assert "use one of debug, info, warning, error" in refused.json()["detail"]
        for malformed in ("debug", {}, {"level": 20}, {"level": "debug", "for": 1}):
            refused = httpx.put(url, json=malformed)
            assert refused.status_code == 400
            assert refused.json()["detail"] == 'Name the level as {"level": "debug"}'
        assert httpx.get(url).text == "error\n"
        changed = httpx.put(url, json={"level": "INFO"})
        assert (changed.status_code, changed.text) == (200, "info\n")
        assert httpx.get(url).text == "info\n"
        node.wait_said("WARNING .*: log level set to info")
        assert node.end(SIGINT) == 0
        assert "INFO raftkv_trio.server: node 1 is stopping" in node.said


def test_changes_that_follow_each_other(tmp_path: Path) -> None:
    """The log says at the end which level counts, also `error`, in at most a line a second."""
    with serving_alone(directory=tmp_path) as node, ThreadPoolExecutor(8) as threads:
        node.wait_answer(200, "/-/ready")
        begin = time.monotonic()

        def change(level: str) -> str:
            return httpx.put(f"{node.url}/-/log-level", json={"level": level}).text

        for level in ("info", "error", "warning"):
            assert list(threads.map(change, ["debug", "warning"] * 20)) == ["debug\n", "warning\n"] * 20
            assert change(level) == f"{level}\n"
            node.wait(partial(is_told, node, level))
        assert len(told(node)) <= 2 + time.monotonic() - begin
        count = len(told(node))
        for level in ("warning", "warning", "debug"):  # what changes nothing needs no line
            change(level)
        node.wait(partial(is_told, node, "debug"))
        assert told(node)[count:] == ["debug"]


def test_a_change_whose_client_hangs_up(tmp_path: Path) -> None:
    """It is in the log all the same."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        for level in (b"debug", b"error"):  # the second one's line must wait
            with socket.create_connection(("127.0.0.1", node.port)) as client:
                content = b'{"level": "%s"}' % level
                client.sendall(HEAD % len(content) + content)
                wait_level(node, level)
        node.wait(lambda: told(node) == ["debug", "error"])


def wait_level(node: Node, level: bytes) -> None:
    """Wait until the node says that this is its level."""
    node.wait(lambda: node.wait_answer(200, "/-/log-level").content.strip() == level)


def told(node: Node) -> list[str]:
    """The levels that the log names, in order."""
    return re.findall(r"WARNING .*: log level set to (\w+)", node.said)


def is_told(node: Node, level: str) -> bool:
    """Whether the log's last word on the level is this one."""
    return told(node)[-1:] == [level]


def test_no_other_put_of_an_operator_is_known(tmp_path: Path) -> None:
    """Any other PUT under /-/ is forbidden, since keys of that name are reserved."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        for path in ("/-/status", "/-/none", "/-/log-level/", "/-/"):
            assert httpx.put(node.url + path, content=b"debug").status_code == 403
