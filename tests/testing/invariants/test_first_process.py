"""The check of the first process fails if it is thrown off its streams, or not told of the second one."""

import pytest

from raftkv_trio.testing.invariants import violation as named
from raftkv_trio.testing.invariants.first_process import MOMENT_S, TOLD_WITHIN_S, FirstProcessCheck
from raftkv_trio.testing.invariants.violation import Violation


def test_a_process_that_is_thrown_off_a_stream() -> None:
    """A moment in all is allowed for each member, and the streams to other members do not make up for it."""
    check = FirstProcessCheck(2, 10.0)
    check.check(11.0, {1: True, 3: True}, None)
    check.check(11.0 + MOMENT_S, {1: False, 3: True}, "two")
    check.check(13.0, {1: True, 3: True}, "two")
    with pytest.raises(Violation, match=f"^{named.FIRST_PROCESS}: node 2 is thrown off its stream to node 1"):
        check.check(13.5, {1: False, 3: True}, "two")


def test_a_process_that_is_not_told() -> None:
    """Members that something else keeps from it cannot tell it, nor can they be asked to."""
    check = FirstProcessCheck(2, 10.0)
    check.check(10.0 + TOLD_WITHIN_S, {1: True}, None)
    check.check(30.0, {}, None)
    check.check(30.0, {1: True}, "two")
    with pytest.raises(Violation, match=f"^{named.FIRST_PROCESS}: node 2 is not told"):
        check.check(30.0, {1: True}, None)
