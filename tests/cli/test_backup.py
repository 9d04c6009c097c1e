"""`backup` and `restore`: what they refuse, and that nothing is made or lost then."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

from tests.cli.program import PROGRAM, Node, refusal, run, serving_alone
from tests.integration.terminal import open_terminal

CLUSTER = ("--cluster", "http://127.0.0.1:1")


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a node that serves alone."""
    directory = tmp_path_factory.mktemp("saved")
    with serving_alone(directory=directory) as node:
        node.wait_answer(200, "/-/ready")
        done = backup(node, directory)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("file: index 2, ")
        assert (directory / "file").stat().st_mode & 0o777 == 0o600
        said = refusal("backup", "--endpoint", node.url, "file", directory=directory)
        assert said == "file exists already; name another file, or set --force to replace it"
        assert backup(node, directory, "--force").returncode == 0
        assert not list(directory.glob("*.part"))
    return directory / "file"


def backup(node: Node, directory: Path, *more: str) -> CompletedProcess[str]:
    return run("backup", "--endpoint", node.url, "file", *more, directory=directory)


def test_a_damaged_backup_is_refused(saved: Path, tmp_path: Path) -> None:
    """A flipped bit, a missing end, an empty file, one that goes on: nothing is made of it."""
    data = saved.read_bytes()
    damaged = tmp_path / "damaged"
    rest = bytearray(data)
    rest[len(data) // 2] ^= 1
    for content in (rest, data[:-1], data[: len(data) // 2], b"", data + b"x"):
        damaged.write_bytes(content)
        said = refusal("restore", "damaged", *CLUSTER, "--data-dir", "data", directory=tmp_path)
        assert said.startswith("damaged is no backup, or a damaged one: it does not verify at offset ")
        assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_directory_that_exists_is_left_alone(saved: Path, tmp_path: Path) -> None:
    """Whatever is in it; so is one that was never finished."""
    for name in ("data", "data.restoring"):
        (tmp_path / name).mkdir()
        said = refusal("restore", saved, *CLUSTER, "--data-dir", "data", directory=tmp_path)
        assert said == f"{name} exists already; remove it, or name another with --data-dir"
        (tmp_path / name).rmdir()
    said = refusal("restore", "missing", *CLUSTER, "--data-dir", "data", directory=tmp_path)
    assert said == "missing cannot be read: No such file or directory"
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """One sentence, exit code 1, and no file."""
    (port,) = free_ports(1)
    said = refusal("backup", "--endpoint", f"127.0.0.1:{port}", "file", directory=tmp_path, exit_code=1)
    assert said.startswith(f"http://127.0.0.1:{port} does not answer: ")
    assert list(tmp_path.iterdir()) == []


async def test_a_terminal_shows_how_far_it_has_come(tmp_path: Path) -> None:
    """There is a bar there, which ends at 100 %; what is written to a file or pipe has none."""
    with serving_alone(directory=tmp_path) as node:
        await trio.to_thread.run_sync(node.wait_answer, 200, "/-/ready")
        command = [*PROGRAM, "backup", "--endpoint", node.url, "file"]
        async with open_terminal(command, tmp_path) as terminal:
            assert await terminal.process.wait() == 0
            while "hash" not in terminal.shown:  # noqa: ASYNC110 - the terminal tells nobody
                await trio.sleep(0.02)
        assert "backup" in terminal.shown
        assert "100%" in terminal.shown
