"""Figure 3 of the paper holds in any order of events, and in the end all goes on (see `schedules.py`)."""

import pytest

from tests.raft.schedules import run_schedule


def _run(seeds: range) -> None:
    for seed in seeds:
        try:
            run_schedule(seed)
        except Exception as error:
            error.add_note(f"in the schedule of seed {seed}")
            raise


def test_safety_and_progress_under_random_schedules() -> None:
    """Orders, losses, duplicates, crashes and changes of members break no property, and all goes on."""
    _run(range(200))


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 20_000, 1_000))
def test_safety_and_progress_under_many_random_schedules(first: int) -> None:
    """The same for a hundred times as many schedules."""
    _run(range(first, first + 1_000))
