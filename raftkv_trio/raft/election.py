"""Elections: the election timeout, campaigns, votes (paper, section 5.2), and leadership transfer.

Rules:

- A node gives one vote a term, and only to a candidate whose log is at least as up-to-date as its own
  (section 5.4.1).
- A node does not campaign while a conf change is committed but not applied: it may not know who votes.
- With CheckQuorum, a node that has heard from a leader within an election timeout votes for nobody, unless
  that leader itself asked for the campaign.
"""

from raftkv_trio.raft import read_index, texts
from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.progress import Progress
from raftkv_trio.raft.quorum import VoteResult
from raftkv_trio.raft.raft import (
    CAMPAIGN_TRANSFER,
    Raft,
    become_candidate,
    become_follower,
    become_pre_candidate,
    reset,
)
from raftkv_trio.raft.replication import append, broadcast_append, send_append, send_timeout_now
from raftkv_trio.raft.types import Entry, EntryType, Message, MessageType, StateRole

# ---------------------------------------------------------------- the clock


def tick(raft: Raft) -> None:
    """Advance the clocks by one tick; campaign, send heartbeats or check for a quorum if it is time."""
    raft.election_elapsed += 1
    if raft.role is StateRole.LEADER:
        _tick_leader(raft)
    # A node that may not campaign counts as well, because its lease on the leader must end too (`in_lease`).
    elif raft.promotable and raft.election_elapsed >= raft.randomized_election_ticks:
        raft.election_elapsed = 0
        campaign(raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    for _, progress in raft.tracker.others(raft.id):
        progress.probe_wait_ticks = max(0, progress.probe_wait_ticks - 1)
    # A leader has no election timeout of its own. It uses this clock for what takes one: CheckQuorum, and the
    # time that a leadership transfer may take.
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            _check_quorum(raft)
        # The transferee did not take over in time. Accept proposals again (dissertation 3.10).
        raft.transferee = None
    # The quorum check may have ended our leadership.
    if raft.role is StateRole.LEADER and raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        read_index.broadcast_heartbeat(raft)


def _check_quorum(raft: Raft) -> None:
    """Step down if no quorum was heard from since the last check (dissertation, section 6.2)."""
    # A leader that is cut off commits nothing, but its clients and followers would wait for it for ever. Its
    # term stays: another node may lead in a later one, or this node may be elected again.
    if not raft.tracker.quorum_active():
        raft.logger.warning(texts.QUORUM_NOT_ACTIVE, raft.id)
        become_follower(raft, raft.term, None)
    for _, progress in raft.tracker.others(raft.id):
        progress.recent_active = False


# ---------------------------------------------------------------- campaigns


def campaign(raft: Raft, *, transfer: bool = False) -> None:
    """Campaign, unless something forbids it. `transfer`: the leader asked for it, so without pre-vote."""
    if raft.role is StateRole.LEADER:
        raft.logger.debug(texts.HUP_WHILE_LEADER, raft.id)
    elif not raft.promotable:
        raft.logger.warning(texts.UNPROMOTABLE, raft.id)
    # Configurations take effect when they are applied. If a committed change is not applied yet, this node
    # may be two configurations behind the others, and then its quorum need not overlap with theirs. If it
    # knows of no such change, it is one behind at most. Further behind, it would lack committed entries, and
    # the nodes that have them would not vote for it (section 5.4.1).
    elif _has_unapplied_conf_change(raft):
        raft.logger.warning(texts.UNAPPLIED_CONF_CHANGE, raft.id, raft.term)
    else:
        raft.logger.info(texts.NEW_ELECTION, raft.id, raft.term)
        # After a transfer request, the others are still in the leader's lease and would ignore a pre-vote.
        # And nothing has to be tried out: the leader has checked that our log is complete.
        if raft.config.pre_vote and not transfer:
            become_pre_candidate(raft)
            _ask_for_votes(raft, MessageType.PRE_VOTE, raft.term + 1, b"")
        else:
            _run(raft, CAMPAIGN_TRANSFER if transfer else b"")


def _run(raft: Raft, context: bytes) -> None:
    become_candidate(raft)
    _ask_for_votes(raft, MessageType.VOTE, raft.term, context)


def _ask_for_votes(raft: Raft, kind: MessageType, term: int, context: bytes) -> None:
    # The last entry says how up-to-date the log is (section 5.4.1). It need not be durable: a leader counts
    # itself for an entry only when it is.
    log_term, index = raft.log.last_term(), raft.log.last_index()
    # Of a joint configuration, both halves vote (section 6).
    for voter in raft.tracker.voters():
        if voter == raft.id:
            # Our own vote counts when it is durable, as any other: the answer waits in `after_append`.
            own = raft.reply(_response_to(kind), voter)
            own.term = term
            raft.send(own)
            continue
        raft.logger.info(
            texts.SENT_VOTE_REQUEST, raft.id, log_term, index, texts.MESSAGE_NAMES[kind], voter, raft.term
        )
        request = raft.reply(kind, voter)
        request.term, request.log_term, request.index = term, log_term, index
        request.context = context
        if raft.config.votes_tell_commit:
            request.commit, request.commit_term = (
                raft.log.committed,
                raft.log.term_or_zero(raft.log.committed),
            )
        raft.send(request)


def _response_to(kind: MessageType) -> MessageType:
    return MessageType.VOTE_RESP if kind is MessageType.VOTE else MessageType.PRE_VOTE_RESP


def _has_unapplied_conf_change(raft: Raft) -> bool:
    log = raft.log
    # In pages, so that a long log is not copied as a whole.
    pages = log.pages(log.applied + 1, log.committed + 1, raft.config.max_message_bytes)
    return any(entry.type is not EntryType.NORMAL for page in pages for entry in page)


def handle_vote_response(raft: Raft, message: Message) -> None:
    """Candidate or pre-candidate: count a vote, or a refusal, of the kind that this node asked for."""
    name = texts.MESSAGE_NAMES[message.type]
    received = texts.RECEIVED_VOTE_REJECTION if message.reject else texts.RECEIVED_VOTE
    raft.logger.info(received, raft.id, name, message.from_, raft.term)
    raft.tracker.record_vote(message.from_, not message.reject)
    granted, rejected, result = raft.tracker.tally()
    raft.logger.info(texts.VOTES_SO_FAR, raft.id, granted, name, rejected)
    if result is VoteResult.LOST:
        # No quorum can be reached any more. Wait for another candidate, or for the next timeout. The term is
        # ours, not the message's: answers to pre-votes name a term that this node is not in.
        become_follower(raft, raft.term, None)
    elif result is VoteResult.WON:
        if raft.role is StateRole.PRE_CANDIDATE:
            # A quorum would vote for us. Only now a new term begins, and real votes are asked for.
            _run(raft, b"")
        else:
            become_leader(raft)
            broadcast_append(raft)


def become_leader(raft: Raft) -> None:
    """Lead this term, and begin it with an empty entry."""
    reset(raft, raft.term)
    raft.leader_id = raft.id
    raft.role = StateRole.LEADER
    own = raft.tracker.progress[raft.id]
    own.become_replicate()
    own.recent_active = True
    # Any entry that is not applied yet may be a conf change, and only one may be pending. To look through the
    # entries may take long, so take the last one for a change.
    raft.pending_conf_index = raft.log.last_index()
    # A leader commits entries of earlier terms only together with one of its own (section 5.4.2, figure 8).
    # The empty entry makes that happen at once, without waiting for a client, and tells the leader up to
    # where the log was committed before: no read is answered earlier (section 8).
    append(raft, [Entry(0, 0)])
    raft.logger.info(texts.BECAME_LEADER, raft.id, raft.term)


# ---------------------------------------------------------------- votes


def in_lease(raft: Raft, message: Message) -> bool:
    """Whether to ignore a vote request of a later term, because a leader is alive (dissertation 4.2.3)."""
    # `election_ticks` is the shortest timeout that any node draws. Until it has passed, no node with the same
    # leader had a reason to campaign, except one that was cut off, paused or removed.
    leader_is_alive = (
        raft.config.check_quorum
        and raft.leader_id is not None
        and raft.election_elapsed < raft.config.election_ticks
    )
    # The leader itself asked for this campaign, so it is not an intruder (dissertation 3.10).
    if not leader_is_alive or message.context == CAMPAIGN_TRANSFER:
        return False
    _log_vote(raft, texts.IGNORED_VOTE_IN_LEASE, message, raft.config.election_ticks - raft.election_elapsed)
    return True


def handle_vote_request(raft: Raft, message: Message) -> None:
    """In any role: grant or refuse a vote or a pre-vote."""
    # Learners vote as well. This node may be a learner in its own configuration but a voter in a newer one
    # that the candidate has applied; if it refused, that configuration might never elect a leader. The
    # candidate counts only votes of those that are voters in its own configuration.
    is_pre_vote = message.type is MessageType.PRE_VOTE
    free = (
        # The same vote again: the first answer may have been lost.
        raft.vote == message.from_
        # No vote in this term, and no leader, which would have a quorum of this term's votes already.
        or (raft.vote is None and raft.leader_id is None)
        # A pre-vote for a later term binds this node to nothing, so it may give any number of them.
        or (is_pre_vote and message.term > raft.term)
    )
    # Every committed entry is in the log of one node at least of any quorum. If that node votes only for logs
    # that are at least as up-to-date as its own, every leader has all committed entries (section 5.4.1;
    # Leader Completeness, section 5.4.3).
    if not free or not raft.log.is_up_to_date(message.index, message.log_term):
        refuse_vote(raft, message)
        return
    _log_vote(raft, texts.CAST_VOTE, message)
    reply = raft.reply(_response_to(message.type), message.from_)
    # A granted pre-vote names the term that was asked about. The candidate would ignore an answer that names
    # our term, which may be an earlier one than its own.
    reply.term = message.term
    _tell_commit(raft, reply)
    raft.send(reply)
    # The reply waits in `after_append` until the vote below is durable.
    if not is_pre_vote:
        # Give the candidate time to win before this node campaigns itself (section 5.2).
        raft.election_elapsed = 0
        raft.vote = message.from_


def refuse_vote(raft: Raft, message: Message) -> None:
    """Answer no, with this node's term, so that a candidate of an earlier term enters it."""
    _log_vote(raft, texts.REJECTED_VOTE, message)
    reply = raft.reply(_response_to(message.type), message.from_)
    reply.reject = True
    reply.term = raft.term
    _tell_commit(raft, reply)
    raft.send(reply)


def _tell_commit(raft: Raft, reply: Message) -> None:
    """Add the last entry that this node knows to be committed; candidates tell theirs, too.

    Suppose a conf change that removes members is committed, but the candidate does not know that. It needs
    the votes of the removed members, which have ended. If its log is the longest, no other node can be
    elected, and there is no leader that could tell the candidate of the commit. So its voters do.

    The other way round: the change that makes a learner a voter is committed, and the learner does not know
    it. If it has the longest log, since the others have lost entries that were not durable yet, it refuses
    its vote to all of them, and does not campaign itself. So candidates tell it.
    """
    if raft.config.votes_tell_commit:
        reply.index, reply.log_term = raft.log.committed, raft.log.term_or_zero(raft.log.committed)


def learn_commit(raft: Raft, index: int, term: int) -> None:
    """Take over a commit index that a voter, or a candidate, has told; `term` is that of its entry."""
    # Safe by Log Matching (section 5.3): if an entry of the same index and term is in this log, all entries
    # up to it are the same as the other node's, and those are committed. That node need not lead for that.
    if index > raft.log.committed and raft.log.matches(index, term):
        raft.log.commit_to(index)


def _log_vote(raft: Raft, text: str, message: Message, *more: int) -> None:
    raft.logger.info(
        text,
        raft.id,
        raft.log.last_term(),
        raft.log.last_index(),
        raft.vote or 0,
        texts.MESSAGE_NAMES[message.type],
        message.from_,
        message.log_term,
        message.index,
        raft.term,
        *more,
    )


# ---------------------------------------------------------------- transfer (dissertation, section 3.10)


def handle_transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Leader: bring `message.from_` up to date, then ask it to campaign at once."""
    target = message.from_
    # A learner has no vote, so it cannot become leader.
    if progress.is_learner:
        raft.logger.debug(texts.TRANSFER_TO_LEARNER, raft.id)
        return
    if raft.transferee is not None:
        if raft.transferee == target:
            raft.logger.info(texts.TRANSFER_IN_PROGRESS, raft.id, raft.term, target, target)
            return
        # The newest request counts. If the earlier transferee was asked to campaign already, it still may:
        # that is an ordinary election in a later term, which is safe at any time.
        before, raft.transferee = raft.transferee, None
        raft.logger.info(texts.TRANSFER_ABORTED, raft.id, raft.term, before)
    if target == raft.id:
        raft.logger.debug(texts.TRANSFER_TO_SELF, raft.id)
        return
    raft.logger.info(texts.TRANSFER_STARTS, raft.id, raft.term, target)
    # The transfer has one election timeout from now on (`_tick_leader`). As long as `transferee` is set,
    # proposals are refused, so that the log stays still and the target can catch up with it.
    raft.election_elapsed = 0
    raft.transferee = target
    # With the whole log, no voter has a reason to refuse the target (section 5.4.1).
    if progress.match == raft.log.last_index():
        send_timeout_now(raft, target)
        raft.logger.info(texts.TRANSFER_UP_TO_DATE, raft.id, target, target)
    else:
        send_append(raft, target, progress)


def forward_transfer(raft: Raft, message: Message) -> None:
    """Follower: send the request for a transfer on to the leader. It is dropped if no leader is known."""
    if raft.leader_id is None:
        raft.logger.info(texts.TRANSFER_NO_LEADER, raft.id, raft.term)
        return
    message.to = raft.leader_id
    raft.send(message)


def handle_timeout_now(raft: Raft, message: Message) -> None:
    """Follower: the leader asks this node to campaign at once (dissertation, section 3.10)."""
    raft.logger.info(texts.TIMEOUT_NOW, raft.id, raft.term, message.from_)
    campaign(raft, transfer=True)


def ignore_timeout_now(raft: Raft, message: Message) -> None:
    """Candidate: this node campaigns already."""
    role = texts.ROLE_NAMES[raft.role]
    raft.logger.debug(texts.TIMEOUT_NOW_IGNORED, raft.id, raft.term, role, message.from_)


def forget_leader(raft: Raft) -> None:
    """Follower: vote as if no leader were known in this term."""
    # A lease means that no follower votes while it hears from the leader. So with reads by lease, a follower
    # must not forget its leader.
    if raft.config.read_only is ReadOnlyOption.LEASE_BASED:
        raft.logger.error(texts.FORGET_LEADER_LEASE_BASED)
    elif raft.leader_id is not None:
        raft.logger.info(texts.FORGETTING_LEADER, raft.id, raft.leader_id, raft.term)
        raft.leader_id = None
