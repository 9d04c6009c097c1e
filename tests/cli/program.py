"""The program as a user starts it: a process, its exit code, its two outputs."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import httpx

from tests.conftest import find_free_ports

PROGRAM = [sys.executable, "-m", "raftkv_trio"]
DEADLINE_S = 240  # a command that shrinks a schedule takes half a minute of the processor
CTRL_C, CTRL_D = "\x03", "\x04"  # as a terminal sends them
NO_TLS = False  # httpx would read the certificates for each request, which takes longer than the request


def run(
    *arguments: str | Path, directory: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `directory`."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=directory,
        env=environment_with(environment),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def refusal(
    *arguments: str | Path,
    directory: Path,
    exit_code: int = 2,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command ends with after this exit code: one line, or more that are indented; no other output."""
    done = run(*arguments, directory=directory, environment=environment)
    assert (done.returncode, done.stdout) == (exit_code, ""), done
    first, *more = done.stderr.splitlines()
    assert first.startswith("raftkv-trio: ")
    assert all(line.startswith("  ") for line in more)
    return "\n".join([first.removeprefix("raftkv-trio: "), *map(str.strip, more)])


def typed(
    *arguments: str | Path,
    answers: list[str],
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """The exit code of a command in a terminal, and what that has shown; answers are typed, one a prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory or ".")
        os.execvpe(sys.executable, [*PROGRAM, *map(str, arguments)], environment_with(environment))
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1000)
        except OSError:
            break  # what Linux says when the program has ended
        if answers and shown.endswith(b": "):
            # A signal that comes just before the program reads is looked at when the read has ended.
            os.write(terminal, answers.pop(0).encode() + b"\n")
            shown += b"<typed>"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode().replace("\r", "")


def environment_with(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without our variables, and then these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_TRIO_")}
    return {**kept, **(more or {})}


class Node:
    """A `serve` process."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return self._log.read_text()

    def wait_said(self, pattern: str) -> None:
        self.wait(lambda: re.search(pattern, self.said))

    def wait_answer(self, status: int, path: str) -> httpx.Response:
        """The first response to a GET that has this status."""
        responses: list[httpx.Response] = []

        def ask() -> bool:
            try:
                responses.append(httpx.get(self.url + path, timeout=DEADLINE_S, verify=NO_TLS))
            except httpx.TransportError:
                return False
            return responses[-1].status_code == status

        self.wait(ask)
        return responses[-1]

    def status(self) -> dict[str, Any]:
        """What it says of itself now."""
        return cast(
            dict[str, Any], httpx.get(self.url + "/-/status", timeout=DEADLINE_S, verify=NO_TLS).json()
        )

    def end(self, number: signal.Signals) -> int:
        """Signal it; returns its exit code."""
        self.process.send_signal(number)
        return self.wait_exit()

    def wait_exit(self) -> int:
        return self.process.wait(DEADLINE_S)

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)


@contextmanager
def serving(
    *arguments: str | Path, directory: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """Run `serve` with these arguments, which make it listen at `port`; kill what is left of it.

    Whatever happened to it, it has shown no traceback.
    """
    log = directory / f"{port}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*PROGRAM, "serve", *arguments],
            cwd=directory,
            env=environment_with(environment),
            stderr=stderr,
            text=True,
        )
    node = Node(process, port, log)
    try:
        yield node
        assert "Traceback" not in node.said
    finally:
        process.kill()
        process.wait()


def alone() -> tuple[int, list[str]]:
    """A free REST port, and arguments for node 1 of a cluster of one that listens there."""
    peer_port, port = find_free_ports(2)
    # The advertised address is the same in every run, and so is the cluster; no other node dials it.
    listen = ["--listen-peer", f"127.0.0.1:{peer_port}", "--port", str(port)]
    return port, ["--cluster", "http://127.0.0.1:1", *listen]


def serving_alone(*arguments: str | Path, directory: Path) -> AbstractContextManager[Node]:
    """Run node 1 of `alone`."""
    port, base = alone()
    return serving(*base, *arguments, directory=directory, port=port)


def damage(data_dir: Path) -> None:
    """Damage the log, so that the node cannot start."""
    (segment,) = (data_dir / "wal").glob("*.wal")
    with segment.open("r+b") as file:
        file.seek(40)
        file.write(b"damage")
