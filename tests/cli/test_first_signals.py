"""Signals in the first moments of the program, before a command runs, and SIGHUP."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from tests.cli.program import environment_with, serving_alone

# The moment: the first import of a package that is not the standard library's. Signal this process then.
SIGNAL_AT_THE_FIRST_IMPORT = """
import os, sys
number = int(sys.argv.pop(1))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
from raftkv_trio.cli import main
main()
"""


def program_signalled_at_once(number: Signals, directory: Path, *launcher: str) -> tuple[int, str]:
    """The exit code and the standard error of `serve --id 0`, which by itself ends with code 2."""
    done = subprocess.run(
        [*launcher, sys.executable, "-c", SIGNAL_AT_THE_FIRST_IMPORT, str(int(number)), "serve", "--id", "0"],
        cwd=directory,
        env=environment_with(None),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_first_signal_ends_it_without_a_word(tmp_path: Path, number: Signals) -> None:
    """The exit code says which signal it was, and no traceback is printed."""
    assert program_signalled_at_once(number, tmp_path) == (128 + number, "")


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="makes a PID namespace, as root")
def test_a_first_signal_ends_pid_1(tmp_path: Path) -> None:
    """In a container the program is PID 1, for which no signal has a default action; none is lost."""
    launcher = ("unshare", "--pid", "--fork")
    assert program_signalled_at_once(SIGTERM, tmp_path, *launcher) == (128 + SIGTERM, "")


def test_a_first_hangup_does_not_end_serve(tmp_path: Path) -> None:
    """`serve` goes on, here to the refusal of its arguments."""
    code, said = program_signalled_at_once(SIGHUP, tmp_path)
    assert (code, said) == (2, "raftkv-trio: node id '0' is not a positive integer below 2**63\n")


def test_a_hangup_does_not_end_a_node(tmp_path: Path) -> None:
    """SIGHUP is logged, and the node serves on."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        node.process.send_signal(signal.SIGHUP)
        node.wait_said("INFO .*: SIGHUP: ")
        node.wait_answer(200, "/-/ready")
        assert node.end(SIGTERM) == 0
