"""Log replication: the leader's appends, the answers to them, commit, and the follower's side.

From sections 5.3 and 5.4 of the paper. A leader only appends to its log. It commits by counting only entries
of its own term (section 5.4.2), and counts itself only when its own disk has answered. A follower answers an
append when the entries are durable.
"""

from collections.abc import Sequence

from raftkv_trio.errors import RaftError
from raftkv_trio.raft import read_index, texts
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

#: About so many entries at most are streamed to a follower at once, however small they are.
_STREAMED_ENTRIES = 16 * 1024

# ---------------------------------------------------------------- proposals


def propose(raft: Raft, entries: Sequence[Entry]) -> int:
    """Leader: append `entries`, all or none, and send them; returns the index of the first.

    A conf change that the applied configuration does not allow is appended as an empty entry instead.

    Raises:
        ProposalDropped: nothing was appended; the subclass says why.
    """
    # A leader that was removed goes on until its removal is applied (dissertation 4.2.2). After that, with
    # `step_down_on_removal` off, it must not add to a log that it has no part in.
    if raft.id not in raft.tracker.progress:
        raise NotAMember("the leader has been removed from the configuration")
    # A log that grows would keep the transferee behind (dissertation 3.10).
    if raft.transferee is not None:
        raft.logger.debug(texts.TRANSFERRING_PROPOSAL, raft.id, raft.term, raft.transferee)
        raise TransferInProgress(f"leadership is being transferred to node {raft.transferee}")
    # `_checked` notes each conf change as pending, so that a second one in the same proposal is seen.
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
    """`entry`, or an empty entry in place of a conf change that may not be appended now."""
    if entry.type is EntryType.NORMAL:
        return entry
    change = decode_conf_change(entry)
    why_not = _why_not(raft, change)
    if why_not is not None and not raft.config.disable_conf_change_validation:
        what, where = describe_change(change), describe(raft.conf_state)
        raft.logger.info(texts.IGNORED_CONF_CHANGE, raft.id, what, where, why_not)
        # Not an error: the other entries of the proposal are fine, and keep the indexes that they were given.
        return Entry(0, 0)
    raft.pending_conf_index = index
    return entry


def _why_not(raft: Raft, change: ConfChange | ConfChangeV2) -> str | None:
    # Two changes under way at once could add up to configurations whose majorities do not overlap (section 6,
    # figure 10). So the one before has to be applied first, not only committed, because it takes effect when
    # it is applied. An empty change leaves a joint configuration.
    leaves = not change.as_v2().changes
    if raft.pending_conf_index > raft.log.applied:
        pending, applied = raft.pending_conf_index, raft.log.applied
        return f"possible unapplied conf change at index {pending} (applied to {applied})"
    if is_joint(raft.conf_state) and not leaves:
        return "must transition out of joint config first"
    if leaves and not is_joint(raft.conf_state):
        return "not in joint state; refusing empty conf change"
    try:
        # Nothing is pending, so the change will meet this very configuration when it is applied. This is the
        # last chance to refuse it: once committed, every node has to apply it.
        apply_change(raft.conf_state, change)
    except InvalidConfiguration as error:
        return str(error)
    return None


def append(raft: Raft, entries: Sequence[Entry]) -> None:
    """Leader: append `entries` to this node's own log. Raises UncommittedLimit."""
    last = raft.log.last_index()
    size = payloads_size(entries)
    limit = raft.config.max_uncommitted_bytes
    # While nothing else is pending, a proposal of any size fits, or it could never be made. Empty entries fit
    # always: the first one of a term and the end of a joint configuration must not wait for clients.
    if limit is not None and size and raft.uncommitted_bytes and raft.uncommitted_bytes + size > limit:
        raft.logger.warning(texts.UNCOMMITTED_LIMIT, raft.id)
        raise UncommittedLimit(f"{raft.uncommitted_bytes} bytes of proposals are not applied yet")
    raft.uncommitted_bytes += size
    term = raft.term
    raft.log.append([Entry(term, i, e.type, e.data) for i, e in enumerate(entries, last + 1)])
    # The leader acknowledges its entries to itself as a follower would: the answer waits in `after_append`
    # until they are durable. Meanwhile the followers write the same entries. A quorum of them may commit an
    # entry that is not on the leader's disk yet, and that is safe (dissertation 10.2.1).
    own = raft.reply(MessageType.APP_RESP, raft.id)
    own.index = last + len(entries)
    raft.send(own)


