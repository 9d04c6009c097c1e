"""The consensus core as its driver sees it: feed it ticks, messages and proposals; do what each Ready says.

The Ready contract. `ready()` hands out what has to be done since the last one and takes it as accepted:
nothing is handed out twice. Nothing in it may be changed by the receiver.

With `Config.async_storage_writes` everything to be done is in `Ready.messages`, to be taken in order:

- `to == APPEND_THREAD`: for whoever writes the log. Make durable, in this order: `snapshot` if there is one,
  `entries` (they replace whatever is stored from the first one's index on), and the hard state `(term, vote,
  commit)` if `term` is not 0. Then, and only then, put the same into the `Storage` that the core reads, and
  deliver `responses` in order: step those whose `to` is this node, send the others. These messages must be
  worked off in the order they came; several may share one sync. A message whose `entries` and `snapshot` are
  empty, whose term and vote are unchanged, and whose commit reaches no conf change that was not committed
  before, needs no sync of its own, but its responses still wait for everything before it. `Ready.must_sync`
  says so, but for a commit that a follower hears of, which storage has to look at itself.
- `to == APPLY_THREAD`: for the state machine. Apply `entries` in order; call `apply_conf_change` for each
  entry of a conf change, with `decode_conf_change` of it, before the responses are delivered; then step
  `responses`. Skip what is not above a snapshot that was installed meanwhile, conf changes too.
- any other `to`: send it to that node. It may be lost, repeated or overtaken. It may leave before anything is
  durable.

An APPEND_THREAD message with a snapshot: install it into the state machine too before its responses are
delivered. `read_states` and `soft_state` are news for the driver; the other fields repeat what the messages
hold.

Without it: make `snapshot`, `entries` and `hard_state` durable and known to the `Storage`, send `messages`,
apply `committed_entries`, then call `advance()`, before the next `ready()`.
"""

