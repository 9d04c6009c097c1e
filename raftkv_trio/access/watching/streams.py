"""The watchers of one client, and what waits for that client: a queue that is bounded in bytes."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftkv_trio.access.watching.telling import Encoder
from raftkv_trio.errors import RaftKVError
from raftkv_trio.kv import SERVER, Actor, AuthFailed
from raftkv_trio.sync import Wakeup

#: What a queued item takes beside the bytes of its events.
ITEM_BYTES = 128
#: What a watcher takes beside its key and range end.
WATCHER_BYTES = 1024
#: What a client is given in one go.
TAKE_BYTES = 64 * 1024


class TooManyWatchers(RaftKVError):
    """The watchers of this node take all the memory that they may have."""


class Watcher:
    """One who wants to hear of a key, or of a range of keys.

    Attributes:
        key, range_end: of the store (`kv/txn.py`).
        next_revision: it is told of no earlier one. While it is *unsynced*, it was told of all before it.
        is_open: whether it is still told anything.
        wants_puts, wants_deletes: what it is told.
        wants_previous: whether it is told what a change replaced.
        reader: who must be allowed to read what it watches, as long as it is told anything. `SERVER`: it
            is not checked here.
        end: it may not read what it watches any more; it is told up to this revision, and then why. None: it
            may.
    """

    __slots__ = (
        "end",
        "id",
        "is_open",
        "key",
        "next_revision",
        "range_end",
        "reader",
        "stream",
        "wants_deletes",
        "wants_previous",
        "wants_puts",
    )

    def __init__(
        self,
        stream: "WatchStream",
        watch_id: int,
        key: bytes,
        range_end: bytes | None,
        next_revision: int,
        *,
        wants_puts: bool = True,
        wants_deletes: bool = True,
        wants_previous: bool = False,
        reader: Actor | None = SERVER,
    ) -> None:
        self.stream = stream
        self.id = watch_id
        self.key = key
        self.range_end = range_end
        self.next_revision = next_revision
        self.is_open = True
        self.wants_puts = wants_puts
        self.wants_deletes = wants_deletes
        self.wants_previous = wants_previous
        self.reader = reader
        self.end: tuple[int, AuthFailed] | None = None

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return WATCHER_BYTES + len(self.key) + len(self.range_end or b"")


class Events(NamedTuple):
    """What one revision changed of what a watcher watches.

    Attributes:
        store_revision: that of the store when the watcher was told.
        events: encoded, in order.
    """

    watcher: Watcher
    revision: int
    store_revision: int
    events: Sequence[bytes]
    size_bytes: int


class Compacted(NamedTuple):
    """The next revision of a watcher is compacted, so it is told nothing any more."""

    watcher: Watcher
    compacted_revision: int


class Denied(NamedTuple):
    """Who wants to hear it may not read it any more, so the watcher is told nothing any more."""

    watcher: Watcher
    error: AuthFailed


class Progress(NamedTuple):
    """All events of the stream's watchers up to a revision have been queued before this."""

    revision: int


class Note(NamedTuple):
    """What an API tells its client in the order of the queue."""

    content: bytes


Item = Events | Compacted | Denied | Progress | Note


