"""The core as its driver sees it: input as method calls, output as one Ready at a time.

The Ready contract, which the driver keeps, is written down in the docstring of the package. This module
keeps the core's side of it: what is in a Ready, in which order, and what waits for which write.
"""

from raftkv_trio.raft import election, inbound, reconfiguration, replication
from raftkv_trio.raft.confchange import ConfChange, ConfChangeV2, conf_change_entry, is_joint
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.errors import InvalidMessage, InvalidState
from raftkv_trio.raft.raft import Raft, become_follower
from raftkv_trio.raft.status import Status, status_of
from raftkv_trio.raft.step import step
from raftkv_trio.raft.storage import Storage
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Ready,
    StateRole,
)


class RawNode:
    """One node's consensus core: no I/O, no clock, not thread-safe.

    Raises:
        InvalidState: `storage` contradicts itself or `Config.applied`.
        InvalidConfiguration: the configuration in `storage` breaks a rule of joint consensus.
    """

    def __init__(self, config: Config, storage: Storage) -> None:
        self.raft = Raft(config, storage)
        self._asynchronous = config.async_storage_writes
        # What the driver knows already. A Ready holds what differs from it.
        self._last_soft_state = self.raft.soft_state()
        self._last_hard_state = self.raft.hard_state()
        self._on_advance: list[Message] | None = None

    # ---------------------------------------------------------------- state

    @property
    def id(self) -> int:
        """The id of this node."""
        return self.raft.id

    @property
    def term(self) -> int:
        """The current term."""
        return self.raft.term

    @property
    def leader_id(self) -> int | None:
        """The leader of the current term; None if this node knows none."""
        return self.raft.leader_id

    @property
    def role(self) -> StateRole:
        """The role of this node."""
        return self.raft.role

    def is_member(self, node_id: int) -> bool:
        """Whether the configuration in force has this node, as a voter of either half or as a learner."""
        return node_id in self.raft.tracker.progress

    def is_learner(self, node_id: int) -> bool:
        """Whether the configuration in force has this node as a learner, so that it has no vote."""
        progress = self.raft.tracker.progress.get(node_id)
        return progress is not None and progress.is_learner

    @property
    def commit(self) -> int:
        """The index of the last entry that this node knows to be committed."""
        return self.raft.log.committed

    @property
    def applied(self) -> int:
        """The index of the last entry that the state machine has applied."""
        return self.raft.log.applied

    @property
    def last_index(self) -> int:
        """The index of the last entry of the log, durable or not."""
        return self.raft.log.last_index()

    def has_entry(self, index: int, term: int) -> bool:
        """Whether the log has an entry of this index and term; False if it is compacted."""
        return self.raft.log.matches(index, term)

    @property
    def is_changing(self) -> bool:
        """Whether a conf change may be under way. While it is, no other one can be proposed."""
        raft = self.raft
        # On a new leader, this is true until it has applied what it inherited, which may hold a change.
        return raft.pending_conf_index > raft.log.applied or is_joint(raft.conf_state)

    @property
    def may_leave_joint(self) -> bool:
        """Whether this node leads a joint configuration with auto-leave, and has not proposed to leave it."""
        # The core proposes to leave whenever an entry is applied. If that proposal was refused, and nothing
        # more is applied, it is up to the driver.
        raft = self.raft
        return (
            raft.role is StateRole.LEADER
            and raft.conf_state.auto_leave
            and raft.pending_conf_index <= raft.log.applied
        )

    def status(self) -> Status:
        """What this node knows of itself, and as a leader of the other members."""
        return status_of(self.raft)

    # ---------------------------------------------------------------- input

    def tick(self) -> None:
        """One tick of the logical clock has passed."""
        election.tick(self.raft)

    def campaign(self) -> None:
        """Campaign now, as if the election timeout had passed. Does nothing if this node may not campaign."""
        election.campaign(self.raft)

    def propose(self, *data: bytes) -> int | None:
        """Propose one NORMAL entry for each of `data`. They are appended together or not at all.

        Returns:
            On the leader, the index of the first entry. On a follower None: it forwards the entries to the
            leader. In both cases the entries may still be lost.

        Raises:
            ProposalDropped: nothing was appended or forwarded; the subclass says why.
        """
        # Term and index are the leader's to give (`replication.append`).
        return self._propose(tuple([Entry(0, 0, data=item) for item in data]))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> int | None:
        """Propose a change of the configuration; an empty `ConfChangeV2` leaves a joint one.

        Returns:
            As `propose`. If another change is pending, or `change` does not fit the configuration, the entry
            at the returned index is an empty NORMAL entry instead.

        Raises:
            ProposalDropped: as in `propose`.
            InvalidConfiguration: `change` cannot be encoded.
        """
        return self._propose((conf_change_entry(change),))

    def _propose(self, entries: tuple[Entry, ...]) -> int | None:
        if not entries:
            raise InvalidMessage("a proposal without entries")
        raft = self.raft
        # A leader appends at once, so that the caller learns the index. Any other role decides as for a
        # proposal that another node sent: forward it, or drop it.
        if raft.role is StateRole.LEADER:
            return replication.propose(raft, entries)
        step(raft, Message(type=MessageType.PROP, to=raft.id, from_=raft.id, entries=entries))
        return None

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Put a committed change into force; returns the new configuration.

        Raises:
            InvalidConfiguration: `change` does not fit; the configuration stays as it was.
        """
        return reconfiguration.apply_conf_change(self.raft, change)

    def step(self, message: Message) -> None:
        """Act on a message from another node, or on a response from this node's own storage.

        Raises:
            LocalMessage: messages of this kind never travel between nodes.
            PeerNotFound: a response from a node that is not, or no longer, a member; ignore it. After its
                removal, this node itself is such a node.
            InvalidMessage: no correct member can have sent the message; nothing has changed.
            ProposalDropped: the message is a forwarded proposal, and this node cannot take it.
            InvalidState: a storage response that fits no Ready of this core.
        """
        inbound.check(self.raft, message)
        step(self.raft, message)

    def read_index(self, context: bytes) -> None:
        """Ask for an index at which a read is linearizable. The answer is a ReadState with `context`.

        There may be no answer, if there is no leader or if a message is lost; then ask again. The core does
        not need unique contexts, but the caller can only tell answers apart by them.
        """
        raft = self.raft
        # A leader reads the same way: it, too, has to confirm that it still leads.
        step(raft, Message(type=MessageType.READ_INDEX, to=raft.id, from_=raft.id, context=context))

    def transfer_leader(self, target_id: int) -> None:
        """Ask the leader to transfer leadership to `target_id`; it gives up after an election timeout."""
        step(self.raft, self._local(MessageType.TRANSFER_LEADER, target_id))

    def enter_term(self, term: int) -> None:
        """Follow nobody in a later term; does nothing in an earlier one, or in the present one.

        Always safe: terms only grow, and this node has given no vote in the new one (paper, section 5.1).
        """
        if term > self.raft.term:
            become_follower(self.raft, term, None)

    def forget_leader(self) -> None:
        """Forget the leader without leaving its term, so that this node may vote for another node."""
        # A leader is its own leader, and candidates have none.
        if self.raft.role is StateRole.FOLLOWER:
            election.forget_leader(self.raft)

    def report_unreachable(self, node_id: int) -> None:
        """Report that messages to `node_id` may be lost."""
        step(self.raft, self._local(MessageType.UNREACHABLE, node_id))

    def report_snapshot(self, node_id: int, *, ok: bool) -> None:
        """Report that a snapshot message to `node_id` was delivered, or failed.

        Without the report of a failure the leader sends that node nothing but heartbeats, for ever: it waits
        until the node has installed the snapshot.
        """
        message = self._local(MessageType.SNAP_STATUS, node_id)
        message.reject = not ok
        step(self.raft, message)

    def _local(self, kind: MessageType, about: int) -> Message:
        # As if the node that the message is about had sent it: the leader finds its progress by `from_`.
        return Message(type=kind, to=self.raft.id, from_=about)

    # ---------------------------------------------------------------- output

    def has_ready(self) -> bool:
        """Whether `ready()` would hand out any work."""
        raft = self.raft
        unstable = raft.log.unstable
        # Promises alone are a reason, too: they need a write to travel with (`_add_storage_messages`).
        return bool(
            raft.messages
            or raft.after_append
            or raft.read_states
            or unstable.has_next_entries
            or raft.log.has_next_committed(not self._asynchronous)
            or unstable.next_snapshot()
            or raft.hard_state() != self._last_hard_state
            or raft.soft_state() != self._last_soft_state
        )

    def ready(self) -> Ready:
        """Hand out all work that has come up since the last Ready; the core counts it as accepted.

        Raises:
            InvalidState: storage is synchronous, and `advance()` was not called for the last Ready.
        """
        if self._on_advance is not None:
            raise InvalidState("the last Ready was not finished; call advance() first")
        raft, log = self.raft, self.raft.log
        soft_state, hard_state = raft.soft_state(), raft.hard_state()
        last = self._last_hard_state
        ready = Ready(
            soft_state=None if soft_state == self._last_soft_state else soft_state,
            hard_state=None if hard_state == last else hard_state,
            read_states=tuple(raft.read_states),
            entries=log.unstable.next_entries(),
            snapshot=log.unstable.next_snapshot(),
            # Asynchronously, the applier may be faster than the log writer: only durable entries are handed
            # out, or after a crash the state machine could be ahead of its log. Synchronously, the driver
            # writes the entries of this Ready before it applies them.
            committed_entries=log.next_committed(not self._asynchronous),
        )
        # A new commit index alone needs no sync: in figure 2 it is volatile, since a leader tells it again
        # after a restart. It needs one if a conf change waits for it (`replication.maybe_commit`).
        writes_commit = hard_state.commit != last.commit and raft.unwritten_commit > log.committed
        ready.must_sync = bool(ready.entries) or hard_state[:2] != last[:2] or writes_commit
        stored = self._storage_append_response(ready)
        applied = _storage_apply_response(raft, ready)
        messages = raft.messages
        if self._asynchronous:
            self._add_storage_messages(messages, ready, stored, applied)
        else:
            # The caller sends `messages` when it has written everything, so promises may be among them. What
            # this node promises itself is stepped by `advance()`, which says that the same is durable.
            messages += [m for m in raft.after_append if m.to != raft.id]
            own = [m for m in raft.after_append if m.to == raft.id]
            self._on_advance = [*own, *stored, *applied]
        ready.messages = tuple(messages)
        self._accept(ready)
        self._last_soft_state, self._last_hard_state = soft_state, hard_state
        return ready

    def _accept(self, ready: Ready) -> None:
        """Mark what `ready` hands out as handed out. It stays in the log until storage answers for it."""
        raft = self.raft
        # New lists, not cleared ones: the Ready and its messages keep the old ones.
        raft.messages, raft.after_append, raft.read_states = [], [], []
        raft.log.unstable.accept()
        if ready.committed_entries:
            raft.log.accept_applying(ready.committed_entries, not self._asynchronous)

    def _add_storage_messages(
        self, messages: list[Message], ready: Ready, stored: list[Message], applied: list[Message]
    ) -> None:
        raft = self.raft
        # Promises need a STORAGE_APPEND even if this Ready has nothing to write: what they promise may be in
        # an earlier write that is still under way, and writes are answered in order.
        if ready.entries or ready.hard_state or ready.snapshot or raft.after_append:
            # Term 0 says that the hard state has not changed: one with that term is never handed out.
            hard_state = ready.hard_state or HardState()
            messages.append(
                Message(
                    type=MessageType.STORAGE_APPEND,
                    to=APPEND_THREAD,
                    from_=raft.id,
                    term=hard_state.term,
                    vote=hard_state.vote,
                    commit=hard_state.commit,
                    entries=ready.entries,
                    snapshot=ready.snapshot,
                    # The node's own acknowledgements come first: what they commit is still in memory then.
                    responses=[*raft.after_append, *stored],
                )
            )
        if ready.committed_entries:
            messages.append(
                Message(
                    type=MessageType.STORAGE_APPLY,
                    to=APPLY_THREAD,
                    from_=raft.id,
                    entries=ready.committed_entries,
                    responses=applied,
                )
            )

    def _storage_append_response(self, ready: Ready) -> list[Message]:
        """What storage answers when the entries and snapshot of this Ready, and all before, are durable.

        Usually the response acknowledges the last entry of the log. It is attached while anything is not
        durable yet, even if this Ready itself has no entries.
        """
        raft, unstable = self.raft, self.raft.log.unstable
        unwritten = raft.unwritten_commit if raft.unwritten_commit > raft.log.committed else 0
        if not (unstable.entries or ready.snapshot or unwritten):
            return []
        response = Message(
            type=MessageType.STORAGE_APPEND_RESP,
            to=raft.id,
            from_=APPEND_THREAD,
            term=raft.term,
            commit=unwritten,
        )
        # The ABA trap. Three writes are under way: entry A; entry B of another leader in its place; A again,
        # from a leader that has the first one's log. When the first write is answered, the log does hold an
        # entry of that index and term, but on disk B is about to replace it. So the response names the term
        # of the node as well. To accept B the node had to enter a later term, and responses of an earlier
        # term acknowledge no entries (`step._answer_earlier_term`).
        #
        # No entry waits for ever for a response that is then ignored: the first Ready of a new term has a new
        # hard state to write, and its response, which comes after all writes of the earlier terms,
        # acknowledges the whole log, entries that earlier Readys handed out included.
        if unstable.entries:
            response.index, response.log_term = raft.log.last_index(), raft.log.last_term()
        response.snapshot = ready.snapshot
        return [response]

    def advance(self) -> None:
        """Report that the last Ready is durable and applied (synchronous mode only).

        Raises:
            InvalidState: there is no such Ready, or storage is asynchronous.
        """
        if self._on_advance is None:
            raise InvalidState("there is no unfinished Ready; advance() follows ready(), in synchronous mode")
        messages, self._on_advance = self._on_advance, None
        for message in messages:
            step(self.raft, message)


def _storage_apply_response(raft: Raft, ready: Ready) -> list[Message]:
    if not ready.committed_entries:
        return []
    return [
        Message(
            type=MessageType.STORAGE_APPLY_RESP,
            to=raft.id,
            from_=APPLY_THREAD,
            entries=ready.committed_entries,
        )
    ]
