"""Where a run goes: what cannot be written is refused before anything is measured, in one sentence."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.documents import begin, end
from benchmarks.figures import Figures
from benchmarks.outputs import Outputs
from benchmarks.processes import BenchmarkError

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def refused(arguments: Sequence[str]) -> str:
    """What the command says instead of measuring anything."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "measuring" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_paths_are_looked_at_first(tmp_path: Path) -> None:
    """Each flag that names a path, in one sentence."""
    file = tmp_path / "file"
    file.touch()
    nowhere = tmp_path / "nowhere"
    for arguments, reason in (
        (["--json", str(nowhere / "a.json")], f"there is no directory {nowhere}"),
        (["--json", str(tmp_path)], "this is a directory, not a file"),
        (["--plots", str(file)], f"{file} is a file, not a directory"),
        (["--plots", str(file / "plots")], f"{file} is a file, not a directory"),
        (["--directory", str(nowhere)], "there is no such directory"),
    ):
        assert refused(["--only", "disk", *arguments]) == f"error: {' '.join(arguments)}: {reason}\n"
    assert list(tmp_path.iterdir()) == [file]


def test_quick_has_a_plan_of_its_own() -> None:
    """Flags that it would ignore are refused, and its figures are no documentation."""
    for flag in ("--rounds", "--seconds", "--keys", "--limit"):
        sentence = f"error: {flag} does not apply to --quick; leave out one of them\n"
        assert refused(["--quick", flag, "2"]) == sentence
    assert refused(["--quick", "--write-docs"]).startswith("error: --write-docs does not apply to --quick")


def test_a_table_that_nobody_reads(tmp_path: Path) -> None:
    """Files are written all the same, and a sentence says so."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "--quick", "--only", "disk", "--json", str(tmp_path / "a.json")]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (1, ["error: the table: nobody reads it"])
    assert (tmp_path / "a.json").exists()


def test_the_page_is_looked_at_first(tmp_path: Path) -> None:
    """It needs the markers of the parts that are measured, and of no others."""
    page = tmp_path / "performance.md"
    page.write_text(f"{begin('disk')}\n{end('disk')}\n")
    outputs = Outputs(json=None, plots=None, page=page)
    outputs.check(["disk"])
    with pytest.raises(BenchmarkError, match="markers, in this order and once each: <!-- figures of loads"):
        outputs.check(["disk", "loads"])
    page.unlink()
    with pytest.raises(BenchmarkError, match="No such file"):
        outputs.check(["disk"])


def test_one_output_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """What went wrong after the check is named, and the rest is written."""
    page = tmp_path / "performance.md"
    page.write_text(f"{begin('disk')}\n{end('disk')}\n")
    outputs = Outputs(json=tmp_path / "gone" / "a.json", plots=tmp_path / "file" / "plots", page=page)
    (tmp_path / "file").touch()
    figures = Figures()
    figures.add("fdatasync", "the disk", {}, rate_per_s=1.0)
    assert outputs.write({}, {"disk": figures}, 1) == [
        f"--json {outputs.json}: No such file or directory",
        f"--plots {outputs.plots}: Not a directory",
    ]
    assert "### The disk alone" in page.read_text()
