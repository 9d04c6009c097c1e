"""Bugs in watches: where they begin and go on, the change from history to present, compactions, restores."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raftkv_trio.access.watching import Change, Compacted, Events, WatchHub, WatchStream
from raftkv_trio.access.watching.catching_up import CatchingUp
from raftkv_trio.kv import InvalidTxn, KeyValue, Put, Txn, decode_command
from raftkv_trio.node.node import Node
from raftkv_trio.testing.planted.bug import PlantedBug, bug, replaced

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "watch-skips-what-follows",
    "a watcher that has caught up from the history is not told of the revision after that",
    CatchingUp,
    "_catch_up",
)
def _(original: Any) -> object:
    def catch_up(catching_up: Any, chosen: Any) -> Iterator[None]:
        yield from original(catching_up, chosen)
        for watcher in chosen:
            if watcher.is_open and watcher not in watcher.stream.unsynced:
                watcher.next_revision += 1

    return catch_up


@bug(
    BUGS,
    "watch-begins-now",
    "a watcher that begins in the past is told of nothing before it was created",
    WatchHub,
    "add",
)
def _(original: Any) -> object:
    def add(hub: Any, watcher: Any) -> None:
        watcher.next_revision = max(watcher.next_revision, hub._store.revision + 1)
        original(hub, watcher)

    return add


@bug(
    BUGS,
    "watch-begins-too-early",
    "a watcher that goes on in the past is told of the revision before its first one",
    WatchHub,
    "add",
)
def _(original: Any) -> object:
    def add(hub: Any, watcher: Any) -> None:
        if watcher.next_revision <= hub._store.revision:
            watcher.next_revision -= 1
        original(hub, watcher)

    return add


@bug(
    BUGS,
    "slow-watcher-loses",
    "the revision for which a watcher's queue has no room is left out",
    WatchHub,
    "_unsync",
)
def _(original: Any) -> object:
    def unsync(hub: Any, watcher: Any, next_revision: int) -> None:
        original(hub, watcher, next_revision + watcher.stream.is_full)

    return unsync


@bug(
    BUGS,
    "slow-watcher-repeats",
    "a watcher whose queue was full is told again of the last revision that had room",
    WatchHub,
    "_unsync",
)
def _(original: Any) -> object:
    def unsync(hub: Any, watcher: Any, next_revision: int) -> None:
        original(hub, watcher, next_revision - watcher.stream.is_full)

    return unsync


@bug(
    BUGS,
    "watch-loses-at-restore",
    "after a restore watchers are not told of what the snapshot has brought",
    WatchHub,
    "_resume",
)
def _(original: Any) -> object:
    def resume(hub: Any) -> None:
        hub._was_restored = False
        hub._synced.told = hub._synced.revision = hub._store.revision
        hub._telling = None
        hub._catching_up.give_up()

    return resume


@bug(
    BUGS,
    "watch-reorders",
    "of what is taken for a client at once, the newest is first",
    WatchStream,
    "take",
)
def _(original: Any) -> object:
    return lambda stream: original(stream)[::-1]


@bug(
    BUGS,
    "compaction-hides-a-gap",
    "a watcher that a compaction has overtaken goes on behind it, and is not told so",
    CatchingUp,
    "_catch_up",
)
def _(original: Any) -> object:
    def catch_up(catching_up: Any, chosen: Any) -> Iterator[None]:
        for watcher in chosen:
            watcher.next_revision = max(watcher.next_revision, catching_up._store.first_change)
        yield from original(catching_up, chosen)

    return catch_up


@bug(
    BUGS,
    "compaction-ends-watches",
    "a compaction ends each watcher that reads from the history, however far it is",
    WatchHub,
    "compacting",
)
def _(original: Any) -> object:
    def compacting(hub: Any, revision: int) -> None:
        original(hub, revision)
        for stream in hub._streams:
            for watcher in list(stream.unsynced):
                hub._end(watcher, Compacted(watcher, revision))

    return compacting


@contextmanager
def _watch_before_commit() -> Iterator[None]:
    submit: Any = Node.submit

    def submit_and_tell(node: Any, command: bytes) -> object:
        proposal = submit(node, command)
        store = node._parts.applier.machine.inner
        try:
            decoded = decode_command(command)
        except InvalidTxn:  # a stranger's
            return proposal
        match decoded:
            case Txn((), (Put(key, bytes(value)),)) if store.observer is not None and node.is_leader:
                _tell(store, store.observer, key, value)
        return proposal

    with replaced(Node, "submit", submit_and_tell):
        yield


def _tell(store: Any, hub: Any, key: bytes, value: bytes) -> None:
    """Tell who watches a key of a put as if it were applied."""
    revision, before = store.revision + 1, store.get(key)
    created, version = (revision, 0) if before is None else (before.create_revision, before.version)
    change = Change(revision, key, KeyValue(key, value, created, revision, version + 1))
    for watcher in hub._synced.index.at(key):
        if hub._synced.told == store.revision and watcher.next_revision <= revision and watcher.wants_puts:
            event = watcher.stream.encoder(change, before if watcher.wants_previous else None)
            watcher.stream.offer(Events(watcher, revision, revision, (event,), len(event)))
            watcher.next_revision = revision + 1


BUGS.append(
    PlantedBug(
        "watch-before-commit",
        "watchers are told of a put as soon as a leader is asked for it",
        _watch_before_commit,
    )
)
