"""What `pytest tests/conformance --transcripts DIR` promises, tried from outside; and what it may need."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv_trio.raft import texts
from tests.conformance.conftest import OWN, transcripts_in
from tests.conformance.transcript import is_log_line, parse

_HERE = Path(__file__).parent
_FILES = {
    "interaction/solo": (
        "add-nodes 1 voters=(1) index=3\n----\n"
        "INFO 1 switched to configuration voters=(1)\n"
        "INFO 1 became follower at term 0\n"
        "INFO newRaft 1 [peers: [1], term: 0, commit: 3, applied: 3, lastindex: 3, lastterm: 1]\n"
    ),
    "confchange/one": "simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n",
    "quorum/won": "vote cfg=(1) votes=y\n----\nVoteWon\n",
}


def _pytest(*arguments: str | Path, root: Path = _HERE.parents[1]) -> subprocess.CompletedProcess[str]:
    """Run with no plugins and no settings but these, which takes half a second."""
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", root, "-rA"]
    command += ["-p", "no:cacheprovider", "-k", "answered", _HERE / "test_transcripts.py"]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        cwd=_HERE.parents[1],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(_HERE.parents[1])},
    )


def _directory(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_every_file_is_a_test_at_each_tier_and_its_folder_tells_its_kind(tmp_path: Path) -> None:
    """A directory with one file of each kind gives two tests a file, none of them skipped."""
    run = _pytest("--transcripts", _directory(tmp_path, _FILES))
    passed = re.findall(r"PASSED \S+\[(\S+)\]", run.stdout)
    assert sorted(passed) == sorted([f"{name}-{tier}" for name in _FILES for tier in ("exact", "stripped")])
    assert "6 passed" in run.stdout


def test_a_mismatch_is_told_with_file_line_and_diff(tmp_path: Path) -> None:
    """What a reader sees of a failure names the place and both texts; the other files go on."""
    files = _FILES | {"quorum/won": "# wrong\nvote cfg=(1) votes=y\n----\nVoteLost\n"}
    run = _pytest("--transcripts", _directory(tmp_path, files))
    assert "2 failed, 4 passed" in run.stdout
    assert f"{tmp_path}/quorum/won.txt:4: `vote` of line 2" in run.stdout
    assert "-VoteLost" in run.stdout
    assert "+VoteWon" in run.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other/won", _FILES["quorum/won"]),
        ("quorum/unknown", "elect cfg=(1)\n----\nok\n"),
        ("quorum/unknown", "vote cfg=(1) votes=y quickly=true\n----\nVoteWon\n"),
    ],
    ids=["kind", "directive", "argument"],
)
def test_what_is_unknown_fails(tmp_path: Path, name: str, text: str) -> None:
    """A kind, directive or argument that the harness does not know is an error, not a skip."""
    run = _pytest("--transcripts", _directory(tmp_path, {name: text}))
    assert "2 failed" in run.stdout
    assert "TranscriptError" in run.stdout


def test_a_directory_without_transcripts_is_an_error(tmp_path: Path) -> None:
    """A mistyped directory must not look like success."""
    run = _pytest("--transcripts", tmp_path / "nowhere")
    assert run.returncode != 0
    assert "no transcripts" in run.stdout + run.stderr


def test_where_etcds_transcripts_are_missing_the_run_says_so(tmp_path: Path) -> None:
    """Without a directory beside the checkout our own are replayed, and the skip says what is missing."""
    run = _pytest(root=tmp_path)
    own = 2 * len(transcripts_in(OWN))
    assert f"{own} passed, 1 skipped" in run.stdout
    assert "no transcripts of etcd" in run.stdout


def test_the_harness_needs_nothing_but_the_core_and_pytest() -> None:
    """It imports the standard library, pytest, the core, and the root of the errors."""
    allowed = {"pytest", "raftkv_trio.raft", "raftkv_trio.errors", "tests.conformance"}
    for path in _HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign = [m for m in modules if m.split(".")[0] not in sys.stdlib_module_names]
            assert not [m for m in foreign if ".".join(m.split(".")[:2]) not in allowed], path


def test_the_core_is_driven_by_its_public_face() -> None:
    """The harness reaches behind `RawNode` once: to set the timeout that was drawn at random."""
    behind = [
        (path.name, ast.unparse(node))
        for path in _HERE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "raft"
    ]
    assert behind == [("directives.py", "cluster.node(node_id).raw.raft.randomized_election_ticks")]


#: What no directive can bring about: it would take an option, a report or a read that they do not have.
_OUT_OF_REACH = {
    "NOT_FORWARDING_PROPOSAL",
    "NO_LEADER_FOR_READ",
    "SNAPSHOT_FAILED",
    "SNAPSHOT_SUCCEEDED",
    "SNAPSHOT_UNAVAILABLE",
    "UNCOMMITTED_LIMIT",
}


def test_our_transcripts_hold_every_text() -> None:
    """Every log line of the core that a directive can cause is in one of our own transcripts."""
    told = [
        line.strip().partition(" ")[2]
        for path in transcripts_in(OWN)
        for case in parse(path)
        for line in case.expected
        if is_log_line(line)
    ]
    untold = set()
    for name, text in vars(texts).items():
        if name.isupper() and "%" in text:
            pattern = re.compile(re.sub(r"%[xds]", ".*", re.escape(text)))
            if not any(map(pattern.fullmatch, told)):
                untold.add(name)
    assert untold == _OUT_OF_REACH
