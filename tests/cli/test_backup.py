"""`backup` and `restore`: what they refuse, and that nothing is made or lost then."""

import os
import shlex
import shutil
import signal
import subprocess
import threading
from array import array
from collections.abc import Callable
from contextlib import nullcontext
from fcntl import F_GETPIPE_SZ, fcntl, ioctl
from pathlib import Path
from select import PIPE_BUF
from subprocess import CompletedProcess
from termios import FIONREAD

import httpx
import pytest
import trio

from raftkv_trio.storage import OsDisk, verify_snapshot
from tests.cli.program import PROGRAM, Node, environment_with, refusal, run, serving_alone
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


def test_a_file_of_another_program_is_left_alone(saved: Path, tmp_path: Path) -> None:
    """A backup that fails, or works, touches no file but its own; the first node may be down."""
    (tmp_path / "file.part").write_text("mine")
    refusal("backup", "--endpoint", "http://127.0.0.1:1", "file", directory=tmp_path, exit_code=1)
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        assert backup(node, tmp_path, "--endpoint", "http://127.0.0.1:1").returncode == 0
        endpoints = ("--endpoint", "http://127.0.0.1:1", "--endpoint", node.url)
        assert run("backup", *endpoints, "second", directory=tmp_path).returncode == 0
    assert (tmp_path / "file.part").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*.part")] == ["file.part"]


@pytest.mark.parametrize("command", ["backup - >&-", "restore - --cluster http://127.0.0.1:1 <&-"])
def test_a_standard_stream_that_is_closed(tmp_path: Path, command: str) -> None:
    """One sentence says so."""
    shell = f"{shlex.join(PROGRAM)} {command}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60)
    stream = "output" if ">" in command else "input"
    assert (done.returncode, done.stderr) == (
        2,
        f"raftkv-trio: standard {stream} is closed; name a file instead of -\n",
    )


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


