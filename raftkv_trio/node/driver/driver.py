"""The raft driver: the one task that touches the core. It waits for its wakeup and for nothing else.

In each turn it drains its sources in this order: completions of log writer and applier; what peers sent; a
tick; proposals and reads. Then it hands out what the core made of them. Completions come first because they
free what the rest waits for; messages of peers come before a tick so that a node that was paused hears the
heartbeats that wait for it before it thinks of an election.
"""

import logging
from collections.abc import Callable, Sequence

from raftkv_trio.errors import RaftError
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.completions import Completions
from raftkv_trio.node.driver.known_leader import KnownLeader
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.driver.membership_changes import MembershipChanges
from raftkv_trio.node.driver.peer_reports import PeerReports
from raftkv_trio.node.driver.proposing import Proposer
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.measures import RoundTrips
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.node.reads import PendingReads
from raftkv_trio.peers.incoming import InboxItem, ReceivedSnapshot
from raftkv_trio.peers.outbox import Item, PeerTransport
from raftkv_trio.peers.wire import Forward, ForwardChange, Refused
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    Message,
    MessageType,
    Ready,
    StateRole,
)
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

_FOR_A_LEADER = (MessageType.READ_INDEX, MessageType.TRANSFER_LEADER)
_HEARTBEATS = (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP)


