"""Schedules that once found something, kept as they were drawn then: what is drawn from a seed changes."""

from pathlib import Path

import pytest

from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.schedules.schedule_text import decode_kept

KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))


@pytest.mark.parametrize("file", KEPT, ids=[file.stem for file in KEPT])
def test_what_was_found_stays_mended(file: Path) -> None:
    """A schedule that once broke an invariant, as the file's name says, breaks none any more."""
    kept = decode_kept(file.read_text())
    verdict = LEVELS[kept.level or 1].run(kept.schedule)
    assert verdict.failure is None, verdict.text
    # That it was no idle run. How many of the 200 complete depends on all that is random while it runs: one
    # of these schedules gives 81 to 135 under ten other seeds.
    assert verdict.operations["completed"] >= 60
