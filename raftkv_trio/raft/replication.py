"""The leader's appends, their answers, and commit (paper, sections 5.3 and 5.4); and the follower's side.

A leader appends only, commits by counting only entries of its own term (section 5.4.2), and counts itself
only when its own disk has answered. A follower answers an append when what it took over is durable.
"""

from collections.abc import Sequence

from raftkv_trio.errors import RaftError
from raftkv_trio.raft import reads, texts
from raftkv_trio.raft.confchange import (
    ConfChange,
    ConfChangeV2,
    all_members,
    apply_change,
    decode_conf_change,
    describe,
    describe_change,
    is_joint,
)
from raftkv_trio.raft.errors import (
    ForwardingDisabled,
    InvalidConfiguration,
    LeaderUnknown,
    LogError,
    NotAMember,
    SnapshotTemporarilyUnavailable,
    TransferInProgress,
    UncommittedLimit,
)
from raftkv_trio.raft.progress import Progress, ProgressState
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.storage import payloads_size
from raftkv_trio.raft.types import Entry, EntryType, Message, MessageType, Snapshot, StateRole

# ---------------------------------------------------------------- proposals


def propose(raft: Raft, entries: Sequence[Entry]) -> int:
    """Leader: append `entries`, all or none, and send them; returns the index of the first.

    A conf change that the applied configuration does not allow is appended as an empty entry instead. Raises
    ProposalDropped.
    """
    if raft.id not in raft.tracker.progress:
        raise NotAMember("the leader is not in the configuration any more")
    if raft.transferee is not None:
        raft.logger.debug(texts.TRANSFERRING_PROPOSAL, raft.id, raft.term, raft.transferee)
        raise TransferInProgress(f"leadership is being handed over to node {raft.transferee}")
    pending_before = raft.pending_conf_index
    first = raft.log.last_index() + 1
    try:
        append(raft, [_checked(raft, entry, index) for index, entry in enumerate(entries, first)])
    except RaftError:
        raft.pending_conf_index = pending_before
        raise
    broadcast_append(raft)
    return first


def _checked(raft: Raft, entry: Entry, index: int) -> Entry:
    """`entry`, or an empty one in place of a conf change that may not be appended now."""
    if entry.type is EntryType.NORMAL:
        return entry
    change = decode_conf_change(entry)
    why_not = _why_not(raft, change)
    if why_not is not None and not raft.config.disable_conf_change_validation:
        what, where = describe_change(change), describe(raft.conf_state)
        raft.logger.info(texts.IGNORED_CONF_CHANGE, raft.id, what, where, why_not)
        return Entry(0, 0)
    raft.pending_conf_index = index
    return entry


def _why_not(raft: Raft, change: ConfChange | ConfChangeV2) -> str | None:
    leaves = not change.as_v2().changes
    if raft.pending_conf_index > raft.log.applied:
        pending, applied = raft.pending_conf_index, raft.log.applied
        return f"possible unapplied conf change at index {pending} (applied to {applied})"
    if is_joint(raft.conf_state) and not leaves:
        return "must transition out of joint config first"
    if leaves and not is_joint(raft.conf_state):
        return "not in joint state; refusing empty conf change"
    try:
        # nothing is pending, so this is the configuration that it will meet; later nobody could refuse it
        apply_change(raft.conf_state, change)
    except InvalidConfiguration as error:
        return str(error)
    return None


def append(raft: Raft, entries: Sequence[Entry]) -> None:
    """Leader: append `entries`; our own acknowledgement waits for our disk. Raises UncommittedLimit."""
    last = raft.log.last_index()
    size = payloads_size(entries)
    limit = raft.config.max_uncommitted_bytes
    # one proposal always fits, and an empty entry (a new leader's, or the end of a joint configuration) too
    if limit is not None and size and raft.uncommitted_bytes and raft.uncommitted_bytes + size > limit:
        raft.logger.warning(texts.UNCOMMITTED_LIMIT, raft.id)
        raise UncommittedLimit(f"{raft.uncommitted_bytes} bytes of proposals are not applied yet")
    raft.uncommitted_bytes += size
    term = raft.term
    raft.log.append([Entry(term, i, e.type, e.data) for i, e in enumerate(entries, last + 1)])
    own = raft.reply(MessageType.APP_RESP, raft.id)
    own.index = last + len(entries)
    raft.send(own)


