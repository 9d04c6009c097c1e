"""One message: first its term (paper, section 5.1), then what its kind means in this node's role.

- Term 0: the message stays on this node, or a node forwards it for a client. It belongs to no term.
- A later term than ours: this node becomes a follower in that term. Two kinds of message do not have this
  effect: pre-vote requests and granted pre-votes, which name a term that no node is in yet; and vote requests
  that come while this node hears from a leader.
- An earlier term: the message is ignored, unless its sender would be stuck for ever without an answer.
"""

from collections.abc import Callable, Mapping

from raftkv_trio.raft import election, read_index, reconfiguration, replication, texts
from raftkv_trio.raft.progress import Progress
from raftkv_trio.raft.raft import Raft, become_follower
from raftkv_trio.raft.types import Message, MessageType, StateRole

_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_VOTE_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_VOTE_RESPONSES = frozenset({MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})


def step(raft: Raft, message: Message) -> None:
    """Act on `message`.

    Raises:
        StepError, ProposalDropped, InvalidConfiguration, InvalidState: as in `RawNode.step`.
    """
    # In whichever term: what is committed stays so. A leader does not learn commits this way: its commit
    # index moves by counting only (section 5.4.2), and together with what depends on it, such as waiting
    # reads.
    if message.commit_term and raft.role is not StateRole.LEADER:
        election.learn_commit(raft, message.commit, message.commit_term)
    if message.term > raft.term:
        if not _enter_later_term(raft, message):
            return
    elif message.term and message.term < raft.term:
        _answer_earlier_term(raft, message)
        return
    # From here on the message is of our term or of none, except for pre-votes, which name the next one.
    kind = message.type
    if kind in _VOTE_RESPONSES and message.log_term and raft.role is not StateRole.LEADER:
        election.learn_commit(raft, message.index, message.log_term)
    # Vote requests mean the same in every role: a candidate or leader has voted for itself in this term, so
    # it refuses all others. What storage answers means the same in every role, too.
    if kind in _VOTE_REQUESTS:
        election.handle_vote_request(raft, message)
    elif kind is MessageType.STORAGE_APPEND_RESP:
        if message.snapshot is not None:
            reconfiguration.snapshot_installed(raft, message.snapshot)
        if message.index:
            raft.log.unstable.stable_to(message.index, message.log_term)
        replication.commit_written(raft, message.commit)
    elif kind is MessageType.STORAGE_APPLY_RESP:
        reconfiguration.entries_applied(raft, message.entries)
    elif raft.role is StateRole.LEADER:
        _step_leader(raft, message)
    elif raft.role is StateRole.FOLLOWER:
        handler = _FOLLOWER.get(kind)
        if handler is not None:
            handler(raft, message)
    else:
        _step_candidate(raft, message)


# ---------------------------------------------------------------- terms


def _enter_later_term(raft: Raft, message: Message) -> bool:
    """Enter the message's term if it requires that. Returns False if the message must be ignored."""
    kind = message.type
    # A node that was removed, or cut off, campaigns again and again, each time in a later term. While a
    # leader is alive, its followers do not enter those terms, so that it stays (section 6, end;
    # dissertation 4.2.3).
    if kind in _VOTE_REQUESTS and election.in_lease(raft, message):
        return False
    # The sender of a pre-vote is not in the term that it asks about (dissertation 9.6). A refused
    # pre-vote, in contrast, carries the voter's own term, which we must enter to catch up.
    if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESP and not message.reject):
        return True
    raft.logger.info(
        texts.HIGHER_TERM, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.from_, message.term
    )
    # A term has at most one leader (section 5.2), so the sender of what only leaders send is that leader.
    become_follower(raft, message.term, message.from_ if kind in _FROM_LEADER else None)
    return True


