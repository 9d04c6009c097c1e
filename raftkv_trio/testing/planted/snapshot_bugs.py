"""Bugs in taking and installing snapshots, and in removing the log that they cover."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.node.snapshotter import Pinned, Snapshotter
from raftkv_trio.peers import snapshot_streams
from raftkv_trio.peers.snapshot_sender import SnapshotSender
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.storage.snapshot_file import SnapshotFile
from raftkv_trio.storage.wal import WriteAheadLog
from raftkv_trio.testing.planted.bug import PlantedBug, bug, replaced

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "snapshot-not-pinned",
    "a snapshot holds a later state than its index says",
    Snapshotter,
    "begin",
)
def _(original: Any) -> object:
    def begin(snapshotter: Any) -> Pinned:
        pinned: Pinned = original(snapshotter)
        return pinned._replace(chunks=later(snapshotter))

    def later(snapshotter: Any) -> Iterator[bytes]:
        yield from snapshotter._applier.machine.snapshot()

    return begin


@bug(
    BUGS,
    "snapshot-one-short",
    "a snapshot names the index before that of its last entry",
    Snapshotter,
    "begin",
)
def _(original: Any) -> object:
    def begin(snapshotter: Snapshotter) -> Pinned:
        pinned: Pinned = original(snapshotter)
        return pinned._replace(meta=replace(pinned.meta, index=pinned.meta.index - 1))

    return begin


@bug(
    BUGS,
    "purge-before-name-is-durable",
    "a snapshot is recorded, and the log that it covers removed, before its name is synced",
    SnapshotFile,
    "finish",
)
def _(original: Any) -> object:
    def finish(file: Any) -> object:
        disk = file._disk
        sync, disk.sync_directory = disk.sync_directory, lambda path: None
        try:
            return original(file)
        finally:
            disk.sync_directory = sync

    return finish


@bug(
    BUGS,
    "purge-before-record",
    "the log that a snapshot covers is removed before a record says that the log continues the snapshot",
    Snapshotter,
    "finished",
)
def _(original: Any) -> object:
    def finished(snapshotter: Any, meta: SnapshotMeta) -> None:
        storage: NodeStorage = snapshotter._storage
        newest, storage.snapshots.newest = storage.snapshots.newest, meta
        try:
            storage.tidy()
        except OSError as error:
            snapshotter.failed(error)
        finally:
            storage.snapshots.newest = newest
        original(snapshotter, meta)

    return finished


@bug(
    BUGS,
    "install-keeps-the-log",
    "entries after a leader's snapshot stay on the disk when it is installed",
    WriteAheadLog,
    "install",
)
def _(original: Any) -> object:
    def install(
        log: WriteAheadLog, hard_state: HardState | None, snapshot: SnapshotId, entries: Sequence[Entry]
    ) -> None:
        log.append(hard_state, ())
        log.continue_from(snapshot)
        log.append(None, entries)

    return install


@bug(
    BUGS,
    "compaction-does-not-wait",
    "the log behind a snapshot is compacted while the snapshot is on its way to a member",
    CatchingUp,
    "keep_from",
)
def _(original: Any) -> object:
    return lambda catching_up, index: index


@bug(
    BUGS,
    "no-snapshot-on-demand",
    "no snapshot is taken for a member that lacks entries behind the newest one, which memory has no more",
    CatchingUp,
    "_request_snapshot_if_needed",
)
def _(original: Any) -> object:
    return lambda catching_up, members, first: None


@contextmanager
def _without_end() -> Iterator[None]:
    with (
        replaced(SnapshotSender, "end_connection", lambda sender: None),
        replaced(snapshot_streams, "FRAME_TIMEOUT_S", math.inf),
    ):
        yield


BUGS.append(
    PlantedBug(
        "snapshot-without-end",
        "a snapshot under way to a dead member ends neither by a deadline nor when the member is back",
        _without_end,
        level=2,
    )
)
