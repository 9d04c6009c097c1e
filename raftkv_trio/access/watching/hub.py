"""Tells watchers what the store of this node has applied. No quorum is asked, as in etcd.

- A watcher is *synced* if it was told of all revisions that the hub has told. The hub goes from revision to
  revision and finds in its index who watches what has changed.
- A watcher is *unsynced* if it begins in the past, or its stream was full when it was to be told something.
  It keeps nothing but its next revision, and reads the history when its stream has room, until it has caught
  up (`catching_up.py`).
- Before a compaction the hub tells all that it is about to drop. An unsynced watcher that it overtakes is
  told so, and nothing else any more.
- After a restore from another member's snapshot all watchers are unsynced.

All of it happens between two tasks of the event loop, in turns of a few milliseconds. While a snapshot is
being restored, in another thread, nothing reads the store.
"""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NoReturn, Protocol

import trio

from raftkv_trio.access.watching.catching_up import CATCH_UP_CHANGES, CatchingUp, Synced
from raftkv_trio.access.watching.matching import events_of
from raftkv_trio.access.watching.streams import (
    Compacted,
    Denied,
    Load,
    Progress,
    TooManyWatchers,
    Watcher,
    WatchStream,
)
from raftkv_trio.access.watching.telling import Encoder
from raftkv_trio.config import WatchConfig
from raftkv_trio.errors import CommandRefused, NoLeader
from raftkv_trio.kv import HISTORY_LEVEL, SERVER, Access, AuthFailed, Store
from raftkv_trio.sync import Wakeup

#: How long the hub works before it lets the other tasks run.
TURN_S = 0.002
#: Why streams end.
NO_LEADER, STOPPING = "no leader", "the server is stopping"


class Replica(Protocol):
    """What the hub must know of the node."""

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is replacing the store's state at this moment."""
        ...

    @property
    def has_leader(self) -> bool:
        """Whether the node knows a leader."""
        ...

    async def wait_restored(self) -> None:
        """Return when no restore is under way."""
        ...


