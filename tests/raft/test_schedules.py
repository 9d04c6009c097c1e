"""Figure 3 of the paper holds in any order of events (see `schedules.py`)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.raft.schedules import run_schedule

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=200, deadline=None)
def test_safety_and_progress_under_random_schedules(seed: int) -> None:
    """Orders, losses, duplicates, crashes and changes of members break no property, and all goes on."""
    run_schedule(seed)


@pytest.mark.long
@given(seeds)
@settings(max_examples=20_000, deadline=None)
def test_safety_and_progress_under_many_random_schedules(seed: int) -> None:
    """The same for a hundred times as many schedules."""
    run_schedule(seed)