@pytest.mark.parametrize("left", ["data.restoring", "data.forcing"])
def test_a_restore_that_did_not_end_is_no_empty_cluster(tmp_path: Path, left: str) -> None:
    """`serve` refuses to begin without the state, until somebody has removed what the command left."""
    (tmp_path / left).mkdir()
    said = refusal("serve", *CLUSTER, "--port", "0", "--data-dir", "data", directory=tmp_path)
    assert said == (
        f"{left} shows that data was not restored to its end; remove {left}, then run the command that made"
        " it again, or start an empty node"
    )
    assert [path.name for path in tmp_path.iterdir()] == [left]


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "fifo"])
@pytest.mark.parametrize("is_pipe", [True, False])
def test_a_backup_that_comes_through_a_pipe(saved: Path, tmp_path: Path, name: str, is_pipe: bool) -> None:
    """Standard input, a device and a pipe can be restored; one that is damaged is named as it was given."""
    if name == "fifo":
        os.mkfifo(tmp_path / name)
    for data, code in (saved.read_bytes(), 0), (saved.read_bytes()[:-1], 2):
        command = [*PROGRAM, "restore", name, *CLUSTER, "--data-dir", "data"]
        if name == "fifo":
            threading.Thread(target=(tmp_path / name).write_bytes, args=(data,)).start()
        elif not is_pipe:
            (tmp_path / "given").write_bytes(data)
        with open(tmp_path / "given", "rb") if not is_pipe and name != "fifo" else nullcontext() as given:
            done = subprocess.run(
                command,
                cwd=tmp_path,
                capture_output=True,
                timeout=60,
                stdin=given,
                input=data if given is None else None,
            )
        assert done.returncode == code, done.stderr
        if code:
            called = "standard input" if name == "-" else name
            assert done.stderr.decode().startswith(f"raftkv-trio: {called} is no backup, or a damaged one: ")
        else:
            shutil.rmtree(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_backup_to_standard_output(tmp_path: Path) -> None:
    """It is the file and nothing else; the line about it goes to standard error. A failure writes nothing."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        command = [*PROGRAM, "backup", "--endpoint", node.url, "-"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
        assert done.stderr.startswith(b"-: index ")
        assert verify_snapshot(OsDisk(), written(tmp_path, done.stdout)).size_bytes == len(done.stdout)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert not (tmp_path / "-").exists()


def test_a_reader_that_closes_the_pipe(tmp_path: Path) -> None:
    """The command ends with exit code 1, since the backup is not whole, and adds nothing to what was said."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        for number in range(3):  # more than a pipe holds
            httpx.put(f"{node.url}/{number}x", content=bytes(1_000_000), timeout=60).raise_for_status()
        command = [*PROGRAM, "backup", "--endpoint", node.url, "-"]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(1)
            process.stdout.close()
            assert (process.stderr.read(), process.wait(60)) == (b"", 1)


def test_ctrl_c_while_nobody_reads_the_pipe(tmp_path: Path) -> None:
    """It ends the command at once, and leaves no temporary file."""
    (tmp_path / "temporary").mkdir()
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        httpx.put(f"{node.url}/x", content=bytes(1_000_000), timeout=60).raise_for_status()
        command = [*PROGRAM, "backup", "--endpoint", node.url, "-"]
        environment = environment_with({"TMPDIR": str(tmp_path / "temporary")})
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            full_bytes = fcntl(process.stdout, F_GETPIPE_SZ)
            try:
                node.wait(lambda: waiting_bytes(process) > full_bytes - PIPE_BUF)
                process.send_signal(signal.SIGINT)
                assert (process.wait(60), process.stderr.read().strip()) == (130, b"")
            finally:
                process.kill()
    assert os.listdir(tmp_path / "temporary") == []


def waiting_bytes(process: subprocess.Popen[bytes]) -> int:
    """How much a process has written to its standard output that nobody has read."""
    count = array("i", [0])
    assert process.stdout is not None
    ioctl(process.stdout, FIONREAD, count)
    return count[0]


def test_no_room_for_the_temporary_file_of_a_pipe(tmp_path: Path) -> None:
    """The sentence names the directory, and how to choose another one."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        httpx.put(f"{node.url}/x", content=bytes(1_000_000), timeout=60).raise_for_status()
        command = shlex.join([*PROGRAM, "backup", "--endpoint", node.url, "-"])
        limited = ["sh", "-c", f"ulimit -f 1; {command} | cat"]
        environment = environment_with({"TMPDIR": str(tmp_path)})
        done = subprocess.run(limited, cwd=tmp_path, capture_output=True, timeout=60, env=environment)
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.startswith(f"raftkv-trio: the backup cannot be copied to {tmp_path}/")
    assert said.endswith(": File too large; set TMPDIR to copy it to another place\n")


def test_a_pipe_that_does_not_block(tmp_path: Path) -> None:
    """The other end may have set it so; the backup is whole all the same."""
    with serving_alone(directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        httpx.put(f"{node.url}/x", content=bytes(1_000_000), timeout=60).raise_for_status()
        command = [*PROGRAM, "backup", "--endpoint", node.url, "-"]
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with subprocess.Popen(command, cwd=tmp_path, stdout=writing) as process:
            os.close(writing)
            with open(reading, "rb") as pipe:
                data = pipe.read()
    assert process.returncode == 0
    assert verify_snapshot(OsDisk(), written(tmp_path, data)).size_bytes == len(data) > 1_000_000


def written(directory: Path, data: bytes) -> Path:
    (directory / "written").write_bytes(data)
    return directory / "written"


@pytest.mark.parametrize("kind", ["device", "link", "broken link", "directory", "pipe"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """Not with --force either: a rename would put a file in the place of a device or a link."""
    target = tmp_path / "target"
    match kind:
        case "device":
            target = Path("/dev/null")
        case "link":
            (tmp_path / "else").touch()
            target.symlink_to("else")
        case "broken link":
            target.symlink_to("nowhere")
        case "directory":
            target.mkdir()
        case "pipe":
            os.mkfifo(target)
    before = target.lstat().st_ino
    for more in [], ["--force"]:
        said = refusal("backup", "--endpoint", "127.0.0.1:1", target, *more, directory=tmp_path)
        assert said == f"{target} is not a regular file and is not replaced; name another file"
    assert target.lstat().st_ino == before


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
    for command, said in (
        (["restore", "file", *CLUSTER, "--data-dir", "data"], "of the new cluster"),
        (["check", "data"], "nothing is wrong"),
    ):
        async with open_terminal([*PROGRAM, *command], tmp_path) as terminal:
            assert await terminal.process.wait() == 0
            while said not in terminal.shown:  # noqa: ASYNC110 - the terminal tells nobody
                await trio.sleep(0.02)
        assert command[0] in terminal.shown
        assert "100%" in terminal.shown
