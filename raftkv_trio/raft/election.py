"""Who leads: the election clock, campaigns and votes (paper, section 5.2), and leadership transfer.

Rules: one vote a term, and only for a log at least as good as ours (section 5.4.1); nobody begins a campaign
with a committed but unapplied conf change, for it may not know who votes (one that the votes tell of is the
last in its log, so that the configurations before and after it overlap); with CheckQuorum, who has heard from
a leader within an election timeout votes for nobody, unless that leader itself asked for the campaign.
"""

from raftkv_trio.raft import reads, texts
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
    """One tick has passed."""
    raft.election_elapsed += 1
    if raft.role is StateRole.LEADER:
        _tick_leader(raft)
    elif raft.promotable and raft.election_elapsed >= raft.randomized_election_ticks:
        raft.election_elapsed = 0
        campaign(raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            _check_quorum(raft)
        raft.transferee = None  # it did not take over in time, so we lead on
    if raft.role is StateRole.LEADER and raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        reads.broadcast_heartbeat(raft)


def _check_quorum(raft: Raft) -> None:
    """Step down if no quorum was heard since the last time: somebody else may lead."""
    if not raft.tracker.quorum_active():
        raft.logger.warning(texts.QUORUM_NOT_ACTIVE, raft.id)
        become_follower(raft, raft.term, None)
    for _, progress in raft.tracker.others(raft.id):
        progress.recent_active = False


# ---------------------------------------------------------------- campaigns


def campaign(raft: Raft, *, transfer: bool = False) -> None:
    """Run for leader unless something forbids it; `transfer`: the leader asked us to, so no pre-vote."""
    if raft.role is StateRole.LEADER:
        raft.logger.debug(texts.HUP_WHILE_LEADER, raft.id)
    elif not raft.promotable:
        raft.logger.warning(texts.UNPROMOTABLE, raft.id)
    elif _has_unapplied_conf_change(raft):
        raft.logger.warning(texts.UNAPPLIED_CONF_CHANGE, raft.id, raft.term)
    else:
        raft.logger.info(texts.NEW_ELECTION, raft.id, raft.term)
        if raft.config.pre_vote and not transfer:
            become_pre_candidate(raft)
            _ask_for_votes(raft, MessageType.PRE_VOTE, raft.term + 1, b"")
        else:
            _run(raft, CAMPAIGN_TRANSFER if transfer else b"")


def _run(raft: Raft, context: bytes) -> None:
    become_candidate(raft)
    _ask_for_votes(raft, MessageType.VOTE, raft.term, context)


def _ask_for_votes(raft: Raft, kind: MessageType, term: int, context: bytes) -> None:
    log_term, index = raft.log.last_term(), raft.log.last_index()
    for voter in raft.tracker.voters():
        if voter == raft.id:
            # our own vote counts like any other: when it is durable
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
        raft.send(request)


def _response_to(kind: MessageType) -> MessageType:
    return MessageType.VOTE_RESP if kind is MessageType.VOTE else MessageType.PRE_VOTE_RESP


def _has_unapplied_conf_change(raft: Raft) -> bool:
    log = raft.log
    pages = log.pages(log.applied + 1, log.committed + 1, raft.config.max_message_bytes)
    return any(entry.type is not EntryType.NORMAL for page in pages for entry in page)


def handle_vote_response(raft: Raft, message: Message) -> None:
    """Candidate or pre-candidate: a vote, or a refusal, of the kind we asked for."""
    name = texts.MESSAGE_NAMES[message.type]
    received = texts.RECEIVED_VOTE_REJECTION if message.reject else texts.RECEIVED_VOTE
    raft.logger.info(received, raft.id, name, message.from_, raft.term)
    raft.tracker.record_vote(message.from_, not message.reject)
    granted, rejected, result = raft.tracker.tally()
    raft.logger.info(texts.VOTES_SO_FAR, raft.id, granted, name, rejected)
    if result is VoteResult.LOST:
        become_follower(raft, raft.term, None)  # a pre-vote's refusal is of a later term than ours
    elif result is VoteResult.WON:
        if raft.role is StateRole.PRE_CANDIDATE:
            _run(raft, b"")
        else:
            become_leader(raft)
            broadcast_append(raft)


def become_leader(raft: Raft) -> None:
    """Lead this term, beginning with an empty entry: only with it can earlier ones be committed."""
    reset(raft, raft.term)
    raft.leader_id = raft.id
    raft.role = StateRole.LEADER
    own = raft.tracker.progress[raft.id]
    own.become_replicate()
    own.recent_active = True
    # some entry that is not applied yet may be a conf change, and to look for it may take long
    raft.pending_conf_index = raft.log.last_index()
    append(raft, [Entry(0, 0)])
    raft.logger.info(texts.BECAME_LEADER, raft.id, raft.term)


# ---------------------------------------------------------------- votes


def in_lease(raft: Raft, message: Message) -> bool:
    """Whether a request for votes of a later term is ignored: we have heard from a leader just now."""
    leader_is_alive = (
        raft.config.check_quorum
        and raft.leader_id is not None
        and raft.election_elapsed < raft.config.election_ticks
    )
    if not leader_is_alive or message.context == CAMPAIGN_TRANSFER:
        return False
    _log_vote(raft, texts.IGNORED_VOTE_IN_LEASE, message, raft.config.election_ticks - raft.election_elapsed)
    return True


def handle_vote_request(raft: Raft, message: Message) -> None:
    """Anybody: grant or refuse a vote. Learners vote too: the candidate may know that they are voters."""
    is_pre_vote = message.type is MessageType.PRE_VOTE
    free = (
        raft.vote == message.from_
        or (raft.vote is None and raft.leader_id is None)
        or (is_pre_vote and message.term > raft.term)
    )
    if not free or not raft.log.is_up_to_date(message.index, message.log_term):
        refuse_vote(raft, message)
        return
    _log_vote(raft, texts.CAST_VOTE, message)
    reply = raft.reply(_response_to(message.type), message.from_)
    reply.term = message.term  # a pre-vote is for a term that we are not in
    _tell_commit(raft, reply)
    raft.send(reply)
    if not is_pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_


def refuse_vote(raft: Raft, message: Message) -> None:
    """Answer no, with our term, so that a candidate that is behind catches up."""
    _log_vote(raft, texts.REJECTED_VOTE, message)
    reply = raft.reply(_response_to(message.type), message.from_)
    reply.reject = True
    reply.term = raft.term
    _tell_commit(raft, reply)
    raft.send(reply)


def _tell_commit(raft: Raft, reply: Message) -> None:
    """The last entry that is committed as far as this node knows, so that a candidate knows it too.

    Otherwise a candidate may need votes of members that a committed change has removed, and that have ended:
    with the longest log, it alone can be elected, and without a leader nobody tells it of that commit.
    """
    if raft.config.votes_tell_commit:
        reply.index, reply.log_term = raft.log.committed, raft.log.term_or_zero(raft.log.committed)


def learn_commit(raft: Raft, message: Message) -> None:
    """What a voter knows to be committed is so in this log too, if it has that entry (Log Matching)."""
    if message.index > raft.log.committed and raft.log.matches(message.index, message.log_term):
        raft.log.commit_to(message.index)


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
    """Leader: hand over to `message.from_`: bring it up to date, then ask it to campaign at once."""
    target = message.from_
    if progress.is_learner:
        raft.logger.debug(texts.TRANSFER_TO_LEARNER, raft.id)
        return
    if raft.transferee is not None:
        if raft.transferee == target:
            raft.logger.info(texts.TRANSFER_IN_PROGRESS, raft.id, raft.term, target, target)
            return
        before, raft.transferee = raft.transferee, None
        raft.logger.info(texts.TRANSFER_ABORTED, raft.id, raft.term, before)
    if target == raft.id:
        raft.logger.debug(texts.TRANSFER_TO_SELF, raft.id)
        return
    raft.logger.info(texts.TRANSFER_STARTS, raft.id, raft.term, target)
    raft.election_elapsed = 0  # it has one election timeout
    raft.transferee = target
    if progress.match == raft.log.last_index():
        send_timeout_now(raft, target)
        raft.logger.info(texts.TRANSFER_UP_TO_DATE, raft.id, target, target)
    else:
        send_append(raft, target, progress)


def forward_transfer(raft: Raft, message: Message) -> None:
    """Follower: the leader is to hand over; dropped where there is none."""
    if raft.leader_id is None:
        raft.logger.info(texts.TRANSFER_NO_LEADER, raft.id, raft.term)
        return
    message.to = raft.leader_id
    raft.send(message)


def handle_timeout_now(raft: Raft, message: Message) -> None:
    """Follower: the leader asks us to take over."""
    raft.logger.info(texts.TIMEOUT_NOW, raft.id, raft.term, message.from_)
    campaign(raft, transfer=True)


def ignore_timeout_now(raft: Raft, message: Message) -> None:
    """Candidate: we campaign already."""
    role = texts.ROLE_NAMES[raft.role]
    raft.logger.debug(texts.TIMEOUT_NOW_IGNORED, raft.id, raft.term, role, message.from_)


def forget_leader(raft: Raft) -> None:
    """Follower: vote as if no leader were known, in this term; ignored with lease reads, which rely on it."""
    if raft.config.read_only is ReadOnlyOption.LEASE_BASED:
        raft.logger.error(texts.FORGET_LEADER_LEASE_BASED)
    elif raft.leader_id is not None:
        raft.logger.info(texts.FORGETTING_LEADER, raft.id, raft.leader_id, raft.term)
        raft.leader_id = None
