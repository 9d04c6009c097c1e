"""The log writer: makes entries, votes and snapshots durable. In etcd's raft this is the append thread.

It makes one disk call at a time, and each call takes everything that waits (group commit). The rest of the
node relies on one rule: messages are reported back to the driver in order, only after they are durable, and
never after a call has failed. Votes, append responses and the leader's own acknowledgement wait for that
report (paper, figure 2: "updated on stable storage before responding to RPCs").

An error of the disk ends the node. A failed fsync is not repeated: the kernel may have dropped the pages that
it could not write, and would report success the next time.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftkv_trio.node.measures import Histogram
from raftkv_trio.node.steps import Steps, in_event_loop, in_worker, run_steps, wait
from raftkv_trio.node.tracing import Tracer
from raftkv_trio.raft.types import Entry, HardState, Message
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker


class Append(NamedTuple):
    """Several STORAGE_APPENDs merged into one.

    Attributes:
        hard_state: the last one; None if none of the messages has one.
        snapshot: replaces the log before `entries` are appended; None if there is none.
        entries: ascending and without gaps.
    """

    hard_state: HardState | None
    snapshot: SnapshotId | None
    entries: Sequence[Entry]


class Taken(NamedTuple):
    """A snapshot that this node has taken, for the log to continue from.

    Attributes:
        recorded: called once the log does.
    """

    snapshot: SnapshotMeta
    recorded: Callable[[], None]


class Write(NamedTuple):
    """What one disk call makes durable.

    Attributes:
        messages: the STORAGE_APPENDs in it, oldest first.
        append: what they amount to.
        taken: a snapshot of this node's own that the log is to continue from then on.
    """

    messages: Sequence[Message]
    append: Append
    taken: Taken | None


class LogWriter:
    """Takes STORAGE_APPEND messages from the driver, and reports when they are durable.

    Raft's flow control bounds what waits here: on a leader the limit of uncommitted bytes, on a follower the
    bytes in flight.

    Attributes:
        writing_since: when the write under way began; None if there is none.
        writes: how long disk calls took.
        on_written: called with each write once it is durable; None: nobody follows.

    Args:
        worker: makes the disk calls.
        durable: called with messages that are durable.
        recorded: called with a snapshot that the log continues from now on.
        tracer: told of writes that begin, and of those that are durable.
    """

    def __init__(
        self,
        storage: NodeStorage,
        worker: Worker,
        clock: Clock,
        durable: Callable[[Sequence[Message]], None],
        recorded: Callable[[SnapshotMeta], None],
        tracer: Tracer,
    ) -> None:
        self.writes = Histogram()
        self.writing_since: float | None = None
        self.on_written: Callable[[Write], None] | None = None
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self._durable = durable
        self._recorded = recorded
        self._tracer = tracer
        self._waiting: list[Message] = []
        self._taken: Taken | None = None
        self._wakeup = Wakeup()

    @property
    def has_room(self) -> bool:
        """Whether the log can take entries; if not, its last room is kept for votes and hard states."""
        return self._storage.has_room

    def submit(self, message: Message) -> None:
        """Queue one STORAGE_APPEND; the driver calls it."""
        self._waiting.append(message)
        self._wakeup.set()

    def record(self, snapshot: SnapshotMeta, recorded: Callable[[], None]) -> None:
        """Have the log continue a snapshot that is whole on the disk; calls `recorded` once it does."""
        self._taken = Taken(snapshot, recorded)
        self._wakeup.set()

    async def run(self) -> None:
        """Write until cancelled; raises StorageError.

        Cancellation lets the disk call under way finish. What it has written is never acknowledged, as after
        a crash: a node may have more on its disk than it has promised.
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
                    # Only the commit index is new. It needs no fsync: it is volatile in the paper (figure 2),
                    # since a node that starts again learns it from the leader. The log keeps it in memory
                    # until the next record, so this call does not block.
                    yield from in_event_loop(self.write, write)
                self.written(write)

    def take(self) -> Write | None:
        """Take everything that waits, oldest first; None if nothing waits.

        The caller calls `write` and `written` with it before it takes the next one. A second snapshot waits
        for the next write: the state machine has to restore each one, in the order of the log.
        """
        if not self._waiting and self._taken is None:
            return None
        snapshots = [i for i, message in enumerate(self._waiting) if message.snapshot is not None]
        end = snapshots[1] if len(snapshots) > 1 else len(self._waiting)
        batch, self._waiting = self._waiting[:end], self._waiting[end:]
        taken, self._taken = self._taken, None
        self.writing_since = self._clock.now()
        write = Write(batch, merge_appends(batch), taken)
        if self._tracer.is_on and write.append.entries:
            self._tracer.reached("write-begun", write.append.entries[-1].index)
        return write

    def must_write(self, write: Write) -> bool:
        """Whether `write` of this one calls the disk; if not, it does not block."""
        append = write.append
        return (
            write.taken is not None
            or append.snapshot is not None
            or self._storage.must_write(append.hard_state, append.entries)
        )

    def write(self, write: Write) -> None:
        """Make a write durable; may block. Raises StorageError, CorruptLog."""
        hard_state, snapshot, entries = write.append
        if snapshot is not None:
            # A leader's snapshot replaces the whole log, in one record with the hard state: after a crash the
            # node has the old log or the new one, with the vote that belongs to it.
            self._storage.install(hard_state, snapshot, entries)
        elif hard_state is not None or entries:
            self._storage.append(hard_state, entries)
        if write.taken is not None:
            # The snapshot's file is whole and durable since before it was queued here. From this record on a
            # start may rely on it, and the entries that it covers may be removed; not earlier.
            self._storage.continue_from(write.taken.snapshot)

    def written(self, write: Write) -> None:
        """Report a write that is durable."""
        self.writing_since = None
        if self._tracer.is_on and write.append.entries:
            self._tracer.reached("durable", write.append.entries[-1].index)
        if write.messages:
            self._durable(write.messages)
        if write.taken is not None:
            self._recorded(write.taken.snapshot)
            write.taken.recorded()
        if self.on_written is not None:
            self.on_written(write)


def merge_appends(batch: Sequence[Message]) -> Append:
    """Merge messages, in order, into one write that leaves the disk as they would one after the other."""
    hard_state: HardState | None = None
    snapshot: SnapshotId | None = None
    entries: list[Entry] = []
    for message in batch:
        if message.term:
            hard_state = HardState(message.term, message.vote, message.commit)
        if message.snapshot is not None:
            snapshot = SnapshotId(message.snapshot.term, message.snapshot.index)
            entries.clear()  # the snapshot replaces the whole log
        if message.entries:
            # A new leader's entries replace an older leader's from their first index on (paper, section 5.3).
            # The older message's responses are still sent, for entries that were never on this disk. That is
            # safe. The new leader lacks these entries, so no node of the quorum that elected it had them when
            # it voted (section 5.4.1); and none of these nodes acknowledges them later, since all have left
            # that term. Without any of these nodes the old leader has no quorum to commit with.
            if entries and message.entries[0].index <= entries[-1].index:
                keep = max(0, message.entries[0].index - entries[0].index)
                del entries[keep:]
            entries.extend(message.entries)
    return Append(hard_state, snapshot, entries)
