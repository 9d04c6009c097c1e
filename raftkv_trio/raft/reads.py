"""Heartbeats and ReadIndex: how a leader shows, and finds out, that it still leads.

ReadIndex (dissertation, section 6.4): remember the commit index, confirm leadership, answer. Nothing is
answered before the leader has committed an entry of its own term (paper, section 8). A lease answers at once,
unless this leader has told somebody to campaign in this term: that campaign is not held up by leases.
"""

from raftkv_trio.raft import texts
from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import Message, MessageType, ReadState


def broadcast_heartbeat(raft: Raft) -> None:
    """Tell everybody that we lead, and what they may have committed of what they have."""
    context = raft.reads.heartbeat_context()
    for member, progress in raft.tracker.others(raft.id):
        message = raft.reply(MessageType.HEARTBEAT, member)
        # what a member is not known to have it must not take for committed
        message.commit = min(progress.match, raft.log.committed)
        message.context = context
        raft.send(message)
        progress.sent_commit = message.commit


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Follower: commit what the leader knows us to have, and answer; raises InvalidMessage."""
    raft.log.commit_to(message.commit)
    reply = raft.reply(MessageType.HEARTBEAT_RESP, message.from_)
    reply.context = message.context
    raft.send(reply)


def handle_read_index(raft: Raft, message: Message) -> None:
    """Leader: somebody wants to read; `message.from_` is the reader and `context` its own."""
    if not committed_in_own_term(raft):
        raft.reads.waiting_for_commit.append((message.from_, message.context))
        return
    _begin(raft, message.from_, message.context)
    if raft.reads.heartbeat_context():
        broadcast_heartbeat(raft)


def _begin(raft: Raft, reader: int, context: bytes) -> None:
    by_lease = raft.config.read_only is ReadOnlyOption.LEASE_BASED
    if raft.tracker.is_single_voter(raft.id) or (by_lease and not raft.lease_broken):
        _answer(raft, reader, context, raft.log.committed)
    else:
        raft.reads.add(reader, context, raft.log.committed)


def release_waiting(raft: Raft) -> None:
    """Leader: the commit index moved; begin the rounds of reads that waited for the term's first commit."""
    waiting = raft.reads.waiting_for_commit
    if waiting and committed_in_own_term(raft):
        raft.reads.waiting_for_commit = []
        for reader, context in waiting:
            _begin(raft, reader, context)
        if raft.reads.heartbeat_context():
            broadcast_heartbeat(raft)


def acknowledge(raft: Raft, message: Message) -> None:
    """Leader: `message.from_` answered a heartbeat; answer the reads that a quorum has now confirmed."""
    if message.context:
        raft.reads.acknowledge(message.from_, message.context)
        answer_confirmed(raft)


def answer_confirmed(raft: Raft) -> None:
    """Leader: answer the reads whose rounds are confirmed; a new configuration may do that too."""
    for read in raft.reads.take_confirmed(raft.conf_state):
        _answer(raft, read.reader, read.context, read.read_index)


def committed_in_own_term(raft: Raft) -> bool:
    return raft.log.term_or_zero(raft.log.committed) == raft.term


def _answer(raft: Raft, reader: int, context: bytes, read_index: int) -> None:
    if reader == raft.id:
        raft.read_states.append(ReadState(read_index, context))
        return
    reply = raft.reply(MessageType.READ_INDEX_RESP, reader)
    reply.index = read_index
    reply.context = context
    raft.send(reply)


def forward_read_index(raft: Raft, message: Message) -> None:
    """Follower: ask the leader, on behalf of whoever asked us; dropped where there is none."""
    if raft.leader_id is None:
        raft.logger.info(texts.NO_LEADER_FOR_READ, raft.id, raft.term)
        return
    message.to = raft.leader_id
    raft.send(message)


def handle_read_index_response(raft: Raft, message: Message) -> None:
    """Follower: the leader's answer to a read of ours."""
    raft.read_states.append(ReadState(message.index, message.context))
