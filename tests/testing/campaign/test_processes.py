"""The processes that run seeds end with the run."""

import multiprocessing
import time

from raftkv_trio.testing.campaign.campaign import _in_processes

LONG_S = 600.0


def test_processes_end_at_once_when_the_run_is_given_up() -> None:
    """Though each of them runs a seed that takes long, and more are handed out already."""
    begun_at = time.monotonic()
    results = _in_processes(time.sleep, [0.0, *[LONG_S] * 20], 2, renewed=False)
    assert next(results) is None
    assert multiprocessing.active_children()
    results.close()
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun_at < LONG_S / 2
