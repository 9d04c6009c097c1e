"""A schedule as text is the same schedule again, or is refused."""

from dataclasses import replace

import pytest

from raftkv_trio.testing.draw import draw_schedule
from raftkv_trio.testing.message_network import Conditions
from raftkv_trio.testing.schedule import Fault, FaultKind, Occasion, Schedule
from raftkv_trio.testing.schedule_text import decode_schedule, encode_schedule

FAULT = Fault(at_s=1.5, kind=FaultKind.KILL, node=1, waits_for=Occasion.ELECTED, again_s=0.1, pairs=((1, 2),))
SCHEDULE = Schedule(seed=3, nodes=3, conditions=Conditions(), faults=(FAULT, FAULT), clients=2, keys=1)


def test_a_schedule_is_read_as_it_was_written() -> None:
    """Schedules of many seeds, and one without faults, come back equal."""
    for schedule in (SCHEDULE, replace(SCHEDULE, faults=()), *map(draw_schedule, range(200))):
        assert decode_schedule(encode_schedule(schedule)) == schedule


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 3', '"seed": "3"'),
        ('"seed": 3', '"seeds": 3'),
        ('"seed": 3,', ""),
        ('"KILL"', '"KILLED"'),
        ("[1, 2]", "[1, 2, 3]"),
        ("[1, 2]", "[1, true]"),
        ('"pairs": [[1, 2]]', '"pairs": 7'),
        ("}", ""),
    ],
)
def test_what_is_no_schedule_is_refused(old: str, new: str) -> None:
    """A field of another type or name, one that is lacking, or no JSON is a ValueError."""
    text = encode_schedule(SCHEDULE)
    assert old in text
    with pytest.raises(ValueError, match=r"."):
        decode_schedule(text.replace(old, new))