def reduce_uncommitted(raft: Raft, applied: Sequence[Entry]) -> None:
    """`applied` count no longer against `max_uncommitted_bytes`, if this leader's term proposed them."""
    if raft.uncommitted_bytes and applied:
        skip = max(0, raft.own_index - applied[0].index)
        raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - payloads_size(applied[skip:]))


def forward_proposal(raft: Raft, message: Message) -> None:
    """Follower: send a proposal on to the leader; raises ProposalDropped."""
    if raft.leader_id is None:
        drop_proposal(raft)
    if raft.config.disable_proposal_forwarding:
        raft.logger.info(texts.NOT_FORWARDING_PROPOSAL, raft.id, raft.leader_id, raft.term)
        raise ForwardingDisabled(f"node {raft.leader_id} leads, and this node forwards nothing")
    message.to = raft.leader_id or 0
    raft.send(message)


def drop_proposal(raft: Raft) -> None:
    """Nobody leads; raises LeaderUnknown."""
    raft.logger.info(texts.NO_LEADER_FOR_PROPOSAL, raft.id, raft.term)
    raise LeaderUnknown(f"no leader is known in term {raft.term}")


# ---------------------------------------------------------------- leader: sending


def broadcast_append(raft: Raft) -> None:
    """Send everybody what is new, were it only the commit index."""
    for member, progress in raft.tracker.others(raft.id):
        send_append(raft, member, progress)


def send_append(raft: Raft, to: int, progress: Progress, *, if_empty: bool = True) -> bool:
    """Send the next entries, or a snapshot where the log does not reach back; False if nothing was sent.

    `if_empty`: send also where there is no entry, to tell the commit index or to probe.
    """
    if progress.paused:
        return False
    previous = progress.next - 1
    entries: Sequence[Entry] = ()
    try:
        previous_term = raft.log.term(previous)
        # With all inflights used up send empty appends only: if the others were all lost, the answer to
        # an empty one starts the stream again.
        if progress.state is not ProgressState.REPLICATE or not progress.inflights.full:
            entries = raft.log.entries_from(progress.next, raft.config.max_message_bytes)
    except LogError:
        return _send_snapshot(raft, to, progress)
    if not entries and not if_empty:
        return False
    message = raft.reply(MessageType.APP, to)
    message.index = previous
    message.log_term = previous_term
    message.entries = tuple(entries)
    message.commit = raft.log.committed
    raft.send(message)
    progress.sent_entries(len(entries), payloads_size(entries))
    progress.sent_commit = message.commit
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        raft.logger.debug(texts.SNAPSHOT_TO_INACTIVE, to)
        return False
    snapshot: Snapshot | None
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        snapshot = None
    if snapshot is None or to not in all_members(snapshot.conf_state):
        # who is no member in it yet would refuse it; its storage has to make a newer one
        raft.logger.debug(texts.SNAPSHOT_UNAVAILABLE, raft.id, to)
        return False
    first, commit = raft.log.first_index(), raft.log.committed
    raft.logger.debug(
        texts.SENT_SNAPSHOT, raft.id, first, commit, snapshot.index, snapshot.term, to, progress
    )
    progress.become_snapshot(snapshot.index)
    raft.logger.debug(texts.PAUSED_FOR_SNAPSHOT, raft.id, to, progress)
    message = raft.reply(MessageType.SNAP, to)
    message.snapshot = snapshot
    raft.send(message)
    return True


def send_timeout_now(raft: Raft, to: int) -> None:
    """Ask `to` to campaign at once, which no lease holds up: ours is worth nothing from now on."""
    raft.lease_broken = True
    raft.send(raft.reply(MessageType.TIMEOUT_NOW, to))


# ---------------------------------------------------------------- leader: answers


