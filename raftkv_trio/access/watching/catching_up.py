"""Unsynced watchers: they read what they have missed from the history, many at once.

A round takes up to 512 of them, from all streams that have room in turn, and reads a thousand changes from
the first one that any of them lacks. Who has come to where the hub is becomes synced; the others are left to
the next round, also those whose stream has become full.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from raftkv_trio.access.watching.index import WatcherIndex
from raftkv_trio.access.watching.matching import events_of
from raftkv_trio.access.watching.streams import Compacted, Denied, Load, Watcher, WatchStream
from raftkv_trio.kv import Store

#: How many changes are read at once, and for how many watchers; as in etcd.
CATCH_UP_CHANGES, CATCH_UP_WATCHERS = 1000, 512


class Synced:
    """The watchers that were told of all revisions that the hub has told.

    Attributes:
        index: of them.
        revision: they are being told of this one.
        told: they have been told of this one, and of all before it.
    """

    def __init__(self) -> None:
        self.index: WatcherIndex[Watcher] = WatcherIndex()
        self.revision = self.told = 0


class CatchingUp:
    """Tells the unsynced watchers, in steps. Anything may happen between two of them.

    Args:
        store: with the history.
        synced: those who have caught up become such.
        load: what all streams hold.
        end: called with a watcher that is to be told nothing any more, and with what says so.
    """

    def __init__(
        self,
        store: Store,
        synced: Synced,
        load: Load,
        end: Callable[[Watcher, Compacted | Denied], None],
    ) -> None:
        self._store = store
        self._synced = synced
        self._load = load
        self._end = end
        self._ready: dict[WatchStream, None] = {}  # that have unsynced watchers, and room
        self._steps: Iterator[None] | None = None  # what is left of a round
        self._at = 0  # the revision that is being read

    @property
    def has_work(self) -> bool:
        """Whether anybody can be told anything."""
        return self._steps is not None or bool(self._ready)

    def note_ready(self, stream: WatchStream) -> None:
        """A stream has unsynced watchers, and room."""
        self._ready[stream] = None

    def forget(self, stream: WatchStream) -> None:
        """A stream is closed; its watchers are removed."""
        self._ready.pop(stream, None)

    def give_up(self) -> None:
        """Leave what the round has not told to the next one."""
        self._steps = None

    def compacting(self, revision: int) -> None:
        """The history up to this revision is about to be dropped."""
        if self._at <= revision:
            self.give_up()

    def step(self) -> bool:
        """Take one step; False if there is nothing to do."""
        if self._steps is None:
            chosen = self._choose()
            if not chosen:
                return False
            self._steps = self._catch_up(chosen)
        if next(self._steps, self) is self:
            self._steps = None
        return True

    def _choose(self) -> list[Watcher]:
        """Unsynced watchers whose streams have room; all streams have their turn."""
        chosen: list[Watcher] = []
        for stream in list(self._ready):
            del self._ready[stream]
            if stream.unsynced and not stream.is_full:
                self._ready[stream] = None  # at the end
                chosen += islice(stream.unsynced, CATCH_UP_WATCHERS - len(chosen))
                if len(chosen) == CATCH_UP_WATCHERS:
                    break
        return chosen

    def _catch_up(self, chosen: list[Watcher]) -> Iterator[None]:
        """Tell watchers a part of what they have missed; in steps, so some may be removed."""
        left = self._without_compacted(chosen)
        if not left:
            return
        index: WatcherIndex[Watcher] = WatcherIndex()
        for watcher in left:
            index.add(watcher.key, watcher.range_end, watcher)
        first = min(watcher.next_revision for watcher in left)
        last = min(self._synced.revision, first + CATCH_UP_CHANGES - 1)
        count = 0
        for revision, keys in self._store.changes(first, last):
            self._at = revision
            for events in events_of(self._store, index, revision, keys, max(revision, self._synced.told)):
                if events is None:
                    yield
                elif (end := events.watcher.end) is not None and revision > end[0]:
                    self._end(events.watcher, Denied(events.watcher, end[1]))
                elif not events.watcher.stream.offer(events):
                    watcher = events.watcher
                    watcher.next_revision = revision
                    index.remove(watcher.key, watcher.range_end, watcher)
                    del left[watcher]
                else:
                    events.watcher.next_revision = revision + 1
                    self._load.events += len(events.events)
            yield
            count += len(keys)
            if count >= CATCH_UP_CHANGES:
                last = revision
                break
        self._at = last + 1
        for watcher in left:
            if watcher.is_open:
                self._come_to(watcher, last)

    def _without_compacted(self, chosen: list[Watcher]) -> dict[Watcher, None]:
        """Those whose next revision is in the history; the others are told that it is not."""
        first_change = self._store.first_change
        left: dict[Watcher, None] = {}
        for watcher in chosen:
            if watcher.next_revision < first_change:
                self._end(watcher, Compacted(watcher, self._store.compacted_revision))
            else:
                left[watcher] = None
        return left

    def _come_to(self, watcher: Watcher, revision: int) -> None:
        """A watcher was told of all up to a revision."""
        watcher.next_revision = max(watcher.next_revision, revision + 1)
        if watcher.end is not None and watcher.next_revision > watcher.end[0]:
            self._end(watcher, Denied(watcher, watcher.end[1]))
        elif watcher.next_revision > self._synced.revision:
            del watcher.stream.unsynced[watcher]
            self._synced.index.add(watcher.key, watcher.range_end, watcher)
