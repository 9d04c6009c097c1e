"""The pytest fixture, as a user's own test has it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

FAILING = """
from counter import Counter

pytest_plugins = ["raftkv_trio.testing.pytest_plugin"]

def test_wrong(raft_simulation):
    assert raft_simulation(Counter, seed=7).propose(b"2") == 3

def test_right(raft_simulation):
    assert raft_simulation(Counter, seed=8).propose(b"2") == 2
"""


ALL_ARGUMENTS = """
from counter import Counter

from raftkv_trio.testing.world.message_network import Conditions
from raftkv_trio.testing.schedules.schedule import Limits

pytest_plugins = ["raftkv_trio.testing.pytest_plugin"]

def test_it(raft_simulation):
    simulation = raft_simulation(
        Counter, nodes=1, seed=7, conditions=Conditions(loss=0.1), limits=Limits(election_ticks=20),
        turn_delay_s=0.125, keep_trace=False,
    )
    member = simulation.members[1]
    assert simulation.conditions.loss == 0.1
    assert (member.config.election_ticks, member.turn_delay_s) == (20, 0.125)
    assert simulation.trace.lines is None
"""


def run_pytest(path: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", directory, path],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT / "examples"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


def test_the_example_passes(tmp_path: Path) -> None:
    """A state machine of one's own, three nodes, one seed, a partition, an assertion."""
    done = run_pytest(ROOT / "examples" / "test_counter.py", tmp_path)
    assert done.returncode == 0, done
    assert "1 passed" in done.stdout


def test_a_failure_shows_the_trace(tmp_path: Path) -> None:
    """The report of a test that failed has the seed and what the cluster did last."""
    test = tmp_path / "test_it.py"
    test.write_text(FAILING)
    done = run_pytest(test, tmp_path)
    assert done.returncode == 1, done
    assert "1 failed, 1 passed" in done.stdout
    assert "raft simulation, seed 7, the last of " in done.stdout
    assert "seed 8" not in done.stdout
    assert ": leader t" in done.stdout


def test_all_arguments_are_passed_on(tmp_path: Path) -> None:
    """What a Simulation takes, the fixture takes."""
    test = tmp_path / "test_it.py"
    test.write_text(ALL_ARGUMENTS)
    done = run_pytest(test, tmp_path)
    assert done.returncode == 0, done.stdout


def test_nobody_gets_pytest_who_did_not_ask() -> None:
    """What a program of a user's imports has no need of pytest."""
    modules = "raftkv_trio.testing.campaign.campaign, raftkv_trio.cli"
    code = f"import sys, {modules}; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
