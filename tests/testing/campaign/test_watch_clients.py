"""Simulated clients that watch find what a watch must not tell."""

import pytest

from raftkv_trio.testing.campaign.campaign import run_seed
from raftkv_trio.testing.invariants.violation import WATCHES
from raftkv_trio.testing.planted import PLANTED

#: Its clients watch, begin in the past, and move between members.
SEED = 1


@pytest.mark.parametrize("bug", [None, "watch-begins-now", "watch-before-commit"])
def test_what_watches_tell_is_compared_with_the_log(bug: str | None) -> None:
    """A seed is all right as the program is, and not with a bug."""
    if bug is None:
        assert run_seed(1, SEED).failure is None
        return
    with PLANTED[bug].plant():
        assert run_seed(1, SEED).failure == WATCHES