class WatchHub:
    """All watches of a server. `run` must run as long as there are any.

    Args:
        store: of this node.
        replica: the node.
        now: a clock, in seconds; it says when a turn is over.

    Attributes:
        load: what the watches hold.
    """

    stream_type = WatchStream

    def __init__(
        self,
        store: Store,
        replica: Replica,
        config: WatchConfig,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self.load = Load(config.max_queued_bytes, config.max_watcher_bytes)
        self._store = store
        self._replica = replica
        self._config = config
        self._now = now
        self._token: trio.lowlevel.TrioToken | None = None
        self._wakeup = Wakeup()
        self._synced = Synced()
        self._telling: Iterator[None] | None = None  # what is left to tell them of a few revisions
        self._catching_up = CatchingUp(store, self._synced, self.load, self._end)
        self._was_restored = False
        self._streams: dict[WatchStream, None] = {}
        self._await_progress: dict[WatchStream, int] = {}
        self._need_leader: dict[WatchStream, None] = {}

    async def run(self) -> NoReturn:
        """Tell watchers what happens. Cancellation ends all streams: the server is stopping."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_for_leader)
                while True:
                    await self._wakeup.wait()
                    while self.has_work:
                        await self._turn()
                        if self.has_work:
                            await trio.lowlevel.checkpoint()
        finally:
            for stream in self._streams:
                stream.end(STOPPING)

    async def _turn(self) -> None:
        if self._replica.is_restoring:
            try:
                await self._replica.wait_restored()
            except NoLeader:
                await trio.sleep_forever()  # the node is stopping, and then cancels this
        # Nothing is awaited until the next turn, so that no restore can begin.
        self.work()

    async def _look_for_leader(self) -> NoReturn:
        """End the streams that need a leader when there has been none for too long."""
        interval_s = self._config.no_leader_s / 3
        missed = 0
        while True:
            await trio.sleep(interval_s)
            missed = 0 if self._replica.has_leader else missed + 1
            if missed >= 3:
                for stream in self._need_leader:
                    stream.end(NO_LEADER)

    # ------------------------------------------------------------ streams and watchers

    def open_stream(self, encoder: Encoder, *, needs_leader: bool = False) -> WatchStream:
        """A stream without watchers; the caller closes it (`close_stream`)."""
        stream = self.stream_type(encoder, self._config.max_stream_bytes, self.load, self._note_ready)
        self._streams[stream] = None
        self.load.streams += 1
        if needs_leader:
            self._need_leader[stream] = None
        return stream

    def close_stream(self, stream: WatchStream) -> None:
        """Forget a stream and its watchers."""
        for watcher in list(stream.watchers.values()):
            self.remove(watcher)
        self._catching_up.forget(stream)
        for streams in (self._streams, self._await_progress, self._need_leader):
            streams.pop(stream, None)
        self.load.streams -= 1
        stream.close()

    def add(self, watcher: Watcher) -> None:
        """Begin to tell a watcher, of the past too if its next revision is in the past.

        No restore must be under way. Raises TooManyWatchers, and CommandRefused while there is no history.
        """
        if self._store.level < HISTORY_LEVEL:
            raise CommandRefused("The members do not all know watches; upgrade them")
        load = self.load
        if load.watcher_bytes + watcher.size_bytes > load.max_watcher_bytes:
            raise TooManyWatchers("too many watches on this member")
        if not load.watchers:
            self._attach()
        load.watchers += 1
        load.watcher_bytes += watcher.size_bytes
        watcher.stream.watchers[watcher.id] = watcher
        if watcher.next_revision > self._synced.revision:
            self._synced.index.add(watcher.key, watcher.range_end, watcher)
        else:
            self._unsync(watcher, watcher.next_revision)

    def remove(self, watcher: Watcher) -> None:
        """Tell a watcher nothing any more, and forget it; what is queued for it stays queued."""
        self._silence(watcher)
        del watcher.stream.watchers[watcher.id]
        self.load.watcher_bytes -= watcher.size_bytes
        self.load.watchers -= 1
        if not self.load.watchers:
            self._detach()

    def request_progress(self, stream: WatchStream) -> None:
        """Have `Progress` queued as soon as the stream's watchers were told of all that is applied now.

        Of several requests that wait, one is answered. No restore must be under way.
        """
        self._await_progress[stream] = self._store.revision
        self._answer_progress()

    @property
    def told_revision(self) -> int:
        """The revision up to which all synced watchers were told everything."""
        return self._synced.told if self.load.watchers else self._store.revision

    @property
    def unsynced(self) -> int:
        """How many watchers read from the history."""
        return sum([len(stream.unsynced) for stream in self._streams])

    def _end(self, watcher: Watcher, because: Compacted | Denied) -> None:
        """Tell a watcher why it is told nothing any more; it stays until its client cancels it."""
        self._silence(watcher)
        watcher.stream.put(because)

    def _silence(self, watcher: Watcher) -> None:
        watcher.is_open = False
        if watcher.stream.unsynced.pop(watcher, self) is not None:
            self._synced.index.remove(watcher.key, watcher.range_end, watcher)
        if watcher.stream in self._await_progress:
            self._wakeup.set()

    def _unsync(self, watcher: Watcher, next_revision: int) -> None:
        """Have a watcher, which is not in the index any more, read from the history."""
        watcher.next_revision = next_revision
        watcher.stream.unsynced[watcher] = None
        if not watcher.stream.is_full:
            self._note_ready(watcher.stream)

    def _note_ready(self, stream: WatchStream) -> None:
        self._catching_up.note_ready(stream)
        self._wakeup.set()

    def _attach(self) -> None:
        self._synced.revision = self._synced.told = self._store.revision
        self._was_restored = False
        self._store.observer = self

    def _detach(self) -> None:
        self._store.observer = None
        self._telling = None
        self._catching_up.give_up()

    # ------------------------------------------------------------ what the store says

    def applied(self) -> None:
        """The revision may have risen."""
        self._wakeup.set()

    def compacting(self, revision: int) -> None:
        """Tell all that the compaction is about to drop, and what a change at its revision has replaced."""
        if self._was_restored:
            self._resume()
        while self._synced.told < revision:
            self._tell_on()
        self._catching_up.compacting(revision)

    def auth_changed(self) -> None:
        """Tell all that came before, and then nothing any more to those who may not read it now.

        No entry behind that of the change is applied yet, so nobody is told of one who must not be.
        """
        if self._was_restored:
            self._resume()
        denied = self._denied()
        if not denied:
            return
        told = self._store.revision
        while self._synced.told < told:
            self._tell_on()
        for watcher, error in denied:
            if watcher in watcher.stream.unsynced and watcher.next_revision <= told:
                watcher.end = told, error  # it has still to be told of what came before
            else:
                self._end(watcher, Denied(watcher, error))

    def _denied(self) -> list[tuple[Watcher, AuthFailed]]:
        """The watchers who may not read any more what they watch, and why."""
        auth = self._store.auth
        denied = []
        for stream in self._streams:
            for watcher in stream.watchers.values():
                if watcher.reader is SERVER or not watcher.is_open or watcher.end is not None:
                    continue
                try:
                    auth.check_range(watcher.reader, Access.READ, watcher.key, watcher.range_end)
                except AuthFailed as error:
                    denied.append((watcher, error))
        return denied

    def restored(self) -> None:
        """The state was replaced. Called in another thread, while nothing reads the store."""
        self._was_restored = True
        if self._token is not None:
            self._token.run_sync_soon(self._wakeup.set)

    # ------------------------------------------------------------ work

    @property
    def has_work(self) -> bool:
        """Whether there is anything to tell, or a restore to wait for."""
        if not self.load.watchers:
            return bool(self._await_progress)
        return (
            self._replica.is_restoring
            or self._was_restored
            or self._synced.told < self._store.revision
            or self._catching_up.has_work
            # One that is full waits for its client, which makes it ready again.
            or any(not stream.unsynced for stream in self._await_progress)
        )

    def work(self) -> None:
        """Work for one turn, or until nothing is left. `run` does, while no restore is under way."""
        if self.load.watchers:
            if self._was_restored:
                self._resume()
            until = self._now() + TURN_S
            while self._synced.told < self._store.revision:
                self._tell_on()
                if self._now() >= until:
                    break
            # These have a time of their own, so that they go on however much happens.
            until = self._now() + TURN_S
            while self._catching_up.step() and self._now() < until:
                pass
        self._answer_progress()

    def _resume(self) -> None:
        """After a restore: all read from the history, if it has what they have not been told."""
        self._was_restored = False
        told = self._synced.told
        self._synced.told = self._synced.revision = self._store.revision
        self._telling = None
        self._catching_up.give_up()
        # By the users of the snapshot; when these have changed, it does not say.
        for watcher, error in self._denied():
            self._end(watcher, Denied(watcher, error))
        for stream in self._streams:
            for watcher in stream.watchers.values():
                if not watcher.is_open or watcher in stream.unsynced:
                    continue
                next_revision = max(watcher.next_revision, told + 1)
                if next_revision <= self._synced.revision:
                    self._synced.index.remove(watcher.key, watcher.range_end, watcher)
                    self._unsync(watcher, next_revision)

    def _tell_on(self) -> None:
        """One step of telling the synced watchers."""
        if self._telling is None:
            self._telling = self._tell_all()
        if next(self._telling, self) is self:
            self._telling = None

    def _tell_all(self) -> Iterator[None]:
        store, synced = self._store, self._synced
        last = min(store.revision, synced.told + CATCH_UP_CHANGES)
        for revision, keys in store.changes(synced.told + 1, last):
            synced.revision = revision
            for events in events_of(store, synced.index, revision, keys, revision):
                if events is None:
                    yield
                    continue
                watcher = events.watcher
                if watcher.stream.offer(events):
                    watcher.next_revision = revision + 1
                    self.load.events += len(events.events)
                else:
                    synced.index.remove(watcher.key, watcher.range_end, watcher)
                    self._unsync(watcher, revision)
            synced.told = revision
            yield

    # ------------------------------------------------------------ progress

    def _answer_progress(self) -> None:
        told = self.told_revision
        for stream, revision in list(self._await_progress.items()):
            if told >= revision and not stream.unsynced:
                del self._await_progress[stream]
                stream.put(Progress(told))
