"""The checks of fail-over find what they are for."""

from tests.patroni.checks import longest_gap_s, lost, two_primaries
from tests.patroni.writers import Write

CALM = [
    Write("a-1", "a", 1, 0.0, 0.1),
    Write("a-2", "a", 1, 1.0, 9.0),  # it was under way when the other one took over
    Write("b-1", "b", 2, 5.0, 5.1),
    Write("b-2", "b", 2, 10.0, 10.1),
]


def test_calm_writes_pass() -> None:
    """Nothing is found where nothing is wrong."""
    assert not list(two_primaries(CALM))
    assert not lost(CALM, ["a-1", "a-2", "b-1", "b-2", "not acknowledged"])


def test_a_lost_row_is_found() -> None:
    """It was acknowledged and is not there."""
    assert lost(CALM, ["a-1", "b-1", "b-2"]) == {"a-2"}


def test_an_old_primary_that_goes_on_is_found() -> None:
    """It took a write after the new one had acknowledged one."""
    late = Write("a-3", "a", 1, 5.2, 5.3)
    assert list(two_primaries([*CALM, late])) == [(CALM[2], late)]


def test_two_databases_on_one_timeline_are_found() -> None:
    """Only one of them can be the primary of a timeline."""
    late = Write("a-3", "a", 2, 11.0, 11.1)
    assert list(two_primaries([*CALM, late])) == [(CALM[2], late)]


def test_the_longest_gap() -> None:
    """It may be at either end, or between two acknowledgements."""
    assert longest_gap_s(CALM, 0.0, 10.0) == 5.1 - 0.1
    assert longest_gap_s(CALM, 9.5, 20.1) == 20.1 - 10.1
