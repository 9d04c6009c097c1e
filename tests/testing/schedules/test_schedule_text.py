"""A schedule as text is the same schedule again, or is refused."""

import re
from dataclasses import replace

import pytest

from raftkv_trio.testing.schedules.draw import draw_schedule_on_tasks
from raftkv_trio.testing.schedules.schedule import Fault, FaultKind, Occasion, Schedule
from raftkv_trio.testing.schedules.schedule_text import Kept, decode_kept, encode_kept
from raftkv_trio.testing.world.message_network import Conditions

FAULT = Fault(at_s=1.5, kind=FaultKind.KILL, node=1, waits_for=Occasion.ELECTED, again_s=0.1, pairs=((1, 2),))
SCHEDULE = Schedule(seed=3, nodes=3, conditions=Conditions(), faults=(FAULT, FAULT), clients=2, keys=1)


def test_a_schedule_is_read_as_it_was_written() -> None:
    """Schedules of many seeds, and one without faults, come back equal."""
    for schedule in (SCHEDULE, replace(SCHEDULE, faults=()), *map(draw_schedule_on_tasks, range(200))):
        assert decode_kept(encode_kept(Kept(schedule))) == Kept(schedule)


def test_what_it_was_run_with_is_read() -> None:
    """Level and planted bug come back; a text without them, as older ones are, says neither."""
    kept = Kept(SCHEDULE, 2, "skip-fsync")
    assert decode_kept(encode_kept(kept)) == kept
    assert decode_kept(encode_kept(Kept(SCHEDULE))).level is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"seed": 3', '"seed": "3"', "seed is '3', which is no int"),
        ('"seed": 3', '"seeds": 3', "the schedule has unknown fields: 'seeds'"),
        ('"seed": 3,', "", "the schedule lacks seed"),
        ('"nodes": 3', '"nodes": 0', "nodes is 0; it must be at least 1"),
        ('"level": 1', '"level": true', "level is True, which is no int"),
        ('"KILL"', '"KILLED"', "kind is 'KILLED'; it must be one of PARTITION, ONE_WAY, "),
        ('"KILL"', "[]", "kind is []; it must be one of PARTITION, "),
        ("[1, 2]", "[1, 2, 3]", "pairs[0] has 3 items; it must have 2"),
        ("[1, 2]", "[1, true]", "pairs[0][1] is True, which is no int"),
        ('"pairs": [[1, 2]]', '"pairs": 7', "pairs is 7, which is no list"),
        ('"conditions": {}', '"conditions": 7', "conditions is 7, which is no JSON object"),
        ('"at_s": 1.5', '"at_s": NaN', "NaN is no number of a schedule"),
        ("}", "", "this is no JSON: "),
    ],
)
def test_what_is_no_schedule_is_refused(old: str, new: str, sentence: str) -> None:
    """A field of another type or name, one that is lacking, or no JSON is told in a sentence."""
    text = encode_kept(Kept(SCHEDULE, 1))
    assert old in text
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        decode_kept(text.replace(old, new))


@pytest.mark.parametrize("text", ["[1]", "7", "null", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    """JSON of another kind, however deep, is no schedule."""
    with pytest.raises(ValueError, match=r"^this is no schedule: it is "):
        decode_kept(text)
