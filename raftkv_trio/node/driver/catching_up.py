"""Members that lag behind: how much of the log is kept for them, and how fast writers may go on meanwhile.

A member that lacks entries which the leader has compacted is sent a snapshot. Sending and restoring it takes
time, in which writers go on. If the log behind that snapshot is compacted before the member has restored it,
the member needs the next snapshot, and so on for ever. So the leader

- keeps the entries that a lagging member still needs, up to `max_bytes`: also those behind a snapshot on its
  way, as etcd does;
- has a new snapshot taken if the newest one ends before the first entry in memory, so that the log does not
  continue it: snapshots of a large state are far apart, and memory keeps only the newest part of the log
  between them;
- slows writers before a voter needs more than that. The rate falls with the room that is left, and never
  below what fills all of `max_bytes` in `LEAST_RATE_S`: a voter that never comes back must not stop all
  writes.

Only members that respond count: one that is down would cost memory, and slow writers, for nothing. But a
member that was sent a snapshot may be silent for a moment.

Writers are slowed only for a voter that makes progress: it acknowledges new entries, or a snapshot is on its
way to it or being restored. A voter whose disk is full or hangs answers heartbeats, and does not catch up
however slow writers are.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.status import ProgressStatus
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import Entry
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

#: What an entry costs in memory beside its data, about.
ENTRY_OVERHEAD_BYTES = 100
#: Writers are slowed to a rate that fills the room that is left in this time,
FILL_S = 30.0
#: and never below the rate that fills all of `max_bytes` in this time.
LEAST_RATE_S = 600.0
#: How long a forwarded command waits for its turn at that rate, about. It is well below a client's patience
#: (`--request-timeout`): a command whose client has given up is appended for nothing.
MAX_WAIT_S = 1.0
WARNING_INTERVAL_S = 60.0
#: Writers are slowed for a voter that has acknowledged something new in this time. It is long enough for the
#: largest append, at the least rate.
LATELY_S = 10.0
#: How long a member that has a snapshot, and has not acknowledged it, may be silent (as in etcd).
SILENT_S = 30.0


class CatchingUp:
    """What the members that lag still need, and what proposals may be appended meanwhile.

    Args:
        log: the durable log, as the core reads it.
        request_snapshot: has a snapshot taken of everything that is applied now.
        max_bytes: how much of the log is kept, at most, for members that lag.
        tick_interval_s: between two calls of `tick`.
    """

    def __init__(
        self,
        raw: RawNode,
        log: MemoryStorage,
        active: ActiveMembers,
        clock: Clock,
        request_snapshot: Callable[[], None],
        *,
        max_bytes: int,
        tick_interval_s: float,
    ) -> None:
        self._raw = raw
        self._log = log
        self._active = active
        self._clock = clock
        self._request_snapshot = request_snapshot
        self._max_bytes = max_bytes
        self._tick_interval_s = tick_interval_s
        self._span = _Span(log)
        self._budget_bytes: float | None = None  # None: writers are not slowed
        self._rate = math.inf  # in bytes a second, if writers are slowed
        self._slowest = 0
        self._snapshots: dict[int, int] = {}  # by member: the index of one on its way, or being restored
        self._warned_at: float | None = None

    # ------------------------------------------------------------ the log

    def keep_from(self, index: int) -> int:
        """The first entry to keep, at most `index`, from where on the log is kept in any case."""
        members = self._raw.status().progress
        self._note_snapshots(members)
        needs = [
            _needed_from(progress)
            for member, progress in members.items()
            if self._is_waited_for(member, progress)
        ]
        first, behind_snapshot = self._log.first_index(), self._log.newest_snapshot.index + 1
        # One that lacks what is dropped already is sent the newest snapshot, and needs what is behind that.
        needs = [i if i >= first else behind_snapshot for i in needs]
        needed = min([i for i in needs if i >= first], default=index)
        if needed >= index:
            return index
        size = 0
        entries = self._log.entries(needed, self._log.last_index() + 1, None)
        for entry in reversed(entries):
            size += _size_of(entry)
            if size > self._max_bytes:
                return min(index, entry.index + 1)
        return needed

    def _is_waited_for(self, member: int, progress: ProgressStatus) -> bool:
        """Whether the log is kept for this member."""
        # Until the transfer has ended or failed, and the core with it, nothing else is known of the member.
        if progress.pending_snapshot is not None or self._active.responds(member):
            return member != self._raw.id
        return member in self._snapshots and self._active.responded_within(member, SILENT_S)

    # ------------------------------------------------------------ the writers

    @property
    def slowed_because(self) -> str | None:
        """Why writers are slowed, as the end of a sentence; None if they are not."""
        if self._budget_bytes is None:
            return None
        return f"the leader slows writers until node {self._slowest} has caught up"

    def tick(self) -> None:
        """Look how far the slowest voter is behind, and how much may be appended until the next tick."""
        members = self._raw.status().progress
        self._note_snapshots(members)
        first = self._log.first_index()
        self._request_snapshot_if_needed(members, first)
        # What is needed from before the first entry comes by a snapshot: the log does not matter to it.
        lagging = [
            (_needed_from(progress), member)
            for member, progress in members.items()
            if member != self._raw.id
            and not progress.is_learner
            and self._makes_progress(member)
            and _needed_from(progress) >= first
        ]
        needed, self._slowest = min(lagging, default=(self._log.last_index() + 1, 0))
        behind_bytes = self._span.size_from(needed)
        if behind_bytes <= self._max_bytes / 2:
            self._budget_bytes = None
            return
        self._rate = max((self._max_bytes - behind_bytes) / FILL_S, self._max_bytes / LEAST_RATE_S)
        a_tick = self._rate * self._tick_interval_s
        self._budget_bytes = min((self._budget_bytes or 0) + a_tick, a_tick)
        now = self._clock.now()
        if self._warned_at is None or now - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = now
            logger.warning(
                "slowing writers to %.0f kB/s until node %d, which lacks %.0f MB of the log, has caught up",
                self._rate / 1e3,
                self._slowest,
                behind_bytes / 1e6,
            )

    def _request_snapshot_if_needed(self, members: Mapping[int, ProgressStatus], first: int) -> None:
        # Looked at in each tick, and not when the core finds it out: without room there is no snapshot now.
        # For one that does not respond nothing is sent, so that it costs nothing either.
        if self._log.newest_snapshot.index + 1 < first and any(
            progress.next < first and progress.pending_snapshot is None and self._active.responds(member)
            for member, progress in members.items()
        ):
            self._request_snapshot()

    def _note_snapshots(self, members: Mapping[int, ProgressStatus]) -> None:
        """Note which members have been sent a snapshot, and have not acknowledged it."""
        noted = {}
        for member, progress in members.items():
            index = progress.pending_snapshot or self._snapshots.get(member, 0)
            # When the snapshot has arrived, a probe begins behind it. That alone would not show it: of each
            # member that a new leader has not heard of yet, it believes that it lacks nothing.
            if progress.match < index == progress.next - 1:
                noted[member] = index
        self._snapshots = noted

    def _makes_progress(self, member: int) -> bool:
        """Whether slower writers would help this member to catch up."""
        if not self._active.responds(member):
            return False
        return member in self._snapshots or self._active.acknowledged_within(member, LATELY_S)

    @property
    def room_bytes(self) -> float:
        """How much may be appended now: infinite if writers are not slowed, 0 or less if all must wait."""
        return math.inf if self._budget_bytes is None else self._budget_bytes

    @property
    def max_waiting_bytes(self) -> float:
        """How much may wait to be appended: what the present rate admits in `MAX_WAIT_S`."""
        return self._rate * MAX_WAIT_S

    def admitted(self, commands: Iterable[bytes]) -> int:
        """How many of these commands, from the first on, may be appended now; looks at no further ones."""
        room = self.room_bytes
        count = 0
        # A command of any size is admitted if there is room at all; later ones wait for it.
        for command in commands:
            if room <= 0:
                break
            room -= cost_of(command)
            count += 1
        return count

    def appended(self, commands: Iterable[bytes]) -> None:
        """Count these commands: they are in the log."""
        if self._budget_bytes is not None:
            self._budget_bytes -= sum(map(cost_of, commands))


def cost_of(command: bytes) -> int:
    """About how many bytes a command takes in the log."""
    return len(command) + ENTRY_OVERHEAD_BYTES


class _Span:
    """The size of the log from an index to its end, counted as both ends move."""

    def __init__(self, log: MemoryStorage) -> None:
        self._log = log
        self._from = self._end = 1
        self._bytes = 0

    def size_from(self, index: int) -> int:
        """The size of the entries from `index` on, which is in the log or behind its end."""
        end = self._log.last_index() + 1
        # Back, as for another member, or after another leader has cut the log, or ahead of all that was
        # counted, some of which may be compacted by now: count anew.
        is_back = index < self._from or end < self._end
        if is_back or index >= self._end or self._from < self._log.first_index():
            self._from = self._end = index
            self._bytes = 0
        self._bytes += self._count(self._end, end)
        self._bytes -= self._count(self._from, index)
        self._from, self._end = index, end
        return self._bytes

    def _count(self, low: int, high: int) -> int:
        return sum(map(_size_of, self._log.entries(low, high, None))) if low < high else 0


def _needed_from(progress: ProgressStatus) -> int:
    if progress.pending_snapshot is not None:
        return progress.pending_snapshot + 1
    # A probe begins behind the snapshot that the member may still be restoring, and has not acknowledged.
    return progress.next if progress.state is ProgressState.PROBE else progress.match + 1


def _size_of(entry: Entry) -> int:
    return len(entry.data) + ENTRY_OVERHEAD_BYTES
