"""Who is to be told of a revision, and what: the watchers of the keys that it changed."""

from collections.abc import Iterator, Sequence

from raftkv_trio.access.watching.index import WatcherIndex
from raftkv_trio.access.watching.streams import Events, Watcher
from raftkv_trio.access.watching.telling import Encoder, Telling
from raftkv_trio.kv import Store

#: After so many watchers there is a pause.
WATCHERS_A_STEP = 32


def events_of(
    store: Store, index: WatcherIndex[Watcher], revision: int, keys: Sequence[bytes], store_revision: int
) -> Iterator[Events | None]:
    """What the open watchers in an index are to be told of a revision; None at each pause.

    Args:
        keys: what the revision changed.
        store_revision: what the watchers are told of how far the store is.
    """
    steps = 0
    gathered: dict[Watcher, list[bytes]] = {}  # if there are several keys: a watcher may watch some of them
    for key in keys:
        telling = Telling(store, revision, key)
        # All who are told the same share it.
        encoded: dict[tuple[Encoder, bool], tuple[bytes]] = {}
        for watcher in index.at(key):
            steps += 1
            if not steps % WATCHERS_A_STEP:
                yield None
            if watcher.next_revision > revision or not watcher.is_open:
                continue
            if not (watcher.wants_deletes if telling.is_delete else watcher.wants_puts):
                continue
            wanted = watcher.stream.encoder, watcher.wants_previous
            events = encoded.get(wanted)
            if events is None:
                events = encoded[wanted] = (telling.encode(*wanted),)
            if len(keys) > 1:
                gathered.setdefault(watcher, []).append(events[0])
            else:
                yield Events(watcher, revision, store_revision, events, len(events[0]))
    for watcher, many in gathered.items():
        steps += 1
        if not steps % WATCHERS_A_STEP:
            yield None
        if watcher.is_open:
            yield Events(watcher, revision, store_revision, many, sum(map(len, many)))