class Driver:
    """Turns what the other tasks give it into steps of the core, and its Ready into work for the other tasks.

    Attributes:
        wakeup: set by every task that gives the driver something to do.
        on_turned: called after each turn; None: nobody follows.

    Args:
        inbox: what the peers sent.
        completions: what the log writer and the applier report.
        reports: what the connections to the peers report.
        peers: takes what is for them.
    """

    def __init__(
        self,
        *,
        raw: RawNode,
        wakeup: Wakeup,
        inbox: ByteBoundedQueue[tuple[int, InboxItem]],
        completions: Completions,
        reports: PeerReports,
        proposals: ProposalTable,
        reads: PendingReads,
        proposer: Proposer,
        changes: MembershipChanges,
        active: ActiveMembers,
        leader: KnownLeader,
        leadership_transfer: LeadershipTransfer,
        log_writer: LogWriter,
        peers: PeerTransport,
        clock: Clock,
        tick_interval_s: float,
    ) -> None:
        self.raw = raw
        self.wakeup = wakeup
        self.changes = changes
        self._active = active
        self._leader = leader
        self._leadership_transfer = leadership_transfer
        self.on_turned: Callable[[], None] | None = None
        self._inbox = inbox
        self._completions = completions
        self._reports = reports
        self._proposals = proposals
        self._reads = reads
        self._proposer = proposer
        self._log_writer = log_writer
        self._peers = peers
        self._clock = clock
        self._tick_interval_s = tick_interval_s
        self._tick_due = False
        self.round_trips = RoundTrips()

    # ------------------------------------------------------------ what other tasks tell; all return at once

    def tick_due(self) -> None:
        """A tick's time has come; two that come before the next turn are one."""
        self._tick_due = True
        self.wakeup.set()

    # ------------------------------------------------------------ the tasks

    async def tick(self, first_tick_s: float) -> None:
        """Ask for a tick every interval, the first after `first_tick_s`; missed ones are not made up for."""
        due = self._clock.now() + first_tick_s
        while True:
            await self._clock.sleep_until(due)
            self.tick_due()
            due += self._tick_interval_s
            if due <= self._clock.now():
                due = self._clock.now() + self._tick_interval_s

    async def run(self) -> None:
        """Drive until cancelled. Cancellation falls between turns, never inside one."""
        with self._completions.commits:
            self.start()
            while True:
                await self.wakeup.wait()
                self.turn()

    # ------------------------------------------------------------ turns; synchronous

    def start(self) -> None:
        """What comes before the first turn."""
        if self.raw.status().configuration.voters == (self.raw.id,):
            self.raw.campaign()  # nobody else could be leading
        self._hand_out()

    def turn(self) -> None:
        """Drain all sources, in their order, and hand out what came of it; due when the wakeup was set."""
        self._completions.take(self._peers)
        self._reports.take(self.raw)
        self._take_messages()
        self._take_tick()
        self._leadership_transfer.begin_if_requested()
        self._proposer.propose(self._peers)
        self._read()
        self._hand_out()
        self._leader.turned()
        if self.on_turned is not None:
            self.on_turned()

    # ------------------------------------------------------------ source 2: peers

    def _take_messages(self) -> None:
        messages: list[tuple[int, Message]] = []
        for peer_id, frame in self._inbox.drain():
            if isinstance(frame, Forward | ForwardChange):
                self._proposer.forwarded(peer_id, frame)
            elif isinstance(frame, ReceivedSnapshot):
                messages.append((peer_id, frame.message))
            elif isinstance(frame, Refused):
                self._proposer.refused(frame)
            else:
                messages += [(peer_id, message) for message in frame]
        for peer_id, message in without_superseded_heartbeats(messages):
            self._step(peer_id, message)

    def _step(self, peer_id: int, message: Message) -> None:
        if message.type in _FOR_A_LEADER and self.raw.role is not StateRole.LEADER:
            return  # passed on it would come on a stream that is not its sender's; who asks, asks again
        if self._is_full() and any(entry.data for entry in message.entries):
            return  # the leader sends it again; a new leader's empty entry is taken, or nobody could read
        try:
            self.raw.step(message)
        except RaftError as error:
            logger.warning("message %s of node %d is dropped: %s", message.type.name, peer_id, error)
            return
        self._active.heard(peer_id)
        if message.type is MessageType.APP_RESP and not message.reject and message.term == self.raw.term:
            self.round_trips.durable(peer_id, message.index, self._clock.now())
        if peer_id == self.raw.leader_id and message.term == self.raw.term:
            self._leader.heard()

    def _is_full(self) -> bool:
        """Whether the disk has no room, and what is left of the log is for votes and hard states."""
        return self._proposals.no_room is not None and not self._log_writer.has_room

    # ------------------------------------------------------------ source 3: time

    def _take_tick(self) -> None:
        if self._tick_due:
            self._tick_due = False
            self.raw.tick()
            self._leadership_transfer.tick(self._log_writer.writing_since)
            self._reads.tick()
            self._proposals.retry_refused()
            self.changes.tick()

    # ------------------------------------------------------------ source 4: proposals and reads

    def _read(self) -> None:
        if self.raw.leader_id is not None and (context := self._reads.next_context()) is not None:
            self.raw.read_index(context)

    # ------------------------------------------------------------ what the core wants done

    def _hand_out(self) -> None:
        while self.raw.has_ready():
            ready = self.raw.ready()
            self._note_soft_state(ready)
            self._reads.answered(ready.read_states)
            to_peers: dict[int, list[Item]] = {}
            for message in ready.messages:
                if message.to == APPEND_THREAD:
                    self._log_writer.submit(message)
                elif message.to == APPLY_THREAD:
                    self._completions.to_apply(message)
                elif message.type is MessageType.SNAP:
                    if not self._peers.send_snapshot(message):
                        self._reports.snapshot_sent(message.to, False)
                else:
                    to_peers.setdefault(message.to, []).append(message)
            for peer_id, messages in to_peers.items():
                if not self._peers.offer(peer_id, messages):
                    self._reports.dropped(peer_id)
                elif appended := _last_entry_index(messages):
                    self.round_trips.sent(peer_id, appended, self._clock.now())
        self._completions.feed()

    def _note_soft_state(self, ready: Ready) -> None:
        if ready.soft_state is None:
            return
        self._leader.update(ready.soft_state, self.raw.term)
        self._reads.leader_changed()
        self.round_trips.forget()
        if ready.soft_state.leader_id is not None:
            self.wakeup.set()  # proposals and reads may have waited for it


def _last_entry_index(items: Sequence[Item]) -> int | None:
    entries = [i.entries for i in items if isinstance(i, Message) and i.type is MessageType.APP and i.entries]
    return entries[-1][-1].index if entries else None


def without_superseded_heartbeats(messages: Sequence[tuple[int, Message]]) -> list[tuple[int, Message]]:
    """All of `messages` but the heartbeats, and answers to some, that a later one of the same term follows.

    The later one says all that they said. Every read sends heartbeats, so that thousands may wait for a node
    that was paused; the core would answer each, and send to each answer all entries that the node lacks.
    """
    seen: set[tuple[int, MessageType, int]] = set()
    kept: list[tuple[int, Message]] = []
    for peer_id, message in reversed(messages):
        if message.type in _HEARTBEATS:
            beat = (peer_id, message.type, message.term)
            if beat in seen:
                continue
            seen.add(beat)
        kept.append((peer_id, message))
    kept.reverse()
    return kept