def handle_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    """An append was taken over up to `message.index`, or refused with a hint."""
    progress.recent_active = True
    if message.reject:
        _handle_rejection(raft, message, progress)
        return
    news = progress.maybe_update(message.index)
    probing = progress.state is ProgressState.PROBE
    if not news and not (probing and progress.match == message.index):
        return
    if probing:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(message.index)
    elif progress.match + 1 >= raft.log.first_index():
        # whichever snapshot it installed: the log can take it on from there
        raft.logger.debug(texts.SNAPSHOT_RECOVERED, raft.id, message.from_, progress)
        progress.become_probe()
        progress.become_replicate()
    other = message.from_ != raft.id
    if maybe_commit(raft):
        broadcast_append(raft)
    elif other and progress.can_bump_commit(raft.log.committed):
        send_append(raft, message.from_, progress)
    if other:
        # room for more than one message may have come free
        while send_append(raft, message.from_, progress, if_empty=False):
            pass
    if message.from_ == raft.transferee and progress.match == raft.log.last_index():
        raft.logger.info(texts.TRANSFER_CAUGHT_UP, raft.id, message.from_)
        send_timeout_now(raft, message.from_)


def _handle_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    hint, hint_term = message.reject_hint, message.log_term
    raft.logger.debug(texts.RECEIVED_REJECTION, raft.id, hint, hint_term, message.from_, message.index)
    if hint_term:
        # entries of ours above the follower's hint and of a later term than it cannot be in its log
        hint, _ = raft.log.find_conflict_by_term(hint, hint_term)
    if progress.maybe_decrease(message.index, hint):
        raft.logger.debug(texts.DECREASED_PROGRESS, raft.id, message.from_, progress)
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.from_, progress)


def maybe_commit(raft: Raft) -> bool:
    """Commit what the voters have, if it is of our own term (paper, section 5.4.2); True if that is news.

    Where a conf change is among it, that is news only when it is written down (`commit_written`): whoever
    hears of it may end, and must not be needed any more.
    """
    log, index = raft.log, raft.tracker.committed()
    if raft.config.durable_conf_changes and log.committed < raft.pending_conf_index <= index:
        if raft.unwritten_commit < raft.pending_conf_index and log.matches(index, raft.term):
            raft.unwritten_commit = index
        return False
    if not log.maybe_commit(index, raft.term):
        return False
    reads.release_waiting(raft)
    return True


def commit_written(raft: Raft, index: int) -> None:
    """It is written down that everything up to `index` is on a quorum."""
    if index <= raft.log.committed:
        return
    raft.log.commit_to(index)
    if raft.role is StateRole.LEADER:
        maybe_commit(raft)  # what came meanwhile
        reads.release_waiting(raft)
        broadcast_append(raft)


def handle_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    """A follower is there: whatever held up its appends may have been lost, so try again."""
    progress.recent_active = True
    progress.append_paused = False
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, message.from_, progress)
    reads.acknowledge(raft, message)


def handle_unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    """Messages to a follower may have been lost: stop streaming, probe."""
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    raft.logger.debug(texts.UNREACHABLE, raft.id, message.from_, progress)


def handle_snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    """A snapshot was delivered, or (`reject`) it failed; in either case wait for a word from the follower."""
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = None  # probe from behind the log it has, not the snapshot it lacks
    progress.become_probe()
    text = texts.SNAPSHOT_FAILED if message.reject else texts.SNAPSHOT_SUCCEEDED
    raft.logger.debug(text, raft.id, message.from_, progress)
    progress.append_paused = True


# ---------------------------------------------------------------- follower


def handle_append(raft: Raft, message: Message) -> None:
    """Take over a leader's entries, or say up to where the logs may agree."""
    log = raft.log
    reply = raft.reply(MessageType.APP_RESP, message.from_)
    if message.index < log.committed:
        reply.index = log.committed
        raft.send(reply)
        return
    last_new = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last_new is not None:
        reply.index = last_new
        raft.send(reply)
        return
    own_term = log.term_or_zero(message.index)
    raft.logger.debug(
        texts.REJECTED_APPEND,
        raft.id,
        own_term,
        message.index,
        message.log_term,
        message.index,
        message.from_,
    )
    reply.index = message.index
    reply.reject = True
    reply.reject_hint, reply.log_term = log.find_conflict_by_term(
        min(message.index, log.last_index()), message.log_term
    )
    raft.send(reply)
