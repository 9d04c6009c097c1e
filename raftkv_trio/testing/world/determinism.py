"""Makes Trio's scheduler deterministic: the only file that touches private parts of Trio.

Trio runs the tasks of a batch in random order. It has a switch, made for Hypothesis, that sorts the tasks
first, so that the order depends on its random numbers alone. While a `with` block lasts, this module turns
the switch on and seeds the random numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from trio._core import _run

_SWITCH, _RANDOM = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"


@contextmanager
def deterministic_scheduling(seed: str) -> Iterator[None]:
    """Make every Trio run in this thread schedule its tasks in an order given by `seed`.

    Raises RuntimeError if Trio no longer has the switch.
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
