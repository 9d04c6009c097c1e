"""Runs a schedule at level 2: whole nodes, with all their tasks, in one Trio run."""

from time import perf_counter

import trio
import trio.testing

from raftkv_trio.errors import leaves
from raftkv_trio.testing.campaign.seeds import SeedRun, Verdict
from raftkv_trio.testing.invariants.violation import LIVENESS, Violation
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.task_member import TaskSimulation
from raftkv_trio.testing.world.determinism import deterministic_scheduling


def run_schedule_on_tasks(schedule: Schedule, *, keep_trace: bool = False) -> Verdict:
    """Run a schedule at level 2, to its end or to the first violation."""
    begun_at = perf_counter()
    run = SeedRun(schedule, TaskSimulation, keep_trace=keep_trace)
    failure, text = None, ""
    try:
        with deterministic_scheduling(f"scheduler {schedule.seed}"):
            trio.run(_run, run, clock=trio.testing.MockClock())
    except Exception as error:
        first = next(leaves(error))
        failure = first.invariant if isinstance(first, Violation) else type(first).__name__
        text = str(first) if isinstance(first, Violation) else f"{failure}: {first}"
    return run.verdict(failure, text, perf_counter() - begun_at)


async def _run(run: SeedRun) -> None:
    simulation = run.simulation
    assert isinstance(simulation, TaskSimulation)
    async with trio.open_nursery() as nursery:
        simulation.run_in(nursery)
        try:
            run.begin()
            await simulation.step_until(run.schedule.duration_s)
            for what, condition in run.heal():
                await simulation.step_until(simulation.now + run.progress_within_s, condition)
                if not condition():
                    raise Violation(LIVENESS, f"{what} {run.progress_within_s:.0f} s after all has healed")
            run.judge()
        finally:
            simulation.abandon()