def reduce_uncommitted(raft: Raft, applied: Sequence[Entry]) -> None:
    """Stop counting `applied` entries against `max_uncommitted_bytes`."""
    if raft.uncommitted_bytes and applied:
        # Entries of earlier terms, below `own_index`, were never counted.
        skip = max(0, raft.own_index - applied[0].index)
        raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - payloads_size(applied[skip:]))


def forward_proposal(raft: Raft, message: Message) -> None:
    """Follower: send a proposal on to the leader. Raises ProposalDropped."""
    if raft.leader_id is None:
        drop_proposal(raft)
    if raft.config.disable_proposal_forwarding:
        raft.logger.info(texts.NOT_FORWARDING_PROPOSAL, raft.id, raft.leader_id, raft.term)
        raise ForwardingDisabled(f"this node does not forward proposals; the leader is node {raft.leader_id}")
    message.to = raft.leader_id or 0
    raft.send(message)


def drop_proposal(raft: Raft) -> None:
    """No leader is known: always raises LeaderUnknown."""
    raft.logger.info(texts.NO_LEADER_FOR_PROPOSAL, raft.id, raft.term)
    raise LeaderUnknown(f"no leader is known in term {raft.term}")


# ---------------------------------------------------------------- leader: sending


def broadcast_append(raft: Raft) -> None:
    """Send every follower the next entries, or at least the commit index."""
    for member, progress in raft.tracker.others(raft.id):
        send_append(raft, member, progress)


def send_append(raft: Raft, to: int, progress: Progress, *, if_empty: bool = True) -> bool:
    """Send the next entries, or a snapshot if the log does not reach back far enough.

    Returns False if nothing was sent. `if_empty`: send an append even without entries, to tell the commit
    index or to probe.
    """
    if progress.paused:
        return False
    # The consistency check of section 5.3: an append names the entry before it, and a follower takes it only
    # if its log has that entry. So by induction the two logs are the same up to the append's end.
    previous = progress.next - 1
    entries: Sequence[Entry] = ()
    try:
        previous_term = raft.log.term(previous)
        # With all inflights used up, an empty append may still go out after a heartbeat was answered
        # (`handle_heartbeat_response`). If all others were lost, its answer starts the stream again.
        if progress.state is not ProgressState.REPLICATE or not progress.inflights.full:
            config = raft.config
            entries = raft.log.entries_from(
                progress.next, config.max_message_bytes, config.max_message_entries
            )
    except LogError:
        # The entries were compacted away (section 7).
        return _send_snapshot(raft, to, progress)
    if not entries and not if_empty:
        return False
    message = raft.reply(MessageType.APP, to)
    message.index = previous
    message.log_term = previous_term
    message.entries = tuple(entries)
    # This may lie beyond the entries sent. The follower commits up to the end of these at most (figure 2).
    message.commit = raft.log.committed
    raft.send(message)
    progress.sent_entries(len(entries), payloads_size(entries))
    if entries and progress.state is ProgressState.PROBE and raft.config.space_probes:
        progress.space_probe(raft.config.heartbeat_ticks, raft.config.election_ticks)
    progress.sent_commit = message.commit
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    # A node that does not answer would not get the snapshot; wait until it is heard from.
    if not progress.recent_active:
        raft.logger.debug(texts.SNAPSHOT_TO_INACTIVE, to)
        return False
    snapshot: Snapshot | None
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        snapshot = None
    if snapshot is None or to not in all_members(snapshot.conf_state):
        # A node refuses a snapshot that does not name it as a member. Storage has to make a newer one.
        raft.logger.debug(texts.SNAPSHOT_UNAVAILABLE, raft.id, to)
        return False
    first, commit = raft.log.first_index(), raft.log.committed
    raft.logger.debug(
        texts.SENT_SNAPSHOT, raft.id, first, commit, snapshot.index, snapshot.term, to, progress
    )
    # From now on only heartbeats go to this node, until it has the snapshot or the snapshot failed.
    progress.become_snapshot(snapshot.index)
    raft.logger.debug(texts.PAUSED_FOR_SNAPSHOT, raft.id, to, progress)
    message = raft.reply(MessageType.SNAP, to)
    message.snapshot = snapshot
    raft.send(message)
    return True


