"""Completions: what the log writer and the applier have done, and what the applier does next.

The core runs with asynchronous storage writes (`Config.async_storage_writes`): its Ready asks for work, and
each piece of work carries the responses that may be delivered once it is done. This module delivers them:

- a write that is durable goes into `log`, the memory from which the core reads entries; then its responses
  are delivered. Votes, append responses and the leader's own acknowledgement are such responses, so none of
  them can leave before the write is durable (dissertation, section 10.2.1);
- a batch that is applied switches the core's configuration; then its responses are delivered.

The applier has one thing at a time: a batch of entries, or a snapshot that replaces the machine's state.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from raftkv_trio.node.applier import Commits, Restore
from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.raft.confchange import decode_conf_change
from raftkv_trio.raft.errors import InvalidConfiguration, PeerNotFound
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage, payloads_size
from raftkv_trio.raft.types import EntryType, HardState, Message
from raftkv_trio.storage import SnapshotMeta
from raftkv_trio.sync import Wakeup


class Completions:
    """Keeps completions until the driver's next turn, and gives the applier its next work.

    Attributes:
        is_waited_for: whether the driver has something that may go on when entries are applied.

    Args:
        log: the durable log, as the core reads it.
        wakeup: the driver's; set where the driver has something to do at once.
        commits: to the applier; the driver's task closes it.
        catching_up: says what lagging members need beyond that.
        pinned_index: of the snapshot that is being taken; None if none is.
        catch_up_entries, catch_up_bytes: how much of what is applied stays in `log`, at most.
        snapshot_entries, snapshot_log_bytes: when a snapshot is due at the earliest.
    """

    def __init__(
        self,
        raw: RawNode,
        log: MemoryStorage,
        wakeup: Wakeup,
        commits: trio.MemorySendChannel[Commits],
        catching_up: CatchingUp,
        pinned_index: Callable[[], int | None],
        *,
        catch_up_entries: int,
        catch_up_bytes: int,
        snapshot_entries: int,
        snapshot_log_bytes: int,
    ) -> None:
        self.commits = commits
        self._raw = raw
        self._log = log
        self._wakeup = wakeup
        self._catching_up = catching_up
        self._catch_up_entries = catch_up_entries
        self._catch_up_bytes = catch_up_bytes
        self._pinned_index = pinned_index
        # The log is compacted at the latest when so much is applied since the last time.
        self._max_applied_entries = snapshot_entries + catch_up_entries
        self._max_applied_bytes = snapshot_log_bytes + catch_up_bytes
        self._compacted_at = 0  # what was the last index to drop then, had nobody needed it
        self._applied_bytes = 0  # since then
        self._durable: deque[Message] = deque()
        self._recorded: SnapshotMeta | None = None
        self._to_apply: list[Message] = []
        self._applying: list[Message] = []
        self._to_restore: Message | None = None
        self._is_applier_busy = False
        self._is_applied = False
        self.is_waited_for = False

    # ------------------------------------------------------------ by other tasks; all return at once

    def durable(self, messages: Sequence[Message]) -> None:
        """The log writer: these STORAGE_APPENDs are on the disk, including the snapshots in them."""
        self._durable.extend(messages)
        self._wakeup.set()

    def recorded(self, snapshot: SnapshotMeta) -> None:
        """The log writer: the log on the disk continues this snapshot, which this node took itself."""
        self._recorded = snapshot
        self._wakeup.set()

    def applied(self) -> None:
        """The applier: everything that it was given is applied."""
        self._is_applied = True
        if self.is_waited_for or self._must_be_heard():
            self._wakeup.set()

    def _must_be_heard(self) -> bool:
        """Whether the driver must hear at once that the applier is done, although nothing waits for it.

        If not, the next turn is soon enough, at the next tick if nothing else comes. Under a single client
        that spares one turn in three.
        """
        if not self._applying:  # a snapshot was restored
            return True
        if self._raw.commit > self._applying[-1].entries[-1].index:  # there is more to apply
            return True
        return any(e.type is not EntryType.NORMAL for message in self._applying for e in message.entries)

    # ------------------------------------------------------------ by the driver: what is done

    def take(self, peers: PeerTransport) -> None:
        """Tell the core what is applied and durable, and send what had to wait for that."""
        to_peers: dict[int, list[Message]] = {}
        if self._is_applied:
            self._is_applied = self._is_applier_busy = False
            self._take_applied(to_peers)
        # A write with a snapshot is complete only when the state machine has the snapshot too. If the core
        # learnt of it earlier, it could hand out entries behind the snapshot, and report an applied index
        # that the machine has not reached. The writes after it wait as well: responses are in order.
        while self._durable and self._to_restore is None:
            message = self._durable.popleft()
            if message.snapshot is not None:
                self._to_restore = message
            else:
                self._take_durable(message, to_peers)
        # If the outbox is full the responses are lost, as any message may be: the leader sends again.
        for peer_id, responses in to_peers.items():
            peers.offer(peer_id, responses)
        self._compact()

    def _take_applied(self, to_peers: dict[int, list[Message]]) -> None:
        applying, self._applying = self._applying, []
        for message in applying:
            for entry in message.entries:
                # A configuration takes effect in the core when its entry is applied, as in etcd, and not when
                # it is appended, as in section 6 of the paper. The applier only changes `Membership`: the
                # core belongs to the driver.
                if entry.type is not EntryType.NORMAL:
                    # One that does not fit changes nothing here, as in `Membership`.
                    with suppress(InvalidConfiguration):
                        self._raw.apply_conf_change(decode_conf_change(entry))
            self._applied_bytes += payloads_size(message.entries)
            self._deliver(message.responses, to_peers)
        if not applying and self._to_restore is not None:
            restored, self._to_restore = self._to_restore, None
            assert restored.snapshot is not None
            self._log.apply_snapshot(restored.snapshot)
            self._take_durable(restored, to_peers)

    def _take_durable(self, message: Message, to_peers: dict[int, list[Message]]) -> None:
        # First the log, then the responses: on a response the core drops the entries from its own memory of
        # what is not stable yet, and reads them from `log` from then on.
        if message.entries:
            self._log.append(message.entries)
        if message.term:
            self._log.set_hard_state(HardState(message.term, message.vote, message.commit))
        self._deliver(message.responses, to_peers)

    def _deliver(self, responses: Sequence[Message], to_peers: dict[int, list[Message]]) -> None:
        """Step the responses to this node's own core, and add those to others to `to_peers`."""
        for response in responses:
            if response.to == self._raw.id:
                # A leader may have appended more entries before it applied its own removal. Their responses
                # come from a node that is no member any more, and count for nothing.
                with suppress(PeerNotFound):
                    self._raw.step(response)
            else:
                to_peers.setdefault(response.to, []).append(response)

    def _compact(self) -> None:
        """Drop entries from memory: those that a recorded snapshot covers, or that were applied long ago.

        The disk has them as long as no snapshot covers them, for the next start. A member that lacks an entry
        that memory has no more is sent a snapshot, before which a new one is taken (`CatchingUp`).
        """
        snapshot, self._recorded = self._recorded, None
        # A snapshot from a leader may have replaced the whole log in the meantime.
        if snapshot is not None and snapshot.index > self._log.newest_snapshot.index:
            self._log.create_snapshot(snapshot.index, snapshot.conf_state, b"")
            self._compact_to(snapshot.index)
            return
        # Snapshots of a large state are far apart. The memory must not grow with the log in between, so it is
        # compacted where a snapshot of a small state would have done it.
        applied = self._raw.applied
        behind = applied - max(self._compacted_at, self._log.first_index() - 1)
        if behind >= self._max_applied_entries or self._applied_bytes >= self._max_applied_bytes:
            # Whoever is sent the snapshot that is being taken needs what is behind it.
            pinned = self._pinned_index()
            self._compact_to(applied if pinned is None else min(applied, pinned))
            self._compacted_at = applied

    def _compact_to(self, index: int) -> None:
        """Drop entries up to `index`, except the newest of them, and those that lagging followers need."""
        self._compacted_at, self._applied_bytes = index, 0
        # A follower that lacks an entry which is dropped here is sent a whole snapshot. A follower that is
        # slow for a moment must not cost that, so the newest of these entries stay.
        first = self._log.first_index()
        if index < first:  # nothing is there to drop: a leader's snapshot has overtaken the one that is taken
            return
        old = self._log.entries(first, index + 1, None)[-self._catch_up_entries :]
        kept_bytes, keep_from = 0, index + 1
        for entry in reversed(old if self._catch_up_entries else ()):
            kept_bytes += len(entry.data)
            if kept_bytes > self._catch_up_bytes:
                break
            keep_from = entry.index
        keep_from = self._catching_up.keep_from(keep_from)
        if keep_from > first:
            self._log.compact(keep_from - 1)

    # ------------------------------------------------------------ by the driver: what is next

    def to_apply(self, message: Message) -> None:
        """Queue one STORAGE_APPLY for the applier."""
        self._to_apply.append(message)

    def feed_applier(self) -> None:
        """Unless the applier is busy, give it everything that is committed; or else a snapshot to restore."""
        # One batch at a time bounds the commit stream, so that `send_nowait` cannot fail and the driver never
        # waits. What is committed meanwhile becomes one larger batch.
        if self._is_applier_busy:
            return
        if self._to_apply:
            self._applying, self._to_apply = self._to_apply, []
            self.commits.send_nowait([entry for message in self._applying for entry in message.entries])
        elif self._to_restore is not None and self._to_restore.snapshot is not None:
            # Only now, behind all entries that were handed out before the snapshot was received: a restore
            # before them would be followed by entries that the snapshot includes already.
            self.commits.send_nowait(Restore(self._to_restore.snapshot))
        else:
            return
        self._is_applier_busy = True
