"""The snapshotter: writes the state machine's snapshots, and removes what they make superfluous.

A snapshot is of one exact index: it is begun between two batches of the applier, and its chunks are made in
turns with them, in the event loop, a few at a time; they are written in a thread. When the file is whole the
log writer lets the log continue it, the driver compacts, and only then are segments and older snapshots
removed here. Without room on the disk there is no snapshot: that is said, and tried again later.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import trio

from raftkv_trio.errors import StorageError
from raftkv_trio.node.applier import Applier
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.steps import Steps, checkpoint, in_worker, run_steps, wait
from raftkv_trio.storage import NodeStorage, SnapshotMeta, is_no_room, trouble
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
RETRY_S = 5.0


class Pinned(NamedTuple):
    """What a snapshot is to hold: the moment, the members then, and the machine's chunks, made lazily."""

    meta: SnapshotMeta
    envelope: bytes
    chunks: Iterator[bytes]


class _Overtaken(Exception):
    """A newer snapshot has replaced the machine's state meanwhile."""


class Snapshotter:
    """Takes a snapshot when enough was applied since the last one, or when asked to.

    Attributes:
        piece_bytes: chunks are handed to the disk in pieces of at least this size.
        on_begun: called with each snapshot that is begun; None: nobody follows.

    Args:
        worker: where files are written and removed, beside the log writer's.
        log_writer: has the log continue a snapshot that is whole.
        wakeup: its own, which the applier sets after each batch.
        no_room: told why there is none on the disk, and None when there is again.
        entries, log_bytes: a snapshot is due after so many entries, or bytes of entries.
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
    ) -> None:
        self.wakeup = wakeup
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
        self._log_bytes_then = 0
        self._retry_at: float | None = None
        self._wanted = False
        self._is_recording = False
        self._ended = trio.Event()
        self._trouble: str | None = None

    # ------------------------------------------------------------ told by others; all return at once

    def recorded(self) -> None:
        """The log continues the snapshot that was taken."""
        self._is_recording = False
        self._end(None)

    def want(self) -> None:
        """A snapshot is needed of what is applied now: the driver, for a member that no older one knows."""
        if not self.is_resting:
            self._wanted = True
            self.wakeup.set()

    async def take(self) -> SnapshotMeta:
        """Take a snapshot now, of all that is applied here, and return what is newest then.

        Raises StorageError where it could not be written. Cancellation lets it be written all the same.
        """
        index = self._applier.position.index
        while self._storage.snapshot.index < index:
            self._wanted = True
            self.wakeup.set()
            await self._ended.wait()
            if self._trouble is not None:
                raise StorageError(self._trouble)
        return self._storage.snapshot

    def close(self, reason: str) -> None:
        """The node stops: whoever waits is told."""
        self._end(reason)

    # ------------------------------------------------------------ the task

    async def run(self) -> None:
        """Take snapshots and tidy until cancelled; raises StorageError where the disk fails.

        Cancellation may leave a file half-written, which the next start removes.
        """
        await run_steps(self.steps(), self._worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises StorageError."""
        while True:
            yield from wait(self.wakeup, self._retry_at)
            if self.is_resting:
                continue
            try:
                if self._storage.is_untidy:  # first: the log's next segment needs less room
                    yield from in_worker(self._storage.tidy)
                if self.is_due():
                    yield from self._write()
                elif self._wanted and not self._is_recording and not self._applier.is_restoring:
                    self._end(None)  # a snapshot that was received has come before it
            except OSError as error:
                self.failed(error)
            else:
                self.tidied()

    def failed(self, error: OSError) -> None:
        """Without room the node takes no new writes, until there is some; any other error ends it.

        Raises StorageError.
        """
        if not is_no_room(error):
            raise StorageError(trouble(error, "a snapshot")) from error
        self._retry_at = self._clock.now() + RETRY_S
        self._end(f"there is no room for a snapshot: {error.strerror}")
        self._no_room("the disk has no room for a snapshot or the log's next segment")

    def tidied(self) -> None:
        """There is a segment ready for the log's next cut."""
        if not self._storage.is_untidy and not self.is_resting:
            self._retry_at = None
            self._no_room(None)

    @property
    def is_resting(self) -> bool:
        """Whether there was no room a moment ago, and nobody has asked since."""
        return self._retry_at is not None and self._clock.now() < self._retry_at and not self._wanted

    def is_due(self) -> bool:
        """Whether a snapshot is to be begun now."""
        position, newest = self._applier.position, self._storage.snapshot
        if self._is_recording or self._applier.is_restoring or position.index <= newest.index:
            return False
        if self._wanted:
            return True
        return not self.is_resting and (
            position.index - newest.index >= self._entries
            or self._applier.log_bytes - self._log_bytes_then >= self._log_bytes
        )

    def begin(self) -> Pinned:
        """Pin the machine's state as it is."""
        self._retry_at = None
        self._log_bytes_then = self._applier.log_bytes
        envelope = self._applier.membership.envelope.encode()
        return Pinned(self._applier.position, envelope, self._applier.machine.snapshot())

    def finished(self, meta: SnapshotMeta) -> None:
        """The file is whole and durable."""
        self._is_recording = True
        self._log_writer.record(meta, self.recorded)

    def _write(self) -> Steps[None]:
        begun_at = self._clock.now()
        restores = self._applier.restores
        meta, envelope, chunks = self.begin()
        if self.on_begun is not None:
            self.on_begun(meta)
        file = yield from in_worker(self._storage.begin_snapshot, meta, envelope)
        try:
            while piece := (yield from self._next_piece(chunks, restores)):
                yield from in_worker(file.write, piece)
                if self._storage.is_untidy:  # the log has taken its spare segment meanwhile
                    yield from in_worker(self._storage.tidy)
            yield from in_worker(file.finish)
        except (OSError, _Overtaken) as error:
            yield from in_worker(file.abandon)
            if isinstance(error, OSError):
                raise
            self._end(None)
            return
        except BaseException:
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
        """Some more chunks, made between the event loop's other work; empty at the end."""
        piece: list[bytes] = []
        size = 0
        while size < self.piece_bytes:
            yield from checkpoint()
            if self._applier.restores != restores:
                raise _Overtaken
            chunk = next(chunks, None)
            if chunk is None:
                break
            piece.append(chunk)
            size += len(chunk)
        return piece

    def _end(self, trouble: str | None) -> None:
        self._wanted, self._trouble = False, trouble
        self._ended.set()
        self._ended = trio.Event()
        self.wakeup.set()
