"""Level 2 of the simulator: whole nodes on virtual time, without a violation and the same every time."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest
from trio._core import _run

from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.campaign.seeds import Verdict
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.draw import draw_schedule_on_tasks
from raftkv_trio.testing.schedules.schedule import MIN_DURATION_S, MIN_FAULTS, MIN_OPERATIONS
from raftkv_trio.testing.world.determinism import deterministic_scheduling


def run(seed: int) -> Verdict:
    return run_schedule_on_tasks(draw_schedule_on_tasks(seed))


def check(verdict: Verdict) -> None:
    assert verdict.failure is None, f"seed {verdict.schedule.seed}: {verdict.text}"
    assert verdict.simulated_s >= MIN_DURATION_S
    assert verdict.operations.total() >= MIN_OPERATIONS
    assert verdict.faults.total() >= MIN_FAULTS


@pytest.mark.parametrize("seed", range(10_000, 10_010))
def test_a_sample_of_seeds(seed: int) -> None:
    """A seed breaks no invariant, and is as long and as bad as it must be."""
    check(run(seed))


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 500, 50))
def test_five_hundred_seeds(first: int) -> None:
    """As the sample, for all seeds below 500."""
    with ProcessPoolExecutor(2) as pool:
        for verdict in pool.map(run, range(first, first + 50)):
            check(verdict)


_DIGESTS = """
import sys
from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks
from raftkv_trio.testing.schedules.draw import draw_schedule_on_tasks
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(run_schedule_on_tasks(draw_schedule_on_tasks(seed)).digest)
"""


def digests(first: int, end: int, hash_seed: str) -> Sequence[str]:
    """Of these seeds, from a process of its own."""
    command = [sys.executable, "-c", _DIGESTS, str(first), str(end)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def test_a_seed_does_the_same_everywhere() -> None:
    """Whatever the process and its PYTHONHASHSEED, a seed's trace is the same; other seeds' are not."""
    here = [run(seed).digest for seed in range(2)]
    assert len(set(here)) == 2
    assert digests(0, 2, "1") == digests(0, 2, "2") == here


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_two_hundred_seeds_do_the_same_everywhere(first: int) -> None:
    """As above, for 200 seeds."""
    one, other = digests(first, first + 50, "3"), digests(first, first + 50, "4")
    assert len(one) == 50
    assert one == other


def test_a_trio_without_the_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Trio has changed its scheduler's private switch, this is said, and nothing runs at random."""
    monkeypatch.delattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    with pytest.raises(RuntimeError, match="needs another way"), deterministic_scheduling("a seed"):
        pass


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("tell-before-written", "durability"),
        ("skip-fsync", "durability"),
        ("acknowledge-before-quorum", "durable on a quorum"),
        ("stale-read", "as fresh as it says"),
        ("apply-out-of-order", "State Machine Safety"),
    ],
)
def test_planted_bugs_are_found(name: str, failure: str) -> None:
    """A bug planted into the real code breaks what it must break, at one of the first seeds."""
    with PLANTED[name].plant():
        # Another invariant may notice it first, at another seed.
        assert failure in (run(seed).failure for seed in range(10))
