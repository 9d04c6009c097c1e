"""The driver: the only task that touches the core. It waits for its wakeup, and for nothing else.

In each turn the driver drains its sources in this order:

1. completions of the log writer and the applier. They come first because they free what the rest waits for:
   room in the uncommitted limit, and the responses that wait for the disk.
2. messages of peers. They come before a tick, so that a node that was paused steps the heartbeats that wait
   in its inbox before its election clock runs on. Otherwise each pause would end in an election.
3. a tick, if its time has come.
4. proposals and reads, in one batch each.

Then it processes what the core made of all this, its Readies. A turn is synchronous. So cancellation falls
between two turns, where the core, the log in memory and the tables of proposals and reads are consistent.
"""

import logging
from collections.abc import Callable, Sequence

from raftkv_trio.errors import RaftError
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.admission import Admission
from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.node.driver.commit_news import CommitNews
from raftkv_trio.node.driver.completions import Completions
from raftkv_trio.node.driver.feature_levels import FeatureLevels
from raftkv_trio.node.driver.known_leader import KnownLeader
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.driver.membership_changes import MembershipChanges
from raftkv_trio.node.driver.peer_reports import PeerReports
from raftkv_trio.node.driver.proposing import Proposer
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.lost_entries import LostEntries
from raftkv_trio.node.measures import RoundTrips
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.node.reads import PendingReads
from raftkv_trio.node.tracing import Tracer
from raftkv_trio.peers.incoming import InboxItem, ReceivedSnapshot
from raftkv_trio.peers.outbox import Item, PeerTransport
from raftkv_trio.peers.wire import Forward, ForwardChange, Members, MembersQuery, Refused, SingleFrame
from raftkv_trio.raft.errors import AcknowledgedEntriesLost
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    Message,
    MessageType,
    Ready,
    Snapshot,
    StateRole,
)
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

_FOR_A_LEADER = (MessageType.READ_INDEX, MessageType.TRANSFER_LEADER)
_LOG_INTERVAL_S = 60.0
#: Of these only the last one of a peer and term counts; of answers to appends, see `without_superseded`.
_REPEATED = (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP, MessageType.READ_INDEX)


