"""Level 2 of the simulator: whole nodes on virtual time, without a violation and the same every time."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
from trio._core import _run

from raftkv_trio.log_writer import LogWriter
from raftkv_trio.testing.determinism import deterministic_scheduling
from raftkv_trio.testing.level_2 import run_schedule_on_tasks
from raftkv_trio.testing.planted import PLANTED, replaced
from raftkv_trio.testing.schedule import MIN_DURATION_S, MIN_FAULTS, MIN_OPERATIONS, draw_schedule
from raftkv_trio.testing.seeds import Verdict


def run(seed: int) -> Verdict:
    return run_schedule_on_tasks(draw_schedule(seed))


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
from raftkv_trio.testing.level_2 import run_schedule_on_tasks
from raftkv_trio.testing.planted import PLANTED, replaced
from raftkv_trio.testing.schedule import draw_schedule
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(run_schedule_on_tasks(draw_schedule(seed)).digest)
"""


def digests(first: int, end: int, hash_seed: str) -> Sequence[str]:
    """Of these seeds, from a process of its own."""
    command = [sys.executable, "-c", _DIGESTS, str(first), str(end)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def test_a_seed_does_the_same_everywhere() -> None:
    """Whatever the process and its PYTHONHASHSEED, a seed's trace is the same; other seeds' are not."""
    here = [run(seed).digest for seed in range(3)]
    assert len(set(here)) == 3
    assert digests(0, 3, "1") == digests(0, 3, "2") == here


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


async def tell_before_written(writer: Any) -> None:
    """`LogWriter.run` with its last two steps in the wrong order; level 1 does not run it."""
    while True:
        await writer._bell.wait()
        while (write := writer.take()) is not None:
            writer.written(write)
            await writer._worker.run(lambda w=write: writer.write(w))


@pytest.mark.parametrize(
    ("plant", "seed", "failure"),
    [
        (lambda: replaced(LogWriter, "run", tell_before_written), 5, "durability"),
        (PLANTED["skip-fsync"].plant, 0, "durability"),
        (PLANTED["acknowledge-before-quorum"].plant, 0, "durable on a quorum"),
        (PLANTED["stale-read"].plant, 0, "linearizability"),
        (PLANTED["retry-before-it-is-lost"].plant, 9, "linearizability"),
        (PLANTED["apply-out-of-order"].plant, 0, "State Machine Safety"),
    ],
)
def test_planted_bugs_are_found(
    plant: Callable[[], AbstractContextManager[None]], seed: int, failure: str
) -> None:
    """A bug planted into the real code breaks what it must break, at a seed known to show it."""
    with plant():
        assert run(seed).failure == failure
