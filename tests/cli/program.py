"""The program as a user starts it: a process, its exit code, its two outputs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAM = [sys.executable, "-m", "raftkv_trio"]
DEADLINE_S = 60


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


def refusal(*arguments: str | Path, directory: Path, exit_code: int = 2) -> str:
    """The one line that a command ends with, after this exit code; nothing else is said."""
    done = run(*arguments, directory=directory)
    assert (done.returncode, done.stdout) == (exit_code, ""), done
    (line,) = done.stderr.splitlines()
    return line.removeprefix("raftkv-trio: ")


def environment_with(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without our variables, and then these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_TRIO_")}
    return {**kept, **(more or {})}


class Node:
    """A `serve` process, ready for requests."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Signal it; returns its exit code and all that it said on standard error."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said


@contextmanager
def serving(
    *arguments: str | Path, directory: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """Run `serve` with these arguments, which make it listen at `port`; kill what is left of it."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", *arguments],
        cwd=directory,
        env=environment_with(environment),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Node(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()
