"""The driver's part that deals with log writer and applier: what they answer, and what is applied next.

What is durable goes into the log that the core reads, and only then are its responses delivered. The applier
has one thing at a time: a batch of entries, or a snapshot behind all that were handed out before it.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import trio

from raftkv_trio.node.applier import Commits, Restore
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.raft.confchange import decode_conf_change
from raftkv_trio.raft.errors import PeerNotFound
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import EntryType, HardState, Message
from raftkv_trio.storage import SnapshotMeta
from raftkv_trio.sync import Wakeup


class Completions:
    """Takes the answers of log writer and applier once a turn, and feeds the applier at its end.

    Args:
        log: what the core reads, and what is durable.
        wakeup: the driver's.
        commits: to the applier; whoever runs the driver closes it.
        catch_up_entries, catch_up_bytes: of what a snapshot covers, at most so much stays in `log`.
    """

    def __init__(
        self,
        raw: RawNode,
        log: MemoryStorage,
        wakeup: Wakeup,
        commits: trio.MemorySendChannel[Commits],
        *,
        catch_up_entries: int,
        catch_up_bytes: int,
    ) -> None:
        self.commits = commits
        self._raw = raw
        self._log = log
        self._wakeup = wakeup
        self._catch_up_entries = catch_up_entries
        self._catch_up_bytes = catch_up_bytes
        self._durable: deque[Message] = deque()
        self._to_apply: list[Message] = []
        self._applying: list[Message] = []
        self._is_feeding = False  # the applier has a batch, or a snapshot
        self._applied = False
        self._restoring: Message | None = None
        self._recorded: SnapshotMeta | None = None

    # ------------------------------------------------------------ what other tasks tell; all return at once

    def durable(self, messages: Sequence[Message]) -> None:
        """The log writer: these STORAGE_APPENDs are on disk, with the snapshots that they hold."""
        self._durable.extend(messages)
        self._wakeup.set()

    def applied(self) -> None:
        """The applier: what was on the commit stream is applied."""
        self._applied = True
        self._wakeup.set()

    def recorded(self, snapshot: SnapshotMeta) -> None:
        """The log writer: a snapshot of this node's own stands in for all entries up to it."""
        self._recorded = snapshot
        self._wakeup.set()

    # ------------------------------------------------------------ by the driver

    def take(self, peers: PeerTransport) -> None:
        """Step the core with what is applied and durable, and send what had to wait for it."""
        if self._applied:
            self._applied = self._is_feeding = False
            applying, self._applying = self._applying, []
            for message in applying:
                for entry in message.entries:
                    if entry.type is not EntryType.NORMAL:
                        self._raw.apply_conf_change(decode_conf_change(entry))
                self._deliver(message.responses, peers)
            if not applying and self._restoring is not None:
                self._restored(self._restoring, peers)
        while self._durable and self._restoring is None:
            message = self._durable.popleft()
            if message.snapshot is not None:  # it and what follows it is answered once the machine has it
                self._restoring = message
            else:
                self._now_durable(message, peers)
        self._compact()

    def _now_durable(self, message: Message, peers: PeerTransport) -> None:
        if message.entries:
            self._log.append(message.entries)
        if message.term:
            self._log.set_hard_state(HardState(message.term, message.vote, message.commit))
        self._deliver(message.responses, peers)

    def _restored(self, message: Message, peers: PeerTransport) -> None:
        self._restoring = None
        assert message.snapshot is not None
        self._log.apply_snapshot(message.snapshot)
        self._now_durable(message, peers)

    def _compact(self) -> None:
        """Let a snapshot stand in for the entries in memory, but for those that laggards may ask for."""
        snapshot, self._recorded = self._recorded, None
        if snapshot is None or snapshot.index <= self._log.snapshot().index:
            return
        self._log.create_snapshot(snapshot.index, snapshot.conf_state, b"")
        first = self._log.first_index()
        behind = self._log.entries(first, snapshot.index + 1, None)[-self._catch_up_entries :]
        kept_bytes, keep_from = 0, snapshot.index + 1
        for entry in reversed(behind if self._catch_up_entries else ()):
            kept_bytes += len(entry.data)
            if kept_bytes > self._catch_up_bytes:
                break
            keep_from = entry.index
        if keep_from > first:
            self._log.compact(keep_from - 1)

    def _deliver(self, responses: Sequence[Message], peers: PeerTransport) -> None:
        for response in responses:
            if response.to == self._raw.id:
                # A leader that has applied its own removal may have written later entries meanwhile.
                with suppress(PeerNotFound):
                    self._raw.step(response)
            else:
                peers.offer(response.to, (response,))

    # ------------------------------------------------------------ the commit stream

    def to_apply(self, message: Message) -> None:
        """Queue one STORAGE_APPLY."""
        self._to_apply.append(message)

    def feed(self) -> None:
        """Unless the applier is busy, give it what is next: entries, and behind all of them, a snapshot."""
        if self._is_feeding:
            return
        if self._to_apply:
            self._applying, self._to_apply = self._to_apply, []
            self.commits.send_nowait([entry for message in self._applying for entry in message.entries])
        elif self._restoring is not None and self._restoring.snapshot is not None:
            self.commits.send_nowait(Restore(self._restoring.snapshot))
        else:
            return
        self._is_feeding = True
