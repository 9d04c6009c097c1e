"""Planted bugs fit the code: what each replaces exists. `tox -e long` searches for all of them."""

import pytest

from raftkv_trio.testing.planted import PLANTED


@pytest.mark.parametrize("name", PLANTED)
def test_a_bug_can_be_planted(name: str) -> None:
    """What it replaces is there, and is back afterwards, so that it can be planted again."""
    for _ in range(2):
        with PLANTED[name].plant():
            pass
