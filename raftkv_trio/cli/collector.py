"""How often Python's garbage collector looks for cycles in a process that does nothing but serve."""

import gc

#: By generation, as `gc.set_threshold` has them; Python's own first one is 700.
THRESHOLDS = (25_000, 20, 100)


def collect_less_often() -> None:
    """Let more objects be made between two collections.

    A busy node has thousands of entries, proposals and requests under way, none of them in a cycle, and the
    collector would look through them some hundred times a second: a tenth of the time of a PUT. What is in
    cycles, such as the frames of an exception, waits longer to be freed, which costs some megabytes at most.
    But nothing else runs while it looks: so many objects take it up to 8 ms.
    """
    gc.set_threshold(*THRESHOLDS)
