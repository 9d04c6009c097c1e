"""Trio's scheduler made to do the same again: the only file that touches what is private in Trio.

Trio runs the tasks of a batch in an order that it draws at random. It has a switch, made for Hypothesis, that
sorts them first and so makes the order depend on its random numbers alone; here it is thrown, and they are
seeded, while a `with` block lasts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from trio._core import _run

_SWITCH, _RANDOM = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"


@contextmanager
def deterministic_scheduling(seed: str) -> Iterator[None]:
    """Let every Trio run of this thread's schedule its tasks in the same order for the same seed.

    Raises RuntimeError where Trio has changed what this depends on.
    """
    scheduler: Any = _run
    if not isinstance(getattr(scheduler, _SWITCH, None), bool) or not isinstance(
        getattr(scheduler, _RANDOM, None), Random
    ):
        raise RuntimeError(
            f"this version of Trio has no switch {_SWITCH} with random numbers {_RANDOM} in trio._core._run:"
            " level 2 of the simulator needs another way to schedule deterministically"
        )
    random: Random = getattr(scheduler, _RANDOM)
    switch, state = getattr(scheduler, _SWITCH), random.getstate()
    setattr(scheduler, _SWITCH, True)
    random.seed(seed)
    try:
        yield
    finally:
        setattr(scheduler, _SWITCH, switch)
        random.setstate(state)