from raftkv_trio.raft import election, inbound, membership, replication
from raftkv_trio.raft.confchange import ConfChange, ConfChangeV2, conf_change_entry, is_joint
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.errors import InvalidMessage, InvalidState
from raftkv_trio.raft.raft import Raft
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

    Raises InvalidState or InvalidConfiguration where `storage` contradicts itself or `config.applied`.
    """

    def __init__(self, config: Config, storage: Storage) -> None:
        self.raft = Raft(config, storage)
        self._asynchronous = config.async_storage_writes
        self._last_soft_state = self.raft.soft_state()
        self._last_hard_state = self.raft.hard_state()
        self._on_advance: list[Message] | None = None

    # ---------------------------------------------------------------- state

    @property
    def id(self) -> int:
        return self.raft.id

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def leader_id(self) -> int | None:
        return self.raft.leader_id

    @property
    def role(self) -> StateRole:
        return self.raft.role

    @property
    def commit(self) -> int:
        return self.raft.log.committed

    @property
    def applied(self) -> int:
        return self.raft.log.applied

    @property
    def last_index(self) -> int:
        return self.raft.log.last_index()

    @property
    def is_changing(self) -> bool:
        """Whether a conf change may be under way, so that another one cannot be proposed yet."""
        raft = self.raft
        return raft.pending_conf_index > raft.log.applied or is_joint(raft.conf_state)

    @property
    def may_leave_joint(self) -> bool:
        """Whether this node leads a joint configuration that is to be left, and nobody has proposed it."""
        raft = self.raft
        return (
            raft.role is StateRole.LEADER
            and raft.conf_state.auto_leave
            and raft.pending_conf_index <= raft.log.applied
        )

    def status(self) -> Status:
        return status_of(self.raft)

    # ---------------------------------------------------------------- input

    def tick(self) -> None:
        """One tick of the logical clock has passed."""
        election.tick(self.raft)

    def campaign(self) -> None:
        """Run for leader now, as if the election timeout had passed; does nothing where this node may not."""
        election.campaign(self.raft)

    def propose(self, *data: bytes) -> int | None:
        """Propose one NORMAL entry for each of `data`, appended together or not at all.

        Returns:
            On the leader, the index of the first; None on a follower, which has queued them for the leader.
            Either way they may still be lost.

        Raises:
            ProposalDropped: nothing was appended or queued; the subclass says why.
        """
        return self._propose(tuple([Entry(0, 0, data=item) for item in data]))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> int | None:
        """Propose a change of the configuration; an empty `ConfChangeV2` leaves a joint one.

        Returns as `propose`. Where another change is pending, or `change` does not fit the configuration, the
        entry at the returned index is an empty NORMAL one instead.

        Raises:
            ProposalDropped: as in `propose`.
            InvalidConfiguration: `change` cannot be written down.
        """
        return self._propose((conf_change_entry(change),))

    def _propose(self, entries: tuple[Entry, ...]) -> int | None:
        if not entries:
            raise InvalidMessage("a proposal without entries")
        raft = self.raft
        if raft.role is StateRole.LEADER:
            return replication.propose(raft, entries)
        step(raft, Message(type=MessageType.PROP, to=raft.id, from_=raft.id, entries=entries))
        return None

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """A committed change is being applied: returns the configuration from now on.

        Raises:
            InvalidConfiguration: `change` does not fit; the configuration stays.
        """
        return membership.apply_conf_change(self.raft, change)

    def step(self, message: Message) -> None:
        """Act on a message from another node, or on a response from this node's own storage.

        Raises:
            LocalMessage: its kind never travels between nodes.
            PeerNotFound: a response from a node that is not a member (any more); ignore it. That can be this
                node itself, after its removal.
            InvalidMessage: no correct member can have sent it; nothing has changed.
            ProposalDropped: a forwarded proposal.
            InvalidState: a storage response that fits no Ready of this core.
        """
        inbound.check(self.raft, message)
        step(self.raft, message)

    def read_index(self, context: bytes) -> None:
        """Ask for an index at which a read is linearizable; it comes as a ReadState with `context`.

        There may be no answer, if there is no leader or a message is lost: ask again. Contexts need not be
        unique here, but answers can only be told apart by them.
        """
        raft = self.raft
        step(raft, Message(type=MessageType.READ_INDEX, to=raft.id, from_=raft.id, context=context))

    def transfer_leader(self, target_id: int) -> None:
        """Ask the leader to hand over to `target_id`; gives up after an election timeout."""
        step(self.raft, self._local(MessageType.TRANSFER_LEADER, target_id))

    def forget_leader(self) -> None:
        """Stop believing in the leader without leaving its term: this node may vote for somebody else."""
        if self.raft.role is StateRole.FOLLOWER:
            election.forget_leader(self.raft)

    def report_unreachable(self, node_id: int) -> None:
        """The last message to `node_id` may not have arrived."""
        step(self.raft, self._local(MessageType.UNREACHABLE, node_id))

    def report_snapshot(self, node_id: int, *, ok: bool) -> None:
        """A snapshot message to `node_id` was delivered, or failed; without this a leader waits for ever."""
        message = self._local(MessageType.SNAP_STATUS, node_id)
        message.reject = not ok
        step(self.raft, message)

    def _local(self, kind: MessageType, about: int) -> Message:
        return Message(type=kind, to=self.raft.id, from_=about)

    # ---------------------------------------------------------------- output

    def has_ready(self) -> bool:
        """Whether `ready()` would hold anything."""
        raft = self.raft
        unstable = raft.log.unstable
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
        """What is to be done now; taken as accepted. Raises InvalidState where `advance()` is due."""
        if self._on_advance is not None:
            raise InvalidState("the last Ready has not been advanced past")
        raft, log = self.raft, self.raft.log
        soft_state, hard_state = raft.soft_state(), raft.hard_state()
        last = self._last_hard_state
        ready = Ready(
            soft_state=None if soft_state == self._last_soft_state else soft_state,
            hard_state=None if hard_state == last else hard_state,
            read_states=tuple(raft.read_states),
            entries=log.unstable.next_entries(),
            snapshot=log.unstable.next_snapshot(),
            committed_entries=log.next_committed(not self._asynchronous),
        )
        writes_commit = hard_state.commit != last.commit and raft.unwritten_commit > log.committed
        ready.must_sync = bool(ready.entries) or hard_state[:2] != last[:2] or writes_commit
        stored = self._storage_append_response(ready)
        applied = _storage_apply_response(raft, ready)
        messages = raft.messages
        if self._asynchronous:
            self._add_storage_messages(messages, ready, stored, applied)
        else:
            messages += [m for m in raft.after_append if m.to != raft.id]
            own = [m for m in raft.after_append if m.to == raft.id]
            self._on_advance = [*own, *stored, *applied]
        ready.messages = tuple(messages)
        self._accept(ready)
        self._last_soft_state, self._last_hard_state = soft_state, hard_state
        return ready

    def _accept(self, ready: Ready) -> None:
        raft = self.raft
        raft.messages, raft.after_append, raft.read_states = [], [], []
        raft.log.unstable.accept()
        if ready.committed_entries:
            raft.log.accept_applying(ready.committed_entries, not self._asynchronous)

    def _add_storage_messages(
        self, messages: list[Message], ready: Ready, stored: list[Message], applied: list[Message]
    ) -> None:
        raft = self.raft
        if ready.entries or ready.hard_state or ready.snapshot or raft.after_append:
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
                    # our own acknowledgements first, while the entries are still at hand in memory
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
        """What storage answers when this Ready's entries and snapshot, and all before, are durable.

        It names the last entry of the log and the present term, even where this Ready holds no entries but
        some are still being written. Otherwise, if entries are overwritten and then overwritten back while
        all three writes are under way (ABA), the answer to the first could pass for the answer to the third.
        An answer of an earlier term than the node's is ignored, and the first answer of a new term is behind
        all writes of the earlier ones.
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
        if unstable.entries:
            response.index, response.log_term = raft.log.last_index(), raft.log.last_term()
        response.snapshot = ready.snapshot
        return [response]

    def advance(self) -> None:
        """The last Ready is done (synchronous mode only).

        Raises:
            InvalidState: there is none, or storage is asynchronous.
        """
        if self._on_advance is None:
            raise InvalidState("there is no Ready to advance past")
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
