"""A simulated node's clock: whoever waits for a moment reaches it."""

from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.testing.simulator.simulated_member import MemberClock
from raftkv_trio.testing.world.timeline import Timeline

seconds = st.floats(min_value=0.0, max_value=1000.0)
rates = st.floats(min_value=0.5, max_value=2.0)


@given(begun_at=seconds, first_rate=rates, changed_after=seconds, rate=rates, wait_s=seconds)
def test_a_wait_reaches_its_deadline(
    begun_at: float, first_rate: float, changed_after: float, rate: float, wait_s: float
) -> None:
    """However the sums are rounded, and whatever the rate, the deadline is reached, and after few waits."""
    timeline = Timeline()
    timeline.run_until(begun_at)
    clock = MemberClock(timeline)
    clock.set_rate(first_rate)
    timeline.run_until(timeline.now + changed_after)
    clock.set_rate(rate)
    deadline = clock.now() + wait_s
    waits = 0
    while left_s := clock.virtual_s_until(deadline):
        timeline.run_until(timeline.now + left_s)
        waits += 1
        assert waits < 4
    assert clock.now() >= deadline
