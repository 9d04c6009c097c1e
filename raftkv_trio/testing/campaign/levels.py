"""The levels of the simulator: each draws a schedule from a seed, and runs it to a verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from raftkv_trio.testing.campaign.seeds import Verdict, run_schedule
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.schedules.schedule import Schedule


class RunSchedule(Protocol):
    """Runs a schedule to its end, or to the first thing that must not be."""

    def __call__(self, schedule: Schedule, *, keep_trace: bool = False) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Level:
    """How the seeds of a level are drawn and run."""

    draw: Callable[[int], Schedule]
    run: RunSchedule


def _run_on_tasks(schedule: Schedule, *, keep_trace: bool = False) -> Verdict:
    # Brings Trio's tools for tests, and with them pytest where it is installed: level 1 has no need of them.
    from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks

    return run_schedule_on_tasks(schedule, keep_trace=keep_trace)


LEVELS: Mapping[int, Level] = {
    1: Level(draw_schedule, run_schedule),
    2: Level(draw_schedule, _run_on_tasks),
}