def send_timeout_now(raft: Raft, to: int) -> None:
    """Ask `to` to campaign at once (dissertation, section 3.10)."""
    # The lease of this leader does not stop that campaign (`election.in_lease`). So from now on another
    # leader may commit entries, and reads may not rely on the lease any more in this term (`read_index`).
    raft.lease_broken = True
    raft.send(raft.reply(MessageType.TIMEOUT_NOW, to))


# ---------------------------------------------------------------- leader: answers


def handle_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    """Leader: a member has all entries up to `message.index`, or it refused an append, with a hint."""
    progress.recent_active = True
    if message.reject:
        _handle_rejection(raft, message, progress)
        return
    news = progress.maybe_update(message.index)
    probing = progress.state is ProgressState.PROBE
    # Answers may be repeated or overtaken: match never goes back, and an old answer changes nothing. Only the
    # answer to a probe matters without news, since it shows where the logs agree.
    if not news and not (probing and progress.match == message.index):
        return
    if probing:
        # The logs agree up to `match`: stream from there on.
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(message.index)
    elif progress.match + 1 >= raft.log.first_index():
        # It has installed a snapshot, perhaps another one than was sent, and our log continues that one.
        raft.logger.debug(texts.SNAPSHOT_RECOVERED, raft.id, message.from_, progress)
        progress.become_probe()
        progress.become_replicate()
    other = message.from_ != raft.id
    if maybe_commit(raft):
        # Tell the new commit index at once, or followers would apply one heartbeat later.
        broadcast_append(raft)
    elif other and progress.can_bump_commit(raft.log.committed):
        send_append(raft, message.from_, progress)
    if other:
        # One answer may have made room for several messages. Each `send_append` moves `next` forward or
        # pauses the follower, so this ends. It ends early for a follower that lacks very much, since nothing
        # else is done meanwhile: the answers to these messages continue the stream.
        until = progress.next + _STREAMED_ENTRIES
        while progress.next < until and send_append(raft, message.from_, progress, if_empty=False):
            pass
    # During a transfer nothing is appended, so the transferee has all of the log now (dissertation 3.10).
    if message.from_ == raft.transferee and progress.match == raft.log.last_index():
        raft.logger.info(texts.TRANSFER_CAUGHT_UP, raft.id, message.from_)
        send_timeout_now(raft, message.from_)


def _handle_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    hint, hint_term = message.reject_hint, message.log_term
    raft.logger.debug(texts.RECEIVED_REJECTION, raft.id, hint, hint_term, message.from_, message.index)
    # End of section 5.3, on both sides: skip a whole term with each probe instead of one entry. The
    # follower's entries at and below `hint` have terms of `hint_term` at most. Entries of ours with a later
    # term cannot be among them, so the logs can agree only below. A wrong guess does no harm: it costs one
    # more probe, since the next append is checked again.
    if hint_term:
        hint, _ = raft.log.find_conflict_by_term(hint, hint_term)
    # False for an old refusal: streaming has gone on, or another probe is under way.
    if progress.maybe_decrease(message.index, hint):
        raft.logger.debug(texts.DECREASED_PROGRESS, raft.id, message.from_, progress)
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.from_, progress)


