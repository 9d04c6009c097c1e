"""Compactions of the store's history: one that a client asks for, and those that happen by themselves.

A compaction is carried out when its log entry is applied, between heartbeats, on every node. So a large one
is made in steps: each is an entry that passes so few changes of keys that it takes about ten milliseconds.
One revision is never divided, though a txn or a delete of a range may have changed many keys.
"""

import logging
from collections import deque
from typing import NoReturn

from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.config import CompactionConfig
from raftkv_trio.errors import OutcomeUnknown, ProposalError
from raftkv_trio.kv import HISTORY_LEVEL, SERVER, Actor, Compact, CompactResult, encode_command
from raftkv_trio.world import Clock, TrioClock

logger = logging.getLogger(__name__)

STEP_CHANGES = 1000
CHECK_INTERVAL_S = 1.0
#: By so much, at least, the history is longer than it should be before it is compacted: each compaction is an
#: entry of the log.
SLACK_REVISIONS = 1000


async def compact(replicated: ReplicatedStore, revision: int, actor: Actor | None = None) -> object:
    """Compact the history up to a revision, and return the store's result of the last step.

    The earlier steps may have been carried out if that is a failure.

    Args:
        actor: on whose behalf; None: nobody's, which is refused while authentication is enabled.

    Raises ProposalError; OutcomeUnknown, whatever the reason, once a step was carried out. Cancellation gives
    the step up that is under way; it may or may not be carried out.
    """
    store = replicated.store
    has_begun = False
    await replicated.wait_readable()  # a node that lags would begin too low
    while True:
        step = min(revision, store.compaction_step(STEP_CHANGES))
        if step <= store.compacted_revision or revision > store.revision:
            step = revision  # the store refuses it, and its result says why
        try:
            result = (await replicated.write(encode_command(Compact(step), actor))).result
        except ProposalError as error:
            if has_begun and not isinstance(error, OutcomeUnknown):
                raise OutcomeUnknown(f"only a part of the history was compacted: {error}") from error
            raise
        if step == revision or not isinstance(result, CompactResult):
            return result
        has_begun = True


class Retention:
    """Decides up to which revision the history may be compacted now.

    Args:
        config: what is to be kept.
    """

    def __init__(self, config: CompactionConfig) -> None:
        self._config = config
        self._seen: deque[tuple[float, int]] = deque()  # times, ascending, and the revision at that time

    def seen(self, now_s: float, revision: int) -> None:
        """The store is at this revision now; called in regular intervals, on every node."""
        retention_s = self._config.retention_s
        if retention_s is None:
            return
        # A tenth of the retention is exact enough, and bounds what is kept here.
        if not self._seen or now_s >= self._seen[-1][0] + retention_s / 10:
            self._seen.append((now_s, revision))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - retention_s:
            self._seen.popleft()

    def due(self, now_s: float, compacted: int, revision: int, history_bytes: int) -> int | None:
        """Up to which revision to compact; None if there is nothing to do."""
        goal = compacted
        config = self._config
        if config.retention_revisions is not None:
            goal = max(goal, revision - config.retention_revisions)
        if config.retention_s is not None and self._seen and self._seen[0][0] <= now_s - config.retention_s:
            goal = max(goal, self._seen[0][1])
        if config.max_history_bytes and history_bytes > config.max_history_bytes:
            # Which revisions hold the most is not known; each time it is half of them.
            return max(goal, compacted + (revision - compacted + 1) // 2)
        slack = SLACK_REVISIONS if config.retention_revisions is not None else 0
        return goal if goal > compacted + slack else None


async def keep_compacting(
    replicated: ReplicatedStore, config: CompactionConfig, clock: Clock | None = None
) -> NoReturn:
    """Compact the history as the configuration says, as long as this node leads; until cancelled.

    All nodes run this, and see the revisions go by, so that each can go on if it becomes the leader.
    Cancellation may leave a compaction half done, which is a smaller compaction.
    """
    clock = clock or TrioClock()
    retention = Retention(config)
    node, store = replicated.node, replicated.store
    while True:
        await clock.sleep_until(clock.now() + CHECK_INTERVAL_S)
        if node.is_restoring:
            continue
        now_s = clock.now()
        retention.seen(now_s, store.revision)
        if not node.is_leader or store.level < HISTORY_LEVEL:
            continue
        goal = retention.due(now_s, store.compacted_revision, store.revision, store.history_bytes)
        if goal is not None:
            try:
                await compact(replicated, goal, SERVER if store.auth.is_enabled else None)
            except ProposalError as error:
                logger.debug("the history was not compacted: %s", error)  # the next round tries again
