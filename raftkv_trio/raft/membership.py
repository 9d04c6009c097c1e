"""Changes of configuration as they are applied, and snapshots, which carry one (paper, sections 6 and 7).

A configuration takes effect when its entry is applied. A joint one with `auto_leave` is left by whoever leads
once everything up to it is applied; the proposal is tried again at every applied entry until it is in the
log.

Two leaders in one term are impossible only while any two configurations in which nodes campaign overlap. So
whoever has a conf change in its log knows that the one before is committed, and not only until a crash: a
leader appends a change when it has applied the one before, its appends tell that commit with the change, and
storage writes both at once. A node is then never more than one change behind of its log.
"""

from collections.abc import Sequence

from raftkv_trio.raft import reads, texts
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
    """The configuration after `change`, in force from now on; raises InvalidConfiguration.

    While a snapshot is being installed nothing newer than it is handed out for applying, so `change` is part
    of that snapshot already, and is ignored.
    """
    if raft.log.unstable.snapshot is not None:
        return raft.conf_state
    changed = apply_change(raft.conf_state, change)
    _switch(raft, changed.conf_state, changed.dropped)
    return raft.conf_state


def _switch(raft: Raft, conf: ConfState, dropped: frozenset[int] = frozenset()) -> None:
    tracker = raft.tracker
    tracker.switch(conf, raft.log.last_index(), dropped)
    raft.logger.info(texts.SWITCHED_CONFIGURATION, raft.id, describe(tracker.conf_state))
    if raft.role in (StateRole.CANDIDATE, StateRole.PRE_CANDIDATE) and not raft.promotable:
        become_follower(raft, raft.term, None)  # it has learned from the votes that it has none itself
    if raft.role is not StateRole.LEADER:
        return
    own = tracker.progress.get(raft.id)
    if own is None or own.is_learner:
        if raft.config.step_down_on_removal:
            become_follower(raft, raft.term, None)
        return
    if maybe_commit(raft):  # fewer voters may be a quorum already
        broadcast_append(raft)
    else:
        for member, progress in tracker.others(raft.id):
            send_append(raft, member, progress, if_empty=False)
    reads.answer_confirmed(raft)
    if raft.transferee is not None and raft.transferee not in tracker.voters():
        raft.transferee = None


# ---------------------------------------------------------------- applied


def entries_applied(raft: Raft, entries: Sequence[Entry]) -> None:
    """The state machine has applied `entries`; raises InvalidState."""
    if entries:
        _applied_to(raft, entries[-1].index, entries_size(entries))
        reduce_uncommitted(raft, entries)


def snapshot_installed(raft: Raft, snapshot: Snapshot) -> None:
    """The state machine has been replaced by `snapshot`, which is durable; raises InvalidState."""
    raft.log.unstable.stable_snapshot_to(snapshot.index)
    _applied_to(raft, snapshot.index, 0)


def _applied_to(raft: Raft, index: int, size_bytes: int) -> None:
    applied = max(index, raft.log.applied)
    raft.log.applied_to(applied, size_bytes)
    leads = raft.role is StateRole.LEADER
    if not (leads and raft.conf_state.auto_leave and applied >= raft.pending_conf_index):
        return
    configuration = describe(raft.conf_state)
    try:
        propose(raft, [conf_change_entry(ConfChangeV2())])
    except ProposalDropped:
        raft.logger.debug(texts.AUTO_LEAVE_NOT_YET, configuration, texts.PROPOSAL_DROPPED)
    else:
        raft.logger.info(texts.AUTO_LEAVE, configuration)


# ---------------------------------------------------------------- snapshots


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Follower: install a leader's snapshot if it is ahead of us; raises InvalidMessage."""
    snapshot = message.snapshot
    if snapshot is None:
        raise InvalidMessage(f"node {message.from_} sent a snapshot message without a snapshot")
    restored = _restore(raft, snapshot)
    text = texts.RESTORED_SNAPSHOT if restored else texts.IGNORED_SNAPSHOT
    raft.logger.info(text, raft.id, raft.log.committed, snapshot.index, snapshot.term)
    reply = raft.reply(MessageType.APP_RESP, message.from_)
    reply.index = raft.log.last_index() if restored else raft.log.committed
    raft.send(reply)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by `snapshot`; False where it tells us nothing, or is none of ours."""
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    conf = snapshot.conf_state
    if raft.id not in all_members(conf):
        raft.logger.warning(texts.SNAPSHOT_WITHOUT_US, raft.id, describe_members(conf))
        return False
    normalized(conf)
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
