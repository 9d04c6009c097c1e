"""Schedules that fail are made smaller, and what is left still fails."""

import pytest

from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.campaign.seeds import Verdict, run_schedule
from raftkv_trio.testing.campaign.shrink import Reduction, shrink
from raftkv_trio.testing.planted import PLANTED
from raftkv_trio.testing.schedules.schedule import Schedule


def failing(name: str) -> Verdict:
    """The first seed's verdict that finds a planted bug, which is to be in place."""
    for seed in range(200):
        verdict = run_schedule(LEVELS[1].draw(seed))
        if verdict.failure is not None:
            return verdict
    raise AssertionError(f"{name} is not found")


@pytest.mark.long  # `simulate` does the same in plain tests
def test_what_is_left_fails_in_the_same_way() -> None:
    """The smallest schedule has fewer faults, breaks the same invariant, and replays the same trace."""
    with PLANTED["skip-fsync"].plant():
        failed = failing("skip-fsync")
        *_, last = shrink(failed, run_schedule)
        assert last.verdict.failure == failed.failure
        assert 0 < len(last.verdict.schedule.faults) < len(failed.schedule.faults)
        assert last.verdict.schedule.operations < failed.schedule.operations

        schedule = Reduction.parse(str(last.reduction)).of(failed.schedule)
        assert schedule == last.verdict.schedule
        assert run_schedule(schedule).digest == last.verdict.digest
    assert run_schedule(schedule).failure is None


def of_faults(*needed: int) -> tuple[Verdict, Schedule]:
    """A verdict on a schedule that fails as long as it has these of its faults."""
    schedule = LEVELS[1].draw(4)
    return judge(schedule, [schedule.faults[i].at_s for i in needed]), schedule


def judge(schedule: Schedule, needed: list[float]) -> Verdict:
    fails = {*needed} <= {fault.at_s for fault in schedule.faults} and schedule.clients >= 2
    return Verdict(
        schedule=schedule,
        failure="it fails" if fails else None,
        text="",
        events=0,
        simulated_s=0,
        wall_s=0,
        digest="",
    )


@pytest.mark.parametrize("needed", [(), (0,), (3, 4), (1, 7, 11)])
def test_nothing_is_left_that_is_not_needed(needed: tuple[int, ...]) -> None:
    """Those faults remain without which it does not fail, and of everything else as much as it takes."""
    failed, schedule = of_faults(*needed)
    moments = [schedule.faults[i].at_s for i in needed]
    *_, last = shrink(failed, lambda smaller: judge(smaller, moments))
    assert last.reduction.faults == needed
    left = last.verdict.schedule
    assert (left.clients, left.keys, left.operations) == (2, 1, 1)
    assert last.runs < 200


def test_another_failure_does_not_count() -> None:
    """What fails otherwise than the whole schedule is not taken for smaller."""
    failed, schedule = of_faults(0)

    def run(smaller: Schedule) -> Verdict:
        verdict = judge(smaller, [schedule.faults[0].at_s])
        other = "something else" if smaller != schedule else verdict.failure
        return Verdict(schedule=smaller, failure=other, text="", events=0, simulated_s=0, wall_s=0, digest="")

    *_, last = shrink(failed, run)
    assert last.verdict is failed


@pytest.mark.parametrize(
    "text", ["faults=99", "faults=x", "clients=0", "clients=", "seed=3", "default=nodes", "nodes=1", "x"]
)
def test_what_is_no_part_of_a_schedule_is_refused(text: str) -> None:
    """A text that does not fit the seed's schedule is an error, and no other schedule."""
    with pytest.raises(ValueError, match=r"."):
        Reduction.parse(text).of(LEVELS[1].draw(0))
