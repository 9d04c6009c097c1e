"""The one place where an error becomes an exit code and a sentence, and how that is said."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from raftkv_trio.cli.exit_codes import exit_code_and_sentence
from raftkv_trio.errors import ConfigError, CorruptLog, RaftKVError, StorageError
from tests.cli.program import PROGRAM, Node, alone, damage, environment_with, run

BUG = "this is a bug; --log-level debug shows where: "


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConfigError("no"), 2, "no"),
        (RaftKVError("broken"), 1, "broken"),
        (CorruptLog("bad"), 1, "bad"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "x: No such file or directory"),
        (OSError("odd"), 1, "odd"),
        (ExceptionGroup("", [BrokenPipeError(32, "Broken pipe")]), 1, None),
        (ExceptionGroup("", [BrokenPipeError(32, "Broken pipe"), ConfigError("no")]), 1, "Broken pipe"),
        (ZeroDivisionError("by zero"), 70, BUG + "ZeroDivisionError: by zero"),
        (AssertionError(), 70, BUG + "AssertionError"),
        (KeyboardInterrupt(), 130, None),
        (ExceptionGroup("", [ExceptionGroup("", [ConfigError("no")])]), 2, "no"),
        (ExceptionGroup("", [ConfigError("no"), StorageError("bad")]), 1, "bad"),
        (
            ExceptionGroup("", [StorageError("bad"), KeyError("k"), ConfigError("no")]),
            70,
            BUG + "KeyError: 'k'",
        ),
        (BaseExceptionGroup("", [KeyError("k"), KeyboardInterrupt()]), 130, None),
    ],
    ids=repr,
)
def test_errors_and_codes(error: BaseException, code: int, sentence: str | None) -> None:
    """Each kind of error has a code, and the worst of a group counts."""
    assert exit_code_and_sentence(error) == (code, sentence)


def test_a_traceback_is_for_debug_alone(copied: Path) -> None:
    """A failure is one line; with --log-level debug the traceback stands before it."""
    damage(copied)
    for level, has_traceback in (("info", False), ("debug", True)):
        done = run("serve", "--port", "0", "--data-dir", copied, "--log-level", level, directory=copied)
        *_, last = done.stderr.splitlines()
        assert (done.returncode, "Traceback" in done.stderr) == (1, has_traceback)
        assert last.startswith(f"raftkv-trio: {copied}/wal/")


def test_a_record_where_the_log_is_json(copied: Path) -> None:
    """With --log-format json every line is a JSON object, the last one the failure's."""
    damage(copied)
    arguments: list[str | Path] = ["serve", "--port", "0", "--data-dir", copied, "--log-format", "json"]
    *_, last = [json.loads(line) for line in run(*arguments, directory=copied).stderr.splitlines()]
    assert (last["level"], "exception" in last) == ("critical", False)
    assert "is corrupt at offset" in last["message"]
    *_, last = [
        json.loads(line)
        for line in run(*arguments, "--log-level", "debug", directory=copied).stderr.splitlines()
    ]
    assert "Traceback" in last["exception"]


def test_no_standard_output(tmp_path: Path) -> None:
    """`local start` refuses to run if standard output is closed."""
    (tmp_path / "Procfile").write_text("a: exit 3\n")
    shell = ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "local", "start"]
    done = subprocess.run(
        shell, cwd=tmp_path, env=environment_with(None), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "raftkv-trio: local start needs a standard output, and that is closed\n"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_no_standard_error(tmp_path: Path, redirection: str) -> None:
    """A node that cannot say anything serves and stops all the same."""
    port, base = alone()
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, "serve", *base]
    process = subprocess.Popen(shell, cwd=tmp_path, env=environment_with(None), text=True)
    try:
        node = Node(process, port, Path(os.devnull))
        node.wait_answer(200, "/-/ready")
        assert node.end(signal.SIGINT) == 0
    finally:
        process.kill()
        process.wait()
