"""`raftkv-trio simulate`: the same seeds do the same; a failure is explained and can be replayed."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.schedule_text import Kept, decode_kept, encode_kept
from tests.cli.program import DEADLINE_S, PROGRAM, environment_with, refusal, run

KEPT = Path(__file__).parents[1] / "simulation" / "kept"


def digest(directory: Path, *arguments: str, hash_seed: str) -> str:
    done = run("simulate", *arguments, directory=directory, environment={"PYTHONHASHSEED": hash_seed})
    assert (done.returncode, done.stderr) == (0, ""), done
    (found,) = re.findall(r"^hash +([0-9a-f]{32})$", done.stdout, re.MULTILINE)
    return str(found)


def test_the_same_seeds_do_the_same(tmp_path: Path) -> None:
    """Neither the number of processes nor Python's hash seed changes anything; other seeds do."""
    one = digest(tmp_path, "--seeds", "3", "--jobs", "1", hash_seed="1")
    assert digest(tmp_path, "--seeds", "3", "--jobs", "3", hash_seed="2") == one
    assert digest(tmp_path, "--seeds", "3", "--from", "1", hash_seed="1") != one


def test_one_seed_is_shown(tmp_path: Path) -> None:
    """A trace is printed line by line, and written to a file on request."""
    done = run("simulate", "--seed", "1", "--trace", "--trace-file", "trace", directory=tmp_path)
    assert done.returncode == 0
    written = (tmp_path / "trace").read_text()
    assert done.stdout.startswith(written)
    assert len(written.splitlines()) > 1000


def rows(directory: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    """The exit code, and what the table says of each bug."""
    done = subprocess.run(
        [*PROGRAM, "simulate", *arguments],
        cwd=directory,
        env=environment_with(None),
        capture_output=True,
        text=True,
    )
    assert done.stderr == "", done
    lines = done.stdout.splitlines()
    assert lines[0] == "| bug | what it does | level | seeds needed | caught by |"
    assert lines[1] == "| --- | --- | --- | --- | --- |"
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    return done.returncode, {name.strip("`"): f"{seeds}, {caught}" for name, _, _, seeds, caught in cells}


def test_a_failure_is_explained(tmp_path: Path) -> None:
    """A seed that fails is shown shrunk, with what broke and a command that brings it about again."""
    seed = int(rows(tmp_path, "--planted", "skip-fsync")[1]["skip-fsync"].split(",")[0]) - 1
    arguments = ("--planted", "skip-fsync", "--seed", f"{seed}", "--trace-file", "trace", "--keep", "kept")
    done = run("simulate", *arguments, "--shrink", "40", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"\nseed {seed}: durability: " in done.stdout
    assert re.search(r"\nafter \d+ runs 1 of \d+ faults are left, ", done.stdout)
    (again,) = re.findall(r"^to see it again: raftkv-trio (.*)$", done.stdout, re.MULTILINE)
    replayed = run(*shlex.split(again), directory=tmp_path)
    assert replayed.returncode == 1
    assert replayed.stdout.startswith((tmp_path / "trace").read_text())
    assert f"\nseed {seed}: durability: " in replayed.stdout
    replayed = run("simulate", "--schedule", "kept", "--trace", directory=tmp_path)
    assert replayed.returncode == 1
    assert replayed.stdout.startswith((tmp_path / "trace").read_text())
    assert replayed.stderr == f"kept: seed {seed} at level 1, with skip-fsync planted\n"
    for flags in (["--level", "2"], ["--planted", "vote-twice"]):
        said = refusal("simulate", "--schedule", "kept", *flags, directory=tmp_path)
        assert said.startswith(f"{' '.join(flags)}: kept was kept ")


def test_an_older_schedule_is_of_level_1(tmp_path: Path) -> None:
    """A file that does not say its level is run at level 1, or at the one that is asked for."""
    kept = KEPT / "cut-off-alone.json"
    for level, flags in ((1, []), (2, ["--level", "2"])):
        done = run("simulate", "--schedule", kept, *flags, directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, f"{kept}: seed 30044 at level {level}\n")


def test_a_failure_is_kept_without_being_shrunk(tmp_path: Path) -> None:
    """With --trace, which shrinks nothing, the schedule is kept as it ran."""
    seed = int(rows(tmp_path, "--planted", "skip-fsync")[1]["skip-fsync"].split(",")[0]) - 1
    flags = ("--planted", "skip-fsync", "--seed", f"{seed}", "--trace", "--keep", "kept")
    assert run("simulate", *flags, directory=tmp_path).returncode == 1
    kept = decode_kept((tmp_path / "kept").read_text())
    assert kept == Kept(LEVELS[1].draw(seed), 1, "skip-fsync")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[1]", "this is no schedule: it is no JSON object"),
        (b"{}", "the schedule lacks seed, nodes, conditions, faults, clients, keys"),
        (b"seed 3", "this is no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "this is no schedule: it is not text in UTF-8"),
    ],
)
def test_what_is_no_schedule(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file that is not a schedule is refused with one line."""
    (tmp_path / "kept").write_bytes(content)
    assert refusal("simulate", "--schedule", "kept", directory=tmp_path) == f"--schedule kept: {sentence}"


@pytest.mark.parametrize(
    ("level", "planted", "sentence"),
    [
        (9, None, "level 9 is not in this version"),
        (1, "none", "this version has no bug 'none' to plant"),
    ],
)
def test_a_schedule_of_another_version(
    tmp_path: Path, level: int, planted: str | None, sentence: str
) -> None:
    """A level or a planted bug that does not exist is refused with one line."""
    (tmp_path / "kept").write_text(encode_kept(Kept(LEVELS[1].draw(0), level, planted)))
    assert refusal("simulate", "--schedule", "kept", directory=tmp_path) == f"--schedule kept: {sentence}"


@pytest.mark.parametrize(
    ("name", "caught"), [("vote-twice", "one vote a term"), ("skip-fsync", "durability")]
)
def test_a_planted_bug_is_found(tmp_path: Path, name: str, caught: str) -> None:
    """The table says how many seeds it took, and which invariant broke."""
    code, found = rows(tmp_path, "--planted", name)
    assert code == 0
    assert re.fullmatch(rf"\d+, {caught}", found[name])


def test_a_planted_bug_is_not_found(tmp_path: Path) -> None:
    """If the seeds do not find the bug the exit code is 1, and the table says so."""
    assert rows(tmp_path, "--planted", "commit-old-term", "--seeds", "1") == (
        1,
        {"commit-old-term": "not in 1, -"},
    )


@pytest.mark.long
def test_all_planted_bugs_are_found(tmp_path: Path) -> None:
    """Each of them, within 200 seeds."""
    code, found = rows(tmp_path, "--planted", "all")
    assert found.keys() == PLANTED.keys()
    assert {name: what for name, what in found.items() if not what[0].isdigit()} == {}
    assert code == 0


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """One line, exit code 130, and no process is left, as when a terminal sends SIGINT to all of them."""
    process = subprocess.Popen(
        [*PROGRAM, "simulate", "--seeds", "1000000", "--jobs", "2", "--trace-file", "never"],
        cwd=tmp_path,
        env=environment_with(None),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while len(children(process.pid)) < 3:  # two that run seeds, and multiprocessing's resource tracker
            assert process.poll() is None
            os.sched_yield()
        assert all(is_deaf(pid) for pid in children(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        out, said = process.communicate(timeout=DEADLINE_S)  # which waits for all that hold the pipes
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert said == "raftkv-trio: interrupted; nothing is left running\n"


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_deaf(pid: str) -> bool:
    """Whether a process blocks or ignores SIGINT, from its first moment on."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign):\t(\w+)$", status, re.MULTILINE)]
    return any(mask & 1 << signal.SIGINT - 1 for mask in masks)


