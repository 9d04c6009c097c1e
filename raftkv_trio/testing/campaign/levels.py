"""The levels of the simulator: each draws a schedule from a seed, and runs the schedule to a verdict.

Level 1 steps the parts of each node itself; level 2 runs whole nodes with their tasks, and is slower.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from raftkv_trio.testing.campaign.seeds import Verdict, run_schedule
from raftkv_trio.testing.schedules.draw import draw_schedule, draw_schedule_on_tasks
from raftkv_trio.testing.schedules.schedule import Schedule


class RunSchedule(Protocol):
    """Runs a schedule to its end, or to the first violation."""

    def __call__(self, schedule: Schedule, *, keep_trace: bool = False) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Level:
    """How the seeds of a level are drawn and run."""

    draw: Callable[[int], Schedule]
    run: RunSchedule


def _run_on_tasks(schedule: Schedule, *, keep_trace: bool = False) -> Verdict:
    # It imports trio.testing, and so pytest if that is installed; level 1 needs neither.
    from raftkv_trio.testing.campaign.schedule_on_tasks import run_schedule_on_tasks

    return run_schedule_on_tasks(schedule, keep_trace=keep_trace)


LEVELS: Mapping[int, Level] = {
    1: Level(draw_schedule, run_schedule),
    2: Level(draw_schedule_on_tasks, _run_on_tasks),
}