class Driver:
    """Turns what other tasks give it into steps of the core, and Readies into work for other tasks.

    Attributes:
        wakeup: set by every task that gives the driver something to do.
        on_turned: called after each turn, for the simulator; None by default.

    Args:
        inbox: what the peers sent.
        completions: what the log writer and the applier report.
        reports: what the connections to the peers report.
        snapshot_stepped: called with each received snapshot when the core has taken or ignored it.
        peers: takes what is for them.
        tracer: told which entries have left, are durable elsewhere, or are committed.
    """

    def __init__(
        self,
        *,
        raw: RawNode,
        wakeup: Wakeup,
        admission: Admission,
        known: KnownNodes,
        inbox: ByteBoundedQueue[tuple[int, InboxItem]],
        completions: Completions,
        reports: PeerReports,
        proposals: ProposalTable,
        reads: PendingReads,
        proposer: Proposer,
        changes: MembershipChanges,
        levels: FeatureLevels,
        active: ActiveMembers,
        catching_up: CatchingUp,
        news: CommitNews,
        leader: KnownLeader,
        leadership_transfer: LeadershipTransfer,
        lost_entries: LostEntries,
        log_writer: LogWriter,
        snapshot_stepped: Callable[[Snapshot], None],
        peers: PeerTransport,
        clock: Clock,
        tracer: Tracer,
        tick_interval_s: float,
    ) -> None:
        self.wakeup = wakeup
        self._raw = raw
        self._admission = admission
        self._known = known
        self._changes = changes
        self._levels = levels
        self._active = active
        self._catching_up = catching_up
        self._news = news
        self._leader = leader
        self._leadership_transfer = leadership_transfer
        self._lost_entries = lost_entries
        self.on_turned: Callable[[], None] | None = None
        self._inbox = inbox
        self._completions = completions
        self._reports = reports
        self._proposals = proposals
        self._reads = reads
        self._proposer = proposer
        self._log_writer = log_writer
        self._snapshot_stepped = snapshot_stepped
        self._peers = peers
        self._clock = clock
        self._tracer = tracer
        self._tick_interval_s = tick_interval_s
        self._tick_due = False
        self._refusal_is_logged_from = clock.now()
        self.round_trips = RoundTrips()

    # ------------------------------------------------------------ the two tasks

    async def run_clock(self, first_tick_s: float) -> None:
        """Ask for a tick in every interval, for the first one after `first_tick_s`, until cancelled."""
        due = self._clock.now() + first_tick_s
        while True:
            await self._clock.sleep_until(due)
            self.tick_due()
            due += self._tick_interval_s
            # After a pause (SIGSTOP, a long garbage collection) missed ticks are not made up for: in that
            # time this node could hear from nobody, so the time says nothing about the leader.
            if due <= self._clock.now():
                due = self._clock.now() + self._tick_interval_s

    def tick_due(self) -> None:
        """The time of a tick has come. If two come before the next turn, they are one."""
        self._tick_due = True
        self.wakeup.set()

    async def run(self) -> None:
        """Drive the core until cancelled. Cancellation falls between turns, never inside one."""
        # Closing the commit stream ends the applier too, if the driver should end first.
        with self._completions.commits:
            self.start()
            while True:
                await self.wakeup.wait()
                self.turn()

    # ------------------------------------------------------------ turns; synchronous

    def start(self) -> None:
        """Do what comes before the first turn."""
        # A single voter needs no election timeout: no other node can be the leader.
        if self._raw.status().configuration.voters == (self._raw.id,):
            self._raw.campaign()
        self._process_readies()

    def turn(self) -> None:
        """Drain all sources, in their order, and process the Readies; due when the wakeup was set."""
        self._completions.take(self._peers)
        self._reports.take(self._raw)
        self._take_messages()
        self._take_tick()
        # Before the proposals: once a transfer has begun the core accepts none. They stay queued here,
        # certainly not applied, and go to the next leader.
        self._leadership_transfer.begin_if_wanted()
        self._proposer.propose(self._peers)
        self._read()
        self._process_readies()
        # What is queued still may wait for room among the entries that are not applied, or for a change of
        # the members, which may wait for the entries of an earlier leader.
        self._completions.is_waited_for = (
            self._proposals.has_queued or bool(self._proposals.queued_changes) or self._raw.is_changing
        )
        self._leader.turned()
        if self.on_turned is not None:
            self.on_turned()

    # ------------------------------------------------------------ source 2: messages of peers

    def _take_messages(self) -> None:
        messages: list[tuple[int, Message]] = []
        for peer_id, frame in self._inbox.drain():
            # The snapshot's file is whole and durable here, or the frame would not have come. So what the
            # core then asks the log writer for is only to let the log continue that file.
            if isinstance(frame, ReceivedSnapshot):
                messages.append((peer_id, frame.message))
            elif isinstance(frame, SingleFrame):
                self._take_frame(peer_id, frame)
            else:
                messages += [(peer_id, message) for message in frame]
        for peer_id, message in without_superseded(messages):
            self._step(peer_id, message)
        # After all of them: there may be two messages of one snapshot, and the core may take the second one.
        for _, message in messages:
            if message.type is MessageType.SNAP:
                assert message.snapshot is not None
                self._snapshot_stepped(message.snapshot)

    def _take_frame(self, peer_id: int, frame: SingleFrame) -> None:
        if not self._admission.admits(peer_id, frame):
            return
        match frame:
            # Forwarded proposals are only collected here; the turn appends them after its tick.
            case Forward() | ForwardChange():
                self._news.is_wanted_by(peer_id)
                self._proposer.forwarded(peer_id, frame)
            case Refused():
                self._proposer.refused(peer_id, frame)
            case MembersQuery():
                self._known.asked(peer_id, self._peers)
            case Members():
                self._known.told(peer_id, frame)

    def _step(self, peer_id: int, message: Message) -> None:
        if self._lost_entries.reason is not None or not self._admission.admits(peer_id, message):
            return
        if (term := self._admission.term_on_the_way(message)) is not None:
            self._raw.enter_term(term)
            return
        # The core would forward these to the leader it knows, with the original sender in them. The leader
        # refuses such a message: on a stream, a member may only speak for itself. Dropping is safe, because
        # the sender repeats a read after a few ticks, and a transfer is only a wish.
        if message.type in _FOR_A_LEADER and self._raw.role is not StateRole.LEADER:
            return
        # As a leader this node would only transfer leadership again. The leader waits a while for it to take
        # over, and tries the next candidate.
        if message.type is MessageType.TIMEOUT_NOW and self._leadership_transfer.should_not_lead:
            self._log_refusal_to_lead(peer_id)
            return
        # What is left of the disk is for votes and hard states. A dropped append is a lost message: nothing
        # is acknowledged, and the leader sends it again. But a new leader's empty entry needs little room,
        # and nobody could read before it is committed (section 8), so that one is taken.
        if self._is_full() and any(entry.data for entry in message.entries):
            return
        appendable = self._admission.appendable(message)
        if appendable is None:
            return
        try:
            self._raw.step(self._admission.believed(appendable))
        except AcknowledgedEntriesLost as error:
            self._lost_entries.noticed(error)
            return
        except RaftError as error:
            # No correct member sends such a message. The core has not changed, and the voter goes on.
            self._admission.refused_by_core(peer_id, message, error)
            return
        # Only now: a message that the core refuses is no sign of a working member.
        self._active.heard(peer_id)
        # An answer of an earlier term belongs to an append that is not timed any more.
        if message.type is MessageType.APP_RESP and not message.reject and message.term == self._raw.term:
            self.round_trips.durable(peer_id, message.index, self._clock.now())
            if self._tracer.is_on:
                self._tracer.reached(f"durable-at-{peer_id}", message.index)
        # Nor does the message of a leader that was deposed count as contact with the leader.
        if peer_id == self._raw.leader_id and message.term == self._raw.term:
            self._leader.heard()

    def _log_refusal_to_lead(self, peer_id: int) -> None:
        # The leader asks again every few seconds if it should not lead either, maybe for hours.
        if (now := self._clock.now()) >= self._refusal_is_logged_from:
            self._refusal_is_logged_from = now + _LOG_INTERVAL_S
            logger.info("node %d wants this node to lead, which it should not do now", peer_id)

    def _is_full(self) -> bool:
        """Whether the disk has no room, and the rest of the log is reserved for votes and hard states."""
        return self._proposals.disk_shortage is not None and not self._log_writer.has_room

    # ------------------------------------------------------------ source 3: a tick

    def _take_tick(self) -> None:
        # Each of these looks at the state as it is, not at events. So nothing waits for ever because an event
        # was lost: a read without an answer, a refused proposal, a learner that has caught up.
        if self._tick_due:
            self._tick_due = False
            self._raw.tick()
            self._admission.tick()
            self._lost_entries.tick()
            self._known.tick(self._peers)
            self._active.tick()
            self._catching_up.tick()
            self._leadership_transfer.tick(self._log_writer.writing_since)
            self._reads.tick()
            self._proposals.retry_refused()
            self._changes.tick()
            self._levels.tick(self._peers)

    # ------------------------------------------------------------ source 4: proposals and reads

    def _read(self) -> None:
        # Without a leader the core would drop the request, and the round would wait for some ticks more.
        if self._raw.leader_id is not None and (context := self._reads.next_context()) is not None:
            self._raw.read_index(context)

    # ------------------------------------------------------------ what the core asks for

    def _process_readies(self) -> None:
        while self._raw.has_ready():
            ready = self._raw.ready()
            self._note_soft_state(ready)
            self._known.appended(ready.entries)
            self._levels.appended(ready.entries)
            self._reads.answered(ready.read_states)
            to_peers: dict[int, list[Item]] = {}
            # Messages leave before the entries of this Ready are durable here. That is safe (dissertation,
            # section 10.2.1): a leader counts itself only when its own write has completed, and every message
            # that promises durability comes as a response of the write, through `Completions`.
            for message in ready.messages:
                if message.to == APPEND_THREAD:
                    self._log_writer.submit(message)
                elif message.to == APPLY_THREAD:
                    self._completions.to_apply(message)
                    self._news.committed(message.entries)
                    if self._tracer.is_on and message.entries:
                        self._tracer.reached("committed", message.entries[-1].index)
                elif message.type is MessageType.SNAP:
                    # The leader sends nothing else to that member until it hears how the snapshot ended.
                    if not self._peers.send_snapshot(message):
                        self._reports.snapshot_sent(message.to, False)
                else:
                    to_peers.setdefault(message.to, []).append(message)
            for peer_id, messages in to_peers.items():
                # What this node has said while it led may be among them.
                if self._raw.role is StateRole.LEADER:
                    messages = self._news.leaving(peer_id, messages)
                if messages:
                    self._send(peer_id, messages)
        for peer_id, news in self._news.take_due():
            self._send(peer_id, [news])
        self._completions.feed_applier()

    def _send(self, peer_id: int, messages: list[Item]) -> None:
        # An outbox without room drops messages. That is safe: the core hears that the peer is unreachable,
        # probes it, and sends again what it lacks.
        if not self._peers.offer(peer_id, messages):
            self._reports.dropped(peer_id)
        elif appended := _last_entry_index(messages):
            self.round_trips.sent(peer_id, appended, self._clock.now())
            if self._tracer.is_on:
                self._tracer.reached("sent", appended)

    def _note_soft_state(self, ready: Ready) -> None:
        """Tell all who depend on the leader that the leader, or this node's role, has changed."""
        if ready.soft_state is None:
            return
        self._leader.update(ready.soft_state, self._raw.term)
        self._reads.leader_changed()
        self._news.leader_changed()
        self.round_trips.forget()
        # Proposals and reads wait while no leader is known; the next turn sends them.
        if ready.soft_state.leader_id is not None:
            self.wakeup.set()


