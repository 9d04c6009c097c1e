"""Conf changes as they are applied, and snapshots, which carry a configuration (paper, sections 6 and 7).

A configuration takes effect when its entry is applied. The paper puts it into force when it is appended.
Safety needs the same as there: whenever nodes campaign in two configurations, these must overlap, or there
could be two leaders in one term. It follows from these rules:

1. A leader appends a change only when it has applied the one before (`replication._why_not`). So a node that
   has a change in its log could know that the change before it is committed.
2. It does know, and not only until a crash: the append that brings a change also tells that the one before is
   committed, and storage writes entries and commit index together.
3. A node that knows of a committed change does not campaign before it has applied it (`election.campaign`).

So a node that campaigns is one change behind its own log at most, and the configuration before a change
overlaps with the one after it. A node whose log lacks a change that others have applied cannot win: the
quorum that committed the change overlaps with its own, and those nodes do not vote for it (section 5.4.1).

A joint configuration with `auto_leave` is left by its leader, as soon as everything up to it is applied. The
leader tries again with each applied entry until the change that leaves it is in the log.
"""

from collections.abc import Sequence

from raftkv_trio.raft import read_index, texts
from raftkv_trio.raft.confchange import (
    ConfChange,
    ConfChangeV2,
    all_members,
    apply_change,
    conf_change_entry,
    describe,
    describe_members,
    normalized,
)
from raftkv_trio.raft.errors import InvalidMessage, ProposalDropped
from raftkv_trio.raft.raft import Raft, become_follower
from raftkv_trio.raft.replication import (
    broadcast_append,
    maybe_commit,
    propose,
    reduce_uncommitted,
    send_append,
)
from raftkv_trio.raft.storage import entries_size
from raftkv_trio.raft.types import ConfState, Entry, Message, MessageType, Snapshot, StateRole


def apply_conf_change(raft: Raft, change: ConfChange | ConfChangeV2) -> ConfState:
    """Put `change` into force, and return the new configuration; raises InvalidConfiguration."""
    # While a snapshot is being installed, nothing behind it is handed out for applying. So `change` was
    # handed out before, and the snapshot's configuration, which is in force already, contains it.
    if raft.log.unstable.snapshot is not None:
        return raft.conf_state
    changed = apply_change(raft.conf_state, change)
    _switch(raft, changed.conf_state, changed.dropped)
    return raft.conf_state


def _switch(raft: Raft, conf: ConfState, dropped: frozenset[int] = frozenset()) -> None:
    tracker = raft.tracker
    tracker.switch(conf, raft.log.last_index(), dropped)
    raft.logger.info(texts.SWITCHED_CONFIGURATION, raft.id, describe(tracker.conf_state))
    # A candidate may learn from the answers of voters that its own removal is committed
    # (`votes_tell_commit`).
    if raft.role in (StateRole.CANDIDATE, StateRole.PRE_CANDIDATE) and not raft.promotable:
        become_follower(raft, raft.term, None)
    if raft.role is not StateRole.LEADER:
        return
    # A leader that is not a voter any more steps down, now that its removal is committed (dissertation
    # 4.2.2). Until then it had to lead, or the change might never have been committed.
    own = tracker.progress.get(raft.id)
    if own is None or own.is_learner:
        if raft.config.step_down_on_removal:
            become_follower(raft, raft.term, None)
        return
    # With fewer voters, what was acknowledged so far may be enough for a quorum.
    if maybe_commit(raft):
        broadcast_append(raft)
    else:
        # A new member gets its first append, or a snapshot, now, without waiting for a heartbeat.
        for member, progress in tracker.others(raft.id):
            send_append(raft, member, progress, if_empty=False)
    # The same holds for the rounds of reads.
    read_index.answer_confirmed(raft)
    # A transferee that is not a voter any more cannot lead. Proposals need not wait for it.
    if raft.transferee is not None and raft.transferee not in tracker.voters():
        raft.transferee = None