class WatchStream:
    """The watchers of one client; made by the hub, which it is closed by.

    One task takes what is queued. Another one may add watchers.

    Attributes:
        watchers: by id; also those that are compacted or denied, until the client cancels them.
        unsynced: those that read from the history at present.
        end_reason: why the stream must end; None: it need not.

    Args:
        encoder: of the events.
        max_bytes: of the queue.
        load: what all streams hold.
        has_room: told, with the stream, when half of the queue is empty again.
    """

    def __init__(
        self, encoder: Encoder, max_bytes: int, load: "Load", has_room: Callable[["WatchStream"], object]
    ) -> None:
        self.encoder = encoder
        self.watchers: dict[int, Watcher] = {}
        self.unsynced: dict[Watcher, None] = {}
        self.end_reason: str | None = None
        self._max_bytes = max_bytes
        self._load = load
        self._has_room = has_room
        self._queue: deque[tuple[Item, int]] = deque()
        self._bytes = 0  # of the queue, and of what was taken last
        self._taken_bytes = 0
        self._filled = Wakeup()
        self._drained = Wakeup()

    @property
    def is_full(self) -> bool:
        """Whether no more events can be queued."""
        return self._bytes > 0 and (
            self._bytes >= self._max_bytes or self._load.queued_bytes >= self._load.max_queued_bytes
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return not self._queue

    # ------------------------------------------------------------ what is queued

    def offer(self, events: Events) -> bool:
        """Queue events if there is room, or nothing else waits; return whether they are queued."""
        # Written out, as `is_full` and `_put` have it: each event passes here once for each of its watchers.
        held, load = self._bytes, self._load
        if held and (held >= self._max_bytes or load.queued_bytes >= load.max_queued_bytes):
            return False
        size_bytes = events.size_bytes + ITEM_BYTES
        self._queue.append((events, size_bytes))
        self._bytes = held + size_bytes
        load.queued_bytes += size_bytes
        if not self._filled.is_set:
            self._filled.set()
        return True

    def put(self, item: Item) -> None:
        """Queue something else than events, of which there is little."""
        self._put(item, len(item.content) if isinstance(item, Note) else 0)

    def end(self, reason: str) -> None:
        """Have the stream end; whoever takes from it sees that."""
        self.end_reason = reason
        self._filled.set()

    def _put(self, item: Item, size_bytes: int) -> None:
        size_bytes += ITEM_BYTES
        self._queue.append((item, size_bytes))
        self._bytes += size_bytes
        self._load.queued_bytes += size_bytes
        self._filled.set()

    # ------------------------------------------------------------ what is taken

    async def wait(self) -> None:
        """Return when something may have been queued since the last `take`. Cancellation loses nothing."""
        await self._filled.wait()

    def take(self) -> list[Item]:
        """Take what is queued, at most about 64 KiB or one item; what was taken before is done with."""
        if self._taken_bytes:
            self._release(self._taken_bytes)
        items: list[Item] = []
        queue, taken_bytes = self._queue, 0
        while queue and taken_bytes < TAKE_BYTES:
            item, size_bytes = queue.popleft()
            items.append(item)
            taken_bytes += size_bytes
        self._taken_bytes = taken_bytes
        return items

    async def wait_room(self) -> None:
        """Return when the queue is not full, for who makes it longer by `put`. Cancellation loses nothing."""
        while self._bytes >= self._max_bytes:
            await self._drained.wait()

    def close(self) -> None:
        """Forget what is queued; the hub calls it."""
        self._queue.clear()
        self._release(self._bytes)
        self._taken_bytes = 0

    def _release(self, size_bytes: int) -> None:
        if not size_bytes:
            return
        self._bytes -= size_bytes
        self._load.queued_bytes -= size_bytes
        if self._bytes < self._max_bytes:
            self._drained.set()
        if self.unsynced and self._bytes <= self._max_bytes // 2:
            self._has_room(self)


class Load:
    """What all streams of a server hold.

    Attributes:
        queued_bytes, max_queued_bytes: of all queues, and the most that these may be.
        watcher_bytes, max_watcher_bytes: of all watchers.
        watchers, unsynced: how many there are, and how many of them read from the history.
        streams: how many there are.
        events: how many have been queued, ever.
    """

    __slots__ = (
        "events",
        "max_queued_bytes",
        "max_watcher_bytes",
        "queued_bytes",
        "streams",
        "watcher_bytes",
        "watchers",
    )

    def __init__(self, max_queued_bytes: int, max_watcher_bytes: int) -> None:
        self.max_queued_bytes = max_queued_bytes
        self.max_watcher_bytes = max_watcher_bytes
        self.queued_bytes = self.watcher_bytes = self.watchers = self.streams = self.events = 0
