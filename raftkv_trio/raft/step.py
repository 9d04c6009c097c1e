"""One message: first its term (paper, section 5.1), then what its kind means in the present role.

Messages of a term of 0 stay on a node, or are forwarded for a client. A later term makes a follower of
anybody, except that pre-votes and granted ones carry a term that nobody is in, and that votes within a
leader's lease are ignored. An earlier term is ignored, except where the sender would be stuck for ever.
"""

from collections.abc import Callable, Mapping

from raftkv_trio.raft import election, membership, reads, replication, texts
from raftkv_trio.raft.progress import Progress
from raftkv_trio.raft.raft import Raft, become_follower
from raftkv_trio.raft.types import Message, MessageType, StateRole

_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_VOTE_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_VOTE_RESPONSES = frozenset({MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})


def step(raft: Raft, message: Message) -> None:
    """Act on `message`; raises StepError, ProposalDropped, InvalidConfiguration or InvalidState."""
    if message.term > raft.term:
        if not _enter_later_term(raft, message):
            return
    elif message.term and message.term < raft.term:
        _answer_earlier_term(raft, message)
        return
    kind = message.type
    if kind in _VOTE_RESPONSES and message.log_term and raft.role is not StateRole.LEADER:
        election.learn_commit(raft, message)
    if kind in _VOTE_REQUESTS:
        election.handle_vote_request(raft, message)
    elif kind is MessageType.STORAGE_APPEND_RESP:
        if message.snapshot is not None:
            membership.snapshot_installed(raft, message.snapshot)
        if message.index:
            raft.log.unstable.stable_to(message.index, message.log_term)
        replication.commit_written(raft, message.commit)
    elif kind is MessageType.STORAGE_APPLY_RESP:
        membership.entries_applied(raft, message.entries)
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
    """Follow into the message's term where it has to be; False where the message is to be ignored."""
    kind = message.type
    if kind in _VOTE_REQUESTS and election.in_lease(raft, message):
        return False
    if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESP and not message.reject):
        return True
    raft.logger.info(
        texts.HIGHER_TERM, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.from_, message.term
    )
    become_follower(raft, message.term, message.from_ if kind in _FROM_LEADER else None)
    return True


def _answer_earlier_term(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind in (MessageType.HEARTBEAT, MessageType.APP) and (
        raft.config.check_quorum or raft.config.pre_vote
    ):
        # A leader that we have left behind, by a campaign that nobody heard because of its lease, must learn
        # our term from an answer to its own messages, or we could never follow it again.
        raft.send(raft.reply(MessageType.APP_RESP, message.from_))
    elif kind is MessageType.PRE_VOTE:
        # or two nodes that each wait for the other's pre-vote could never elect anybody
        election.refuse_vote(raft, message)
    elif kind is MessageType.STORAGE_APPEND_RESP:
        if message.index:
            # the entries may have been overwritten since; see `rawnode._storage_append_response`
            raft.logger.info(
                texts.LOWER_TERM_APPEND, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.term
            )
        if message.snapshot is not None:  # committed, so of no term
            membership.snapshot_installed(raft, message.snapshot)
        replication.commit_written(raft, message.commit)
    else:
        raft.logger.info(
            texts.LOWER_TERM, raft.id, raft.term, texts.MESSAGE_NAMES[kind], message.from_, message.term
        )


# ---------------------------------------------------------------- roles


def _step_leader(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind is MessageType.PROP:
        replication.propose(raft, message.entries)
        return
    if kind is MessageType.READ_INDEX:
        reads.handle_read_index(raft, message)
        return
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
        # of our own term: somebody else has won it
        become_follower(raft, message.term, message.from_)
        _FOLLOWER[kind](raft, message)
        return
    awaited = MessageType.VOTE_RESP if raft.role is StateRole.CANDIDATE else MessageType.PRE_VOTE_RESP
    if kind is awaited:
        election.handle_vote_response(raft, message)
    elif kind is MessageType.PROP:
        replication.drop_proposal(raft)
    elif kind is MessageType.TIMEOUT_NOW:
        election.ignore_timeout_now(raft, message)


def _follow(handle: Callable[[Raft, Message], None]) -> Callable[[Raft, Message], None]:
    """What a leader of our term says: it leads, and the election clock begins anew."""

    def handler(raft: Raft, message: Message) -> None:
        raft.election_elapsed = 0
        raft.leader_id = message.from_
        handle(raft, message)

    return handler


_FOLLOWER: Mapping[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.APP: _follow(replication.handle_append),
    MessageType.HEARTBEAT: _follow(reads.handle_heartbeat),
    MessageType.SNAP: _follow(membership.handle_snapshot),
    MessageType.PROP: replication.forward_proposal,
    MessageType.READ_INDEX: reads.forward_read_index,
    MessageType.READ_INDEX_RESP: reads.handle_read_index_response,
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
