"""The snapshotter: writes snapshots of the state machine, and removes what they replace (paper, section 7).

A snapshot takes these steps, in this order:

1. Between two slices of the applier the machine is pinned: the snapshot is of one exact index.
2. The machine makes the chunks in the event loop, one at a time, so that applying goes on in between. A
   worker thread writes them to a temporary file.
3. The file is synced, and gets its name.
4. The log writer records that the log continues this snapshot.
5. Only then are the segments and snapshots removed that the record makes unnecessary. A crash at any earlier
   moment leaves a directory that starts from the snapshot before.

A snapshot is due when the log behind the newest one has a part, `log_share`, of the size of that one, and not
before it has `entries` entries or `log_bytes` bytes. So what is written as snapshots is at most so many times
what is written as log, however large the state is: each snapshot is paid for by the log that it replaces.

Without room on the disk there is no snapshot. The node then refuses writes, and tries again after a while.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import trio

from raftkv_trio.errors import NoLeader, SnapshotNotTaken, StorageError
from raftkv_trio.node.applier import Applier
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.steps import Steps, checkpoint, in_worker, run_steps, wait
from raftkv_trio.storage import NodeStorage, SnapshotMeta, describe_os_error, is_no_room
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
RETRY_S = 5.0


class Pinned(NamedTuple):
    """What a snapshot will hold, as of one index.

    Attributes:
        envelope: what the node itself replicates, encoded.
        chunks: of the machine, made when they are asked for.
    """

    meta: SnapshotMeta
    envelope: bytes
    chunks: Iterator[bytes]


class _Overtaken(Exception):
    """While a snapshot was written, a newer one of the leader's has begun to replace the machine's state."""


class Snapshotter:
    """Takes a snapshot when enough was applied since the newest one, or when it is asked to.

    Attributes:
        pinned_index: of the snapshot that is being taken, until the log continues it; None if none is.
        wakeup: set when there may be something to do, as after each batch of the applier.
        piece_bytes: a disk call writes chunks of at least this size in all.
        on_begun: called with each snapshot that is begun; None: nobody follows.

    Args:
        log_writer: records a snapshot that is whole.
        worker: writes and removes files, beside the log writer's worker.
        no_room: called with the reason when the disk has no room, and with None when it has.
        entries, log_bytes, log_share: a snapshot is due after this many entries, or this many bytes of
            entries, and not before these bytes have this part of the newest snapshot's size.
    """

    def __init__(
        self,
        storage: NodeStorage,
        applier: Applier,
        log_writer: LogWriter,
        worker: Worker,
        clock: Clock,
        wakeup: Wakeup,
        no_room: Callable[[str | None], None],
        *,
        entries: int,
        log_bytes: int,
        log_share: float,
    ) -> None:
        self.wakeup = wakeup
        self.pinned_index: int | None = None
        self.piece_bytes = PIECE_BYTES
        self.on_begun: Callable[[SnapshotMeta], None] | None = None
        self._storage = storage
        self._applier = applier
        self._worker = worker
        self._clock = clock
        self._log_writer = log_writer
        self._no_room = no_room
        self._entries = entries
        self._log_bytes = log_bytes
        self._log_share = log_share
        self._begun_at_log_bytes = self._taken_at_log_bytes = 0
        self._retry_at: float | None = None
        self._wanted = False
        self._is_recording = False
        self._ended = trio.Event()
        self._trouble: str | None = None
        self._closed: str | None = None

    # ------------------------------------------------------------ by others; all but `take` return at once

    def recorded(self) -> None:
        """The log writer: the log continues the snapshot that was taken."""
        self._is_recording = False
        self.pinned_index = None
        self._taken_at_log_bytes = self._begun_at_log_bytes
        self._end(None)

    def want(self) -> None:
        """The driver: take a snapshot of what is applied now, for a member that no older snapshot knows."""
        if not self.is_resting:
            self._wanted = True
            self.wakeup.set()

    async def take(self) -> SnapshotMeta:
        """Take a snapshot of all that is applied at this moment; returns it, or a newer one.

        Raises SnapshotNotTaken if there is no room for it, NoLeader if the node stops or has lost what it had
        acknowledged. Cancellation ends the wait, and not the snapshot.
        """
        index = self._applier.position.index
        while True:
            # First: a node that takes no part any more must not pass its old snapshot off as the present one.
            if self._closed is not None:
                raise NoLeader(self._closed)
            if self._storage.snapshot.index >= index:
                return self._storage.snapshot
            self._wanted = True
            self.wakeup.set()
            await self._ended.wait()
            if self._trouble is not None:
                raise SnapshotNotTaken(self._trouble)

    def close(self, reason: str) -> None:
        """The node stops: end every wait of `take` with NoLeader."""
        self._closed = reason
        self._end(None)

    # ------------------------------------------------------------ the task

    async def run(self) -> None:
        """Take snapshots, and remove what they replace, until cancelled. Raises StorageError.

        Cancellation may leave a file without a name, which the next start removes.
        """
        await run_steps(self.steps(), self._worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises StorageError."""
        while True:
            yield from wait(self.wakeup, self._retry_at)
            if self.is_resting:
                continue
            try:
                # First, since a segment for the log's next cut matters more than a snapshot: without it the
                # node cannot take entries.
                if self._storage.is_untidy:
                    yield from in_worker(self._storage.tidy)
                if self.is_due():
                    yield from self._write()
                elif self._wanted and not self._is_recording and not self._applier.is_restoring:
                    self._end(None)  # a leader's snapshot was installed meanwhile, and is as new
            except OSError as error:
                self.failed(error)
            else:
                self.tidied()

    def failed(self, error: OSError) -> None:
        """A disk call failed. If there was no room, refuse writes and try again later.

        Raises StorageError for any other error, which ends the node: what a failing disk holds is unknown.
        """
        if not is_no_room(error):
            raise StorageError(describe_os_error(error, "a snapshot")) from error
        self._retry_at = self._clock.now() + RETRY_S
        self._end(f"there is no room for a snapshot: {error.strerror}; free some space on the disk")
        self._no_room("the disk has no room for a snapshot or the log's next segment")

    def tidied(self) -> None:
        """No disk call failed. If nothing is left to tidy, there is a segment for the log's next cut."""
        if not self._storage.is_untidy and not self.is_resting:
            self._retry_at = None
            self._no_room(None)

    @property
    def is_resting(self) -> bool:
        """Whether there was no room a moment ago, and no snapshot was asked for since."""
        return self._retry_at is not None and self._clock.now() < self._retry_at and not self._wanted

    def is_due(self) -> bool:
        """Whether a snapshot should begin now."""
        position, newest = self._applier.position, self._storage.snapshot
        if self._is_recording or self._applier.is_restoring or position.index <= newest.index:
            return False
        if self._wanted:
            return True
        if self.is_resting:
            return False
        # Counted from the newest snapshot that there is, and not from one that could not be written.
        begun_at = max(self._taken_at_log_bytes, self._applier.restored_at_log_bytes)
        behind_bytes = self._applier.log_bytes - begun_at
        is_long = position.index - newest.index >= self._entries or behind_bytes >= self._log_bytes
        return is_long and behind_bytes >= self._storage.snapshot_bytes * self._log_share

    def begin(self) -> Pinned:
        """Pin the state of the machine, as of the last entry applied."""
        self._retry_at = None
        self._begun_at_log_bytes = self._applier.log_bytes
        envelope = self._applier.membership.envelope.encode()
        return Pinned(self._applier.position, envelope, self._applier.machine.snapshot())

    def finished(self, meta: SnapshotMeta) -> None:
        """The snapshot's file is whole and durable: have the log continue it."""
        self._is_recording = True
        self._log_writer.record(meta, self.recorded)

    def _write(self) -> Steps[None]:
        begun_at = self._clock.now()
        restores = self._applier.restores
        meta, envelope, chunks = self.begin()
        self.pinned_index = meta.index
        if self.on_begun is not None:
            self.on_begun(meta)
        try:
            file = yield from in_worker(self._storage.begin_snapshot, meta, envelope)
        except OSError:
            self.pinned_index = None
            raise
        try:
            while piece := (yield from self._next_piece(chunks, restores)):
                yield from in_worker(file.write, piece)
                # A large snapshot takes long. If the log has begun its spare segment meanwhile, the next one
                # must not wait for the end.
                if self._storage.is_untidy:
                    yield from in_worker(self._storage.tidy)
            yield from in_worker(file.finish)
        except (OSError, _Overtaken) as error:
            self.pinned_index = None
            try:
                yield from in_worker(file.abandon)
            except BaseException:  # cancelled before the worker took the call, or the file cannot be removed
                file.close()
                raise
            if isinstance(error, OSError):
                raise
            self._end(None)
            return
        except BaseException:  # cancelled: no time for the disk; the next start removes the file
            file.close()
            raise
        logger.info(
            "took a snapshot at index %d: %d bytes in %.1f s",
            meta.index,
            file.size_bytes,
            self._clock.now() - begun_at,
        )
        self.finished(meta)

    def _next_piece(self, chunks: Iterator[bytes], restores: int) -> Steps[list[bytes]]:
        """The next chunks, made between the event loop's other work; empty at the end."""
        piece: list[bytes] = []
        size = 0
        while size < self.piece_bytes:
            yield from checkpoint()
            # The machine makes no chunks while a worker thread restores it. And what it restores is newer, so
            # that nobody needs this snapshot any more.
            if self._applier.restores != restores:
                raise _Overtaken
            chunk = next(chunks, None)
            if chunk is None:
                break
            piece.append(chunk)
            size += len(chunk)
        return piece

    def _end(self, trouble: str | None) -> None:
        """End all waits of `take`: a snapshot is there, or there is none because of `trouble`."""
        self._wanted, self._trouble = False, trouble
        self._ended.set()
        self._ended = trio.Event()
        self.wakeup.set()
