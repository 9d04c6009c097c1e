"""Level 1 of the simulator: seeds without a violation, the same every time, and what users do with it."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from time import process_time

import pytest

from raftkv_trio.errors import NoLeader, ProposalError
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing.campaign.seeds import Verdict, run_schedule
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.schedules.schedule import MIN_DURATION_S, MIN_FAULTS, MIN_OPERATIONS
from raftkv_trio.testing.simulator.simulation import Simulation


def run(seed: int) -> Verdict:
    return run_schedule(draw_schedule(seed))


def check(verdict: Verdict) -> None:
    assert verdict.failure is None, f"seed {verdict.schedule.seed}: {verdict.text}"
    assert verdict.simulated_s >= MIN_DURATION_S
    assert verdict.operations.total() >= MIN_OPERATIONS
    assert verdict.faults.total() >= MIN_FAULTS


@pytest.mark.parametrize("first", range(10_000, 10_030, 10))
def test_a_sample_of_seeds(first: int) -> None:
    """Ten seeds break no invariant, and each is as long and as bad as a seed must be."""
    for seed in range(first, first + 10):
        check(run(seed))


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 10_000, 500))
def test_ten_thousand_seeds(first: int) -> None:
    """As the sample, for all seeds below 10,000."""
    with ProcessPoolExecutor(2) as pool:
        for verdict in pool.map(run, range(first, first + 500), chunksize=10):
            check(verdict)


_DIGESTS = """
import sys
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.campaign.seeds import run_schedule
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(run_schedule(draw_schedule(seed)).digest)
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
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_a_thousand_seeds_do_the_same_everywhere(first: int) -> None:
    """As above, for 1,000 seeds."""
    one, other = digests(first, first + 100, "3"), digests(first, first + 100, "4")
    assert len(one) == 100
    assert one == other


@pytest.mark.timing
def test_a_hundred_simulated_seconds_a_second() -> None:
    """Simulated time passes at least 100 times as fast as the processor's."""
    begun_at = process_time()
    simulated_s = sum(run(seed).simulated_s for seed in range(100, 140))
    assert simulated_s >= 100 * (process_time() - begun_at)


# ---------------------------------------------------------------- as a user writes it


class Sum:
    """Adds up numbers; the result of each command is the sum so far."""

    def __init__(self) -> None:
        self.value = 0

    def apply(self, batch: Sequence[Committed]) -> Sequence[object]:
        sums = []
        for committed in batch:
            self.value += int(committed.command)
            sums.append(self.value)
        return sums

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"%d" % self.value])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.value = int(b"".join(chunks))


def value(simulation: Simulation, node: int) -> int:
    machine = simulation.machine(node)
    assert isinstance(machine, Sum)
    return machine.value


def test_a_leader_without_a_majority_takes_nothing() -> None:
    """Behind a partition the majority goes on; the old leader has it all once the partition heals."""
    simulation = Simulation(Sum, seed=7)
    old = simulation.leader()
    assert simulation.propose(b"2") == 2
    simulation.partition([old])
    with pytest.raises(ProposalError):
        simulation.propose(b"40", node=old, within_s=1.0)
    with pytest.raises(NoLeader):
        simulation.machine(old, within_s=1.0)
    simulation.run_for(3.0)
    assert simulation.leader() != old
    assert simulation.propose(b"3") == 5
    simulation.heal()
    assert value(simulation, old) == 5


def test_what_was_acknowledged_outlives_a_loss_of_power_of_all() -> None:
    """Nodes that all lose power come back with every command that was acknowledged."""
    simulation = Simulation(Sum, seed=8)
    assert [simulation.propose(b"1") for _ in range(20)] == list(range(1, 21))
    for node in simulation.members:
        simulation.crash(node)
    with pytest.raises(NoLeader):
        simulation.propose(b"1", node=1)
    for node in simulation.members:
        simulation.start(node)
    simulation.leader()
    assert [value(simulation, node) for node in simulation.members] == [20, 20, 20]


def test_a_paused_leader_is_replaced() -> None:
    """While a leader is paused another is elected, whom it follows when it resumes."""
    simulation = Simulation(Sum, seed=9)
    old = simulation.leader()
    simulation.pause(old)
    simulation.run_for(5.0)
    assert simulation.leader() != old
    assert simulation.propose(b"4") == 4
    simulation.resume(old)
    assert value(simulation, old) == 4