@pytest.mark.parametrize("flag", ["--keep", "--trace-file"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, flag: str) -> None:
    """A trace or a schedule is written through no link and to no pipe; this is said before anything runs."""
    (tmp_path / "else").write_text("mine")
    (tmp_path / "link").symlink_to("else")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        said = refusal("simulate", flag, name, "--seeds", "1000000", directory=tmp_path)
        assert said == f"{flag} {name} is not a regular file and is not replaced; name another file"
    assert (tmp_path / "else").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--level", "9"], "--level 9 is not in this version; it has 1"),
        (["--seeds", "0"], "Invalid value for '--seeds': '0' is not an integer from 1 on"),
        (["--jobs", "x"], "Invalid value for '--jobs': 'x' is not an integer from 1 on"),
        (["--seed", "-1"], "Invalid value for '--seed': '-1' is not an integer from 0 on"),
        (["--planted", "none"], "--planted: no bug 'none'; use all, or one of: skip-fsync, "),
        (["--planted", "all", "--seed", "1"], "--seed excludes --seeds, --from and --planted all"),
        (["--planted", "all", "--from", "1"], "--planted begins at seed 0, so --from is not allowed"),
        (["--trace"], "--only and --trace need --seed or --schedule"),
        (["--seed", "1", "--schedule", "kept"], "--schedule and --seed exclude each other"),
        (["--schedule", "nowhere"], "--schedule nowhere cannot be read: No such file or directory"),
        (["--keep", "no/x"], "--keep no/x cannot be written: there is no directory no"),
        (["--trace-file", "no/x"], "--trace-file no/x cannot be written: there is no directory no"),
        (["--trace-file", "."], "--trace-file . is not a regular file and is not replaced; "),
        (["--keep", "x", "--planted", "skip-fsync"], "--keep and --trace-file need --seed or --schedule if "),
        (["--only", "faults=99", "--seed", "1"], "--only 'faults=99': the schedule has the faults 0 to "),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Flags that do not fit together are refused with one line."""
    assert refusal("simulate", *arguments, directory=tmp_path).startswith(sentence)