def _last_entry_index(items: Sequence[Item]) -> int | None:
    entries = [i.entries for i in items if isinstance(i, Message) and i.type is MessageType.APP and i.entries]
    return entries[-1][-1].index if entries else None


def without_superseded(messages: Sequence[tuple[int, Message]]) -> list[tuple[int, Message]]:
    """`messages` without heartbeats, reads, and answers, that a later one of that peer supersedes.

    Every ReadIndex round sends heartbeats, so thousands of them may wait for a node that was paused. The core
    would answer each heartbeat, and react to each answer by sending all entries that the follower lacks.

    Each read that is asked for makes the leader send such a round. A node asks for a read again, under a new
    context, only because the one before was not answered. So the last one stands for all.

    An answer to an append says up to where the follower has the log, or that it refuses one. Each may make
    the leader stream all that the follower lacks. So the last refusal stands for all, and the last answer for
    all of no higher index.

    Dropping them is safe: a leader's later heartbeat carries at least the commit index of an earlier one, and
    its newest read round, whose confirmation confirms all rounds before it; or no round, if no read waits.
    And any answer may be lost: the answer to the next heartbeat makes the leader repeat what is lacking.
    """
    seen: set[tuple[int, MessageType, int]] = set()
    highest: dict[tuple[int, bool, int], int] = {}
    kept: list[tuple[int, Message]] = []
    for peer_id, message in reversed(messages):
        if message.type in _REPEATED:
            beat = (peer_id, message.type, message.term)
            if beat in seen:
                continue
            seen.add(beat)
        elif message.type is MessageType.APP_RESP:
            answer = (peer_id, message.reject, message.term)
            index = highest.get(answer, -1)
            if index >= 0 and (message.reject or message.index <= index):
                continue
            highest[answer] = max(index, message.index)
        kept.append((peer_id, message))
    kept.reverse()
    return kept
