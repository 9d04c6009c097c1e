"""Histograms, and times of round trips."""

from raftkv_trio.node.measures import BOUNDS_S, Histogram, RoundTrips


def test_buckets() -> None:
    """A duration counts in the first bucket that it does not exceed; one beyond all bounds in the last."""
    histogram = Histogram()
    taken = [0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, BOUNDS_S[-1], BOUNDS_S[-1] * 2]
    for duration_s in taken:
        histogram.observe(duration_s)
    durations = histogram.durations()
    assert durations.counts == (2, 1, *[0] * (len(BOUNDS_S) - 3), 1, 1)
    assert durations.total_s == sum(taken)


def test_a_snapshot_stays() -> None:
    """What was read does not change with what comes after."""
    histogram = Histogram()
    before = histogram.durations()
    histogram.observe(1)
    assert sum(before.counts) == 0 < sum(histogram.durations().counts)


def test_round_trips() -> None:
    """An append is timed to the first word about its last index; appends in between are not."""
    trips = RoundTrips()
    trips.sent(2, 10, 1.0)
    trips.sent(2, 11, 2.0)
    trips.sent(3, 11, 2.0)
    trips.durable(2, 9, 3.0)
    trips.durable(2, 11, 4.0)
    trips.durable(2, 11, 5.0)
    assert (trips.durations(2).total_s, sum(trips.durations(2).counts)) == (3.0, 1)
    trips.sent(2, 12, 6.0)
    trips.durable(2, 12, 6.5)
    trips.durable(3, 11, 2.5)
    assert (trips.durations(2).total_s, sum(trips.durations(2).counts)) == (3.5, 2)
    assert trips.durations(3).total_s == 0.5


def test_forgotten_round_trips() -> None:
    """What was under way when the leader changed is never timed."""
    trips = RoundTrips()
    trips.sent(2, 10, 1.0)
    trips.forget()
    trips.durable(2, 10, 9.0)
    assert sum(trips.durations(2).counts) == 0
