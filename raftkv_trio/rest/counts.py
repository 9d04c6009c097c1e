"""What the REST app counts of its requests, in no format."""

from collections import Counter

from raftkv_trio.rest.exchange import METHODS


class Requests:
    """How many requests were answered, by method, route and status."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def answered(self, method: str, route: str, status: int) -> None:
        """Count one; `route` is of a fixed set."""
        self.counts[method if method in METHODS else "other", route, int(status)] += 1

    def refused(self, status: int) -> None:
        """Count what was refused before it was a request, or was one too many."""
        self.counts["none", "none", int(status)] += 1
