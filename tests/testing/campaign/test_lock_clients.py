"""Simulated clients that queue for a lock find a second holder."""

import pytest

from raftkv_trio.testing.campaign.lock_clients import Claim, check_claim
from raftkv_trio.testing.invariants.violation import LOCKS, Violation


@pytest.mark.parametrize(
    ("holds", "queue", "is_right"),
    [
        (True, {101: 5, 102: 6}, True),
        (True, {101: 5, 102: 4}, False),  # another one is before it
        (True, {102: 6}, False),  # its key is gone
        (True, {101: 7}, False),  # its key is another one
        (False, {102: 6}, True),
        (False, {101: 7}, True),
        (False, {101: 5}, False),  # its key is there
    ],
)
def test_a_claim_is_compared_with_the_queue(holds: bool, queue: dict[int, int], is_right: bool) -> None:
    """Who holds the lock has the oldest key, and who queues no more has none."""
    claim = Claim("client", 101, 5, holds, 9)
    if is_right:
        check_claim(claim, queue)
        return
    with pytest.raises(Violation) as raised:
        check_claim(claim, queue)
    assert raised.value.invariant == LOCKS
