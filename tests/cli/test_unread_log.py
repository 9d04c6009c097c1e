"""A standard error that nobody reads: the log must not hold up the node, nor its end."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import httpx

from tests.cli.program import NO_TLS, PROGRAM, Node, alone, environment_with
from tests.cli.test_stop import connect
from tests.test_logs import full_pipe


@contextmanager
def unread_node(directory: Path) -> Iterator[Node]:
    """A node whose standard error is a pipe that is full from the beginning."""
    port, base = alone()
    with full_pipe() as (_, writer):
        process = subprocess.Popen(
            [*PROGRAM, "serve", *base, "--log-level", "debug"],
            cwd=directory,
            env=environment_with(None),
            stderr=writer,
            text=True,
        )
        try:
            yield Node(process, port, Path(os.devnull))
        finally:
            process.kill()
            process.wait()


def test_a_full_pipe_holds_up_nothing(tmp_path: Path) -> None:
    """The node starts, serves, and SIGTERM ends it cleanly."""
    with unread_node(tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        assert httpx.put(node.url + "/key", content=b"value", verify=NO_TLS).status_code == 204
        assert node.end(SIGTERM) == 0


def test_a_second_signal_ends_it(tmp_path: Path) -> None:
    """While a client holds up the stop, a second signal ends the node at once."""
    with unread_node(tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        stalled = (
            b"PUT /stalled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        with connect(node, stalled, b"HTTP/1.1 100"):
            while node.process.poll() is None:
                node.process.send_signal(SIGTERM)
                time.sleep(0.05)  # two signals that are pending at the same time are one
        assert node.wait_exit() == 128 + SIGTERM


def test_a_refusal_ends_it_too(tmp_path: Path) -> None:
    """The sentence that a failing node ends with does not hold up its end."""
    with full_pipe() as (_, writer):
        arguments = ["serve", "--port", "0", "--data-dir", os.devnull]
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=tmp_path, env=environment_with(None), stderr=writer, timeout=60
        )
    assert done.returncode in (1, 2)
