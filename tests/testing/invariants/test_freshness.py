"""The check of freshness fails for a node that lacks what was acknowledged before the time that it names."""

import pytest

from raftkv_trio.testing.invariants import violation as named
from raftkv_trio.testing.invariants.freshness import FreshnessCheck
from raftkv_trio.testing.invariants.violation import Violation


def test_a_node_that_says_that_it_is_fresher_than_it_is() -> None:
    """Indexes need not be acknowledged in order; what counts is the highest one before the time."""
    check = FreshnessCheck()
    check.check(1, 10.0, 0)
    for now, index in ((1.0, 4), (2.0, 9), (3.0, 8), (4.0, 11)):
        check.acknowledged(now, index)
    for as_of, applied in ((None, 0), (1.0, 0), (1.5, 4), (4.0, 9), (4.5, 11)):
        check.check(1, as_of, applied)
    for as_of, applied in ((1.5, 3), (2.5, 8), (4.0, 8), (9.0, 10)):
        with pytest.raises(Violation, match=f"^{named.FRESHNESS}: node 1 has applied up to index {applied}"):
            check.check(1, as_of, applied)
