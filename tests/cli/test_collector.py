"""The garbage collector of a process that serves."""

import gc
from collections.abc import Iterator

import pytest

from raftkv_trio.cli.collector import collect_less_often


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_the_objects_of_a_busy_node_are_not_looked_through() -> None:
    """As many as are under way at a time begin no collection; cycles are freed all the same."""
    collect_less_often()
    gc.collect()
    before = [generation["collections"] for generation in gc.get_stats()]
    under_way: list[list[object]] = [[] for _ in range(20_000)]
    assert [generation["collections"] for generation in gc.get_stats()] == before
    del under_way
    for _ in range(60_000):
        cycle: list[object] = []
        cycle.append(cycle)
    assert gc.get_stats()[0]["collections"] > before[0]
