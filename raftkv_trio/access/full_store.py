"""The log's lines about a store that has reached its quota: one when that begins, one when it ends.

Clients are told with each put that is refused. Operators look at the log of a node, which must not have a
line for each request.
"""

import logging
from collections.abc import Callable

from raftkv_trio.kv import OverQuota

logger = logging.getLogger(__name__)

#: The least time from one beginning to the next one that is logged.
INTERVAL_S = 60.0


class FullStoreLog:
    """Follows whether puts of this node's clients are refused because of the quota.

    It begins with a put that is refused. It ends when the largest put would find room, or a tenth of the
    quota is free: while the store is nearly full a small put may succeed where a larger one does not, so a
    success alone ends nothing. Clients may still make it begin and end as often as they like; hence the
    interval.

    Args:
        quota_bytes: of this node; 0: it has none.
        largest_put_bytes: key and value together.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, quota_bytes: int, largest_put_bytes: int, now: Callable[[], float]) -> None:
        self._room_bytes = min(largest_put_bytes, quota_bytes // 10)
        self._quota_bytes = quota_bytes
        self._now = now
        self._quiet_until: float | None = None
        self.is_full = False

    def refused(self, result: OverQuota) -> None:
        """The store has refused a put."""
        now = self._now()
        if self.is_full or (self._quiet_until is not None and now < self._quiet_until):
            return
        self.is_full, self._quiet_until = True, now + INTERVAL_S
        logger.warning(
            "the store is full: puts are refused (507); it holds %d bytes of keys and values, and its quota"
            " is %d; delete keys, or raise the quota on all members (`raftkv-trio serve --quota-bytes`)",
            result.size_bytes,
            result.quota_bytes,
        )

    def written(self, size_bytes: int) -> None:
        """A write has left the store with these bytes of keys and values."""
        if self.is_full and size_bytes <= self._quota_bytes - self._room_bytes:
            self.is_full = False
            logger.info("the store has room again: it holds %d bytes of keys and values", size_bytes)