def maybe_commit(raft: Raft) -> bool:
    """Leader: commit what a quorum has, if it ends with an entry of this term. True if the index moved.

    If a conf change is among it, the index moves only when this node has written that down
    (`commit_written`).
    """
    log, index = raft.log, raft.tracker.committed()
    # Suppose the leader told that a conf change is committed, and crashed before that was on its disk. The
    # nodes that the change removes may have heard of it and ended. After its restart the leader knows nothing
    # of the commit and campaigns in the old configuration: it may need the votes of nodes that are gone.
    #
    # So the commit is written first: `Raft.hard_state` contains `unwritten_commit`, and the response of that
    # write calls `commit_written`. The first commit of each term takes this path as well, because
    # `pending_conf_index` then stands for any change that the leader inherited.
    if raft.config.durable_conf_changes and log.committed < raft.pending_conf_index <= index:
        if raft.unwritten_commit < raft.pending_conf_index and log.matches(index, raft.term):
            raft.unwritten_commit = index
        return False
    # An entry of an earlier term on a quorum may still be overwritten (figure 8): a candidate without it, but
    # with an entry of a later term, could win. With an entry of this term behind it on a quorum, no such
    # candidate can win any more. So only those are counted, and the earlier ones are committed with them.
    if not log.maybe_commit(index, raft.term):
        return False
    # The first commit of the term lets reads begin that waited for it (section 8).
    read_index.release_waiting(raft)
    return True


def commit_written(raft: Raft, index: int) -> None:
    """Note that the hard state on disk says that everything up to `index` is committed."""
    # Valid in any role and term: a quorum had these entries when `index` was noted, so they are committed,
    # and what is committed is in the log of every later leader (section 5.4.3).
    if index <= raft.log.committed:
        return
    raft.log.commit_to(index)
    if raft.role is StateRole.LEADER:
        # Later entries may have reached a quorum while the disk was busy.
        maybe_commit(raft)
        read_index.release_waiting(raft)
        broadcast_append(raft)


def handle_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    """Leader: a follower is alive. Repeat what may have been lost."""
    progress.recent_active = True
    # The leader repeats nothing by a timer of its own. An append or its answer may be lost; then the follower
    # is behind, or still probed, when it answers a heartbeat, and gets another append (section 5.5).
    if not progress.probe_wait_ticks:
        progress.append_paused = False
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, message.from_, progress)
    read_index.acknowledge(raft, message)


def handle_unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    """Leader: messages to a follower may have been lost. Stop streaming to it, and probe."""
    # While it streams, the leader moves `next` forward as if every append arrived.
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    progress.end_probe()  # if one was under way it is lost
    raft.logger.debug(texts.UNREACHABLE, raft.id, message.from_, progress)


def handle_snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    """Leader: a snapshot was delivered, or (`reject`) it failed. Then wait for an answer of the follower."""
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        # Probe from where its own log ended. Otherwise the probe begins behind the snapshot.
        progress.pending_snapshot = None
    progress.become_probe()
    text = texts.SNAPSHOT_FAILED if message.reject else texts.SNAPSHOT_SUCCEEDED
    raft.logger.debug(text, raft.id, message.from_, progress)
    # Delivered does not mean installed, and after a failure the network needs a pause. In both cases the next
    # append waits for an answer to a heartbeat or to the snapshot.
    progress.append_paused = True


# ---------------------------------------------------------------- follower


def handle_append(raft: Raft, message: Message) -> None:
    """Follower: append a leader's entries, or tell up to where the two logs may agree."""
    log = raft.log
    reply = raft.reply(MessageType.APP_RESP, message.from_)
    # Everything up to our commit index is in the log of this leader, as it is in the log of every later one
    # (Leader Completeness, section 5.4.3). So this node acknowledges it without comparing, which it could not
    # do if those entries are compacted. The append is an old one, or the leader does not know our log yet.
    if message.index < log.committed:
        reply.index = log.committed
        raft.send(reply)
        return
    last_new = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last_new is not None:
        # Not the end of our log: entries behind the leader's last one may be left from another leader, and
        # they were not compared. The reply waits in `after_append` until the entries are durable.
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
    # The leader recognizes by the index which append is refused. The hint skips all our entries whose term is
    # later than that of the leader's previous entry: they cannot be in its log (see `_handle_rejection`).
    reply.index = message.index
    reply.reject = True
    reply.reject_hint, reply.log_term = log.find_conflict_by_term(
        min(message.index, log.last_index()), message.log_term
    )
    raft.send(reply)
