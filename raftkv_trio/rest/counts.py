"""What the REST app counts of its requests; `operators/metrics.py` gives the counts their form."""

from collections import Counter

from raftkv_trio.rest.responses import METHODS


class RequestCounts:
    """How many requests were answered, by method, route and status."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def answered(self, method: str, route: str, status: int) -> None:
        """Count one answered request; `route` comes from a fixed set, as it becomes a label."""
        self.counts[method if method in METHODS else "other", route, int(status)] += 1

    def refused(self, status: int) -> None:
        """Count a refusal without a request: malformed bytes, or a connection over the limit."""
        self.counts["none", "none", int(status)] += 1