# ---------------------------------------------------------------- applied


def entries_applied(raft: Raft, entries: Sequence[Entry]) -> None:
    """Note that the state machine has applied `entries`; raises InvalidState."""
    if entries:
        _applied_to(raft, entries[-1].index, entries_size(entries))
        reduce_uncommitted(raft, entries)


def snapshot_installed(raft: Raft, snapshot: Snapshot) -> None:
    """Note that `snapshot` is durable and has replaced the state machine; raises InvalidState."""
    raft.log.unstable.stable_snapshot_to(snapshot.index)
    _applied_to(raft, snapshot.index, 0)


def _applied_to(raft: Raft, index: int, size_bytes: int) -> None:
    # Entries that were handed out before a snapshot may be acknowledged after it.
    applied = max(index, raft.log.applied)
    raft.log.applied_to(applied, size_bytes)
    # The joint configuration is in force here, and nothing that may change it is pending. The entry that
    # leaves it needs a majority of both halves, so by then each half can go on alone. If leadership has
    # changed, the new leader proposes it, once it has applied what it inherited, up to `pending_conf_index`.
    leads = raft.role is StateRole.LEADER
    if not (leads and raft.conf_state.auto_leave and applied >= raft.pending_conf_index):
        return
    configuration = describe(raft.conf_state)
    try:
        propose(raft, [conf_change_entry(ConfChangeV2())])
    except ProposalDropped:
        # During a leadership transfer, for example. The next applied entry tries again.
        raft.logger.debug(texts.AUTO_LEAVE_NOT_YET, configuration, texts.PROPOSAL_DROPPED)
    else:
        raft.logger.info(texts.AUTO_LEAVE, configuration)


# ---------------------------------------------------------------- snapshots


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Follower: install a leader's snapshot if it is ahead of this node; raises InvalidMessage."""
    snapshot = message.snapshot
    if snapshot is None:
        raise InvalidMessage(f"node {message.from_} sent a snapshot message without a snapshot")
    restored = _restore(raft, snapshot)
    text = texts.RESTORED_SNAPSHOT if restored else texts.IGNORED_SNAPSHOT
    raft.logger.info(text, raft.id, raft.log.committed, snapshot.index, snapshot.term)
    # An append response, as for entries (section 7): this node has everything up to the snapshot, or had more
    # already. It waits until the snapshot is durable.
    reply = raft.reply(MessageType.APP_RESP, message.from_)
    reply.index = raft.log.last_index() if restored else raft.log.committed
    raft.send(reply)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by `snapshot`; False if that is not needed, or not possible."""
    log = raft.log
    # An old or repeated message. To go back would undo what was applied.
    if snapshot.index <= log.committed:
        return False
    conf = snapshot.conf_state
    # This node could not take part in a configuration without it, and no leader would send it what follows.
    if raft.id not in all_members(conf):
        raft.logger.warning(texts.SNAPSHOT_WITHOUT_US, raft.id, describe_members(conf))
        return False
    # Raises before anything has changed.
    normalized(conf)
    # Log Matching: with the snapshot's last entry, the log has all that the snapshot covers, so only the
    # commit index is news. Entries behind it stay, as section 7 demands: this node may have acknowledged
    # them.
    if log.matches(snapshot.index, snapshot.term):
        raft.logger.info(
            texts.FAST_FORWARDED,
            raft.id,
            log.committed,
            log.last_index(),
            log.last_term(),
            snapshot.index,
            snapshot.term,
        )
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    # Empty, so that `switch` keeps nothing that was known under the old configuration.
    raft.tracker.progress = {}
    _switch(raft, conf)
    raft.logger.info(
        texts.RESTORED_CONFIGURATION,
        raft.id,
        log.committed,
        log.last_index(),
        log.last_term(),
        snapshot.index,
        snapshot.term,
    )
    return True