def _answer_earlier_term(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind in (MessageType.HEARTBEAT, MessageType.APP) and (
        raft.config.check_quorum or raft.config.pre_vote
    ):
        # A live leader, but our term is later than its own: say, we campaigned while we were cut off. We
        # cannot accept its messages, and with these options our own requests for votes do not bring the
        # others into our term. This empty answer carries our term: the leader steps down, and the next
        # election includes us. A removed node cannot disturb in this way, because no leader sends to it.
        raft.send(raft.reply(MessageType.APP_RESP, message.from_))
    elif kind is MessageType.PRE_VOTE:
        # Suppose A has the later term and B the longer log. A cannot win because of its log. If A ignored B's
        # pre-vote because of its term, B could not win either. The refusal carries A's term: B enters it, and
        # its next pre-vote counts.
        election.refuse_vote(raft, message)
    elif kind is MessageType.STORAGE_APPEND_RESP:
        if message.index:
            # The entries may have been overwritten since; see `RawNode._storage_append_response`.
            raft.logger.info(
                texts.LOWER_TERM_APPEND, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.term
            )
        # A snapshot holds committed entries only, and what is committed stays so in every later term.
        if message.snapshot is not None:
            reconfiguration.snapshot_installed(raft, message.snapshot)
        replication.commit_written(raft, message.commit)
    else:
        raft.logger.info(
            texts.LOWER_TERM, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.from_, message.term
        )


# ---------------------------------------------------------------- roles


def _step_leader(raft: Raft, message: Message) -> None:
    kind = message.type
    # Proposals and reads come from clients, through any node, so their sender need not be a member.
    if kind is MessageType.PROP:
        replication.propose(raft, message.entries)
        return
    if kind is MessageType.READ_INDEX:
        read_index.handle_read_index(raft, message)
        return
    # All else is about one member. In TRANSFER_LEADER, `from_` is the member that is to lead.
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        raft.logger.debug(texts.NO_PROGRESS, raft.id, message.from_)
        return
    handler = _LEADER.get(kind)
    if handler is not None:
        handler(raft, message, progress)


def _step_candidate(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind in _FROM_LEADER:
        # The message is of our own term: its sender has won the election (section 5.2).
        become_follower(raft, message.term, message.from_)
        _FOLLOWER[kind](raft, message)
        return
    # Each kind of answer counts only in its own round. A granted pre-vote binds its voter to nothing: counted
    # as a vote, it could help to elect a second leader.
    awaited = MessageType.VOTE_RESP if raft.role is StateRole.CANDIDATE else MessageType.PRE_VOTE_RESP
    if kind is awaited:
        election.handle_vote_response(raft, message)
    elif kind is MessageType.PROP:
        replication.drop_proposal(raft)
    elif kind is MessageType.TIMEOUT_NOW:
        election.ignore_timeout_now(raft, message)


def _follow(handle: Callable[[Raft, Message], None]) -> Callable[[Raft, Message], None]:
    """Wrap the handler of a leader's message: its sender leads, and the election timeout starts again."""

    def handler(raft: Raft, message: Message) -> None:
        raft.election_elapsed = 0
        raft.leader_id = message.from_
        handle(raft, message)

    return handler


_FOLLOWER: Mapping[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.APP: _follow(replication.handle_append),
    MessageType.HEARTBEAT: _follow(read_index.handle_heartbeat),
    MessageType.SNAP: _follow(reconfiguration.handle_snapshot),
    MessageType.PROP: replication.forward_proposal,
    MessageType.READ_INDEX: read_index.forward_read_index,
    MessageType.READ_INDEX_RESP: read_index.handle_read_index_response,
    MessageType.TRANSFER_LEADER: election.forward_transfer,
    MessageType.TIMEOUT_NOW: election.handle_timeout_now,
}

_LEADER: Mapping[MessageType, Callable[[Raft, Message, Progress], None]] = {
    MessageType.APP_RESP: replication.handle_append_response,
    MessageType.HEARTBEAT_RESP: replication.handle_heartbeat_response,
    MessageType.SNAP_STATUS: replication.handle_snapshot_status,
    MessageType.UNREACHABLE: replication.handle_unreachable,
    MessageType.TRANSFER_LEADER: election.handle_transfer,
}
