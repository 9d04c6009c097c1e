"""`python -m benchmarks` runs: what is installed here is measured, the rest is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.contestants import NAMED_ONLY, Contestant, Echo, Etcd, Ours
from benchmarks.measurements.disk import NAME as DISK
from benchmarks.parts import PARTS
from benchmarks.targets import TARGETS

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks", "--quick"]
DEADLINE_S = 200  # a quiet machine needs 10; the command itself gives up after 120
#: All parts, in runs that are under way at the same time: mostly they wait, for starts and elections.
RUNS = (("loads", "disk", "proposals", "growth"), ("etcd", "hops", "state"), ("failover",))
HTTP: list[Contestant] = [Ours(1), Etcd(3), Echo()]


def measured(directory: Path, parts: Sequence[str], **variables: str) -> tuple[dict[str, Any], str]:
    """What the command writes as JSON, and what it prints; it has left nothing behind."""
    directory.mkdir(exist_ok=True)
    file = directory / "figures.json"
    command = [*COMMAND, "--directory", str(directory), "--json", str(file)]
    for part in parts:
        command += ["--only", part]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.iterdir()) == [file]
    assert processes_about(directory) == []
    document: dict[str, Any] = json.loads(file.read_text())
    asked_for = [target.what for target in TARGETS if target.part in parts]
    assert [target["what"] for target in document["targets"]] == asked_for
    for figure in document["figures"]:
        assert figure["rounds"]
        assert all(value >= 0 for values in figure["rounds"].values() for value in values)
        assert f"| {figure['what']} | {figure['contestant']} |" in done.stdout
    for name in (*document["environment"], *document["missing"]):
        assert f"\n- {name}: " in done.stdout
    return document, done.stdout


def processes_about(directory: Path) -> list[str]:
    """The command lines of the processes that name this directory."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # no process, or one that has just ended
            continue
    return [line for line in lines if str(directory) in line]


def test_every_part_runs(tmp_path: Path) -> None:
    """Each contestant has figures, or a reason why not that is true here; nothing has failed."""
    assert sorted(part for parts in RUNS for part in parts) == sorted(PARTS)
    directories = [tmp_path / parts[0] for parts in RUNS]
    with ThreadPoolExecutor(len(RUNS)) as pool:
        documents = [document for document, _ in pool.map(measured, directories, RUNS)]
    figures = [figure for document in documents for figure in document["figures"]]
    missing = {name: reason for document in documents for name, reason in document["missing"].items()}
    assert [document["failed"] for document in documents] == [{}, {}, {}]
    for contestant in HTTP:
        reason = contestant.why_missing() or (None if shutil.which("wrk") else "wrk is not installed")
        if reason is None:
            of_it = {figure["what"] for figure in figures if figure["contestant"] == contestant.name}
            assert of_it >= {"get", "put"}
            assert contestant.name not in missing
        else:
            assert reason in missing[contestant.name]
    for name, program in NAMED_ONLY.items():
        assert missing[name].startswith("is installed" if shutil.which(program) else "is not installed")
    parts = {figure["what"] for figure in figures}
    assert parts >= {"fdatasync", "trace: durable", "failover", "grpc put", "grpc txn", "Client put"}
    assert ("state" in parts) != ("state" in missing)


def test_without_the_load_generator(tmp_path: Path) -> None:
    """Whoever cannot be measured is named with the reason, and the rest is measured."""
    document, printed = measured(tmp_path, ("loads", "disk"), PATH=str(tmp_path))
    assert [figure["contestant"] for figure in document["figures"]] == [DISK]
    reason = "wrk is not installed (apt install wrk)"
    assert document["missing"] == {
        **dict.fromkeys(NAMED_ONLY, "is not installed"),
        **{contestant.name: reason for contestant in HTTP},
    }
    assert f"- {Echo.name}: {reason}\n" in printed


def test_it_ends_what_it_has_started(tmp_path: Path) -> None:
    """When it is terminated, its nodes end and its files go."""
    command = [*COMMAND, "--only", "failover", "--directory", str(tmp_path)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while len(processes_about(tmp_path)) < 4:  # itself, and three nodes
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert processes_about(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
