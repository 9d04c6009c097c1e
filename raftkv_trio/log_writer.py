"""The log writer: plays etcd's AppendThread. One disk call at a time, everything that waits in each.

What it owes the driver: the messages of a disk call are handed back, in order, only once that call's bytes
are durable, and never after a call failed. An error of the disk ends the node.
"""

from collections.abc import Callable, Sequence

from raftkv_trio.lanes import Bell
from raftkv_trio.measures import Histogram
from raftkv_trio.ports import Clock, Worker
from raftkv_trio.raft.types import Entry, HardState, Message
from raftkv_trio.storage import NodeStorage


class LogWriter:
    """Takes STORAGE_APPEND messages from the driver, and tells it when they are durable.

    What waits here is bounded by Raft's own flow control: by the uncommitted limit on the leader, by the
    bytes in flight on a follower.
    """

    def __init__(
        self, storage: NodeStorage, worker: Worker, clock: Clock, durable: Callable[[Sequence[Message]], None]
    ) -> None:
        self.writes = Histogram()
        self._storage = storage
        self._worker = worker
        self._clock = clock
        self.durable = durable
        self._waiting: list[Message] = []
        self._bell = Bell()

    def submit(self, message: Message) -> None:
        """Queue one STORAGE_APPEND; called by the driver."""
        self._waiting.append(message)
        self._bell.ring()

    async def run(self) -> None:
        """Write until cancelled; raises StorageError.

        Cancellation lets the disk call under way finish; what it wrote is then simply never acknowledged.
        """
        while True:
            await self._bell.wait()
            batch = self.take()
            hard_state, entries = merge_appends(batch)
            if self._storage.must_write(hard_state, entries):
                begun_at = self._clock.now()
                await self._worker.run(lambda h=hard_state, e=entries: self.write(h, e))  # type: ignore[misc]
                self.writes.observe(self._clock.now() - begun_at)
            elif hard_state is not None:
                self.write(hard_state, entries)  # at once: the log keeps a commit index in mind only
            self.durable(batch)

    def take(self) -> list[Message]:
        """All that waits, oldest first; the caller's to write, and to say so, before the next is taken."""
        batch, self._waiting = self._waiting, []
        return batch

    def write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Append what `merge_appends` made of a batch; durable when this returns. Raises StorageError."""
        self._storage.append(hard_state, entries)


def merge_appends(batch: Sequence[Message]) -> tuple[HardState | None, list[Entry]]:
    """The last hard state, and the entries as they stand after all of `batch` in order.

    A later message may begin at or before what an earlier one holds: a new leader's entries replace the
    old one's from there on (paper, section 5.3). The earlier one's responses then speak of entries that were
    never on disk. That is safe: whoever gets them counts them for a term that this node had left before it
    took the replacement, and no quorum can be made of such nodes.
    """
    hard_state: HardState | None = None
    entries: list[Entry] = []
    for message in batch:
        if message.term:
            hard_state = HardState(message.term, message.vote, message.commit)
        if message.entries:
            if entries and message.entries[0].index <= entries[-1].index:
                keep = max(0, message.entries[0].index - entries[0].index)
                del entries[keep:]
            entries.extend(message.entries)
    return hard_state, entries
