"""The log writer: plays etcd's AppendThread. One disk call at a time, everything that waits in each.

What it owes the driver: the messages of a disk call are handed back, in order, only once that call's bytes
are durable, and never after a call failed. An error of the disk ends the node.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftkv_trio.node.measures import Histogram
from raftkv_trio.node.steps import Steps, in_event_loop, in_worker, run_steps, wait
from raftkv_trio.raft.types import Entry, HardState, Message
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker


class Append(NamedTuple):
    """What several STORAGE_APPENDs come to: a hard state, a snapshot that replaces the log, and entries."""

    hard_state: HardState | None
    snapshot: SnapshotId | None
    entries: Sequence[Entry]


class Taken(NamedTuple):
    """A snapshot of this node's own that the log is to continue, and what to call once it does."""

    snapshot: SnapshotMeta
    recorded: Callable[[], None]


class Write(NamedTuple):
    """One turn of the log writer.

    Attributes:
        messages: the STORAGE_APPENDs that it makes durable.
        taken: a snapshot of this node's own that the log is to continue from then on.
    """

    messages: Sequence[Message]
    append: Append
    taken: Taken | None


class LogWriter:
    """Takes STORAGE_APPEND messages from the driver, and tells it when they are durable.

    What waits here is bounded by Raft's own flow control: by the uncommitted limit on the leader, by the
    bytes in flight on a follower.

    Attributes:
        writing_since: when the disk call under way began; None if there is none.
        on_written: called with each write that is durable now; None: nobody follows.

    Args:
        durable: told the messages that are durable.
        recorded: told a snapshot that the log continues now.
    """

    def __init__(
        self,
        storage: NodeStorage,
        worker: Worker,
        clock: Clock,
        durable: Callable[[Sequence[Message]], None],
        recorded: Callable[[SnapshotMeta], None],
    ) -> None:
        self.writes = Histogram()
        self.writing_since: float | None = None
        self.on_written: Callable[[Write], None] | None = None
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._durable = durable
        self._recorded = recorded
        self._waiting: list[Message] = []
        self._taken: Taken | None = None
        self._wakeup = Wakeup()

    @property
    def has_room(self) -> bool:
        """Whether the log can take entries, or keeps what room it has for votes and hard states."""
        return self._storage.has_room

    def submit(self, message: Message) -> None:
        """Queue one STORAGE_APPEND; called by the driver."""
        self._waiting.append(message)
        self._wakeup.set()

    def record(self, snapshot: SnapshotMeta, recorded: Callable[[], None]) -> None:
        """Have the log continue a snapshot that is whole on the disk; calls `recorded` once it does."""
        self._taken = Taken(snapshot, recorded)
        self._wakeup.set()

    async def run(self) -> None:
        """Write until cancelled; raises StorageError.

        Cancellation lets the disk call under way finish; what it wrote is then simply never acknowledged.
        """
        await run_steps(self.steps(), self._worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises StorageError."""
        while True:
            yield from wait(self._wakeup)
            while (write := self.take()) is not None:
                if self.must_write(write):
                    yield from in_worker(self.write, write)
                    assert self.writing_since is not None
                    self.writes.observe(self._clock.now() - self.writing_since)
                else:
                    # The log keeps most commit indexes in memory only, so no thread is needed.
                    yield from in_event_loop(self.write, write)
                self.written(write)

    def take(self) -> Write | None:
        """All that waits, oldest first; the caller's to write, and to say so, before the next is taken.

        A second snapshot waits for its own turn, so that the driver can have each one restored.
        """
        if not self._waiting and self._taken is None:
            return None
        snapshots = [i for i, message in enumerate(self._waiting) if message.snapshot is not None]
        end = snapshots[1] if len(snapshots) > 1 else len(self._waiting)
        batch, self._waiting = self._waiting[:end], self._waiting[end:]
        taken, self._taken = self._taken, None
        self.writing_since = self._clock.now()
        return Write(batch, merge_appends(batch), taken)

    def must_write(self, write: Write) -> bool:
        """Whether `write` goes to the disk; else it returns at once."""
        append = write.append
        return (
            write.taken is not None
            or append.snapshot is not None
            or self._storage.must_write(append.hard_state, append.entries)
        )

    def write(self, write: Write) -> None:
        """Make all of it durable. Raises StorageError."""
        hard_state, snapshot, entries = write.append
        if snapshot is not None:
            self._storage.install(hard_state, snapshot, entries)
        elif hard_state is not None or entries:
            self._storage.append(hard_state, entries)
        if write.taken is not None:
            self._storage.continue_from(write.taken.snapshot)

    def written(self, write: Write) -> None:
        """Tell what is durable now."""
        self.writing_since = None
        if write.messages:
            self._durable(write.messages)
        if write.taken is not None:
            self._recorded(write.taken.snapshot)
            write.taken.recorded()
        if self.on_written is not None:
            self.on_written(write)


def merge_appends(batch: Sequence[Message]) -> Append:
    """The last hard state, and the entries as they stand after all of `batch` in order.

    A later message may begin at or before what an earlier one holds: a new leader's entries replace the
    old one's from there on (paper, section 5.3). The earlier one's responses then speak of entries that were
    never on disk. That is safe: whoever gets them counts them for a term that this node had left before it
    took the replacement, and no quorum can be made of such nodes. A snapshot replaces all that was before it.
    """
    hard_state: HardState | None = None
    snapshot: SnapshotId | None = None
    entries: list[Entry] = []
    for message in batch:
        if message.term:
            hard_state = HardState(message.term, message.vote, message.commit)
        if message.snapshot is not None:
            snapshot = SnapshotId(message.snapshot.term, message.snapshot.index)
            entries.clear()
        if message.entries:
            if entries and message.entries[0].index <= entries[-1].index:
                keep = max(0, message.entries[0].index - entries[0].index)
                del entries[keep:]
            entries.extend(message.entries)
    return Append(hard_state, snapshot, entries)
