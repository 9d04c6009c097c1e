"""Heartbeats and ReadIndex: how a leader shows that it leads, and finds out whether it still does.

ReadIndex (dissertation, section 6.4) answers a read in three steps:

1. Note the commit index. It must be up to date, so the leader must have committed an entry of its own term
   before (paper, section 8).
2. Confirm by a round of heartbeats that this node still leads.
3. Answer with the noted index. The reader reads when it has applied its log up to there.

With reads by lease (section 6.4.1), step 2 is left out.
"""

from raftkv_trio.raft import texts
from raftkv_trio.raft.config import ReadOnlyOption
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import Message, MessageType, ReadState


def broadcast_heartbeat(raft: Raft) -> None:
    """Leader: send a heartbeat to every member."""
    context = raft.reads.heartbeat_context()
    for member, progress in raft.tracker.others(raft.id):
        message = raft.reply(MessageType.HEARTBEAT, member)
        # A heartbeat has no consistency check. Beyond `match`, the member's log may hold entries of another
        # leader, which must not be taken for committed ones.
        message.commit = min(progress.match, raft.log.committed)
        message.context = context
        raft.send(message)
        progress.sent_commit = message.commit


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Follower: take over the commit index, and answer. Raises InvalidMessage."""
    # Beyond our log it means that entries are lost that this node has acknowledged: the error says so.
    raft.log.commit_to(message.commit)
    reply = raft.reply(MessageType.HEARTBEAT_RESP, message.from_)
    reply.context = message.context
    raft.send(reply)


def handle_read_index(raft: Raft, message: Message) -> None:
    """Leader: begin a read. `message.from_` is the reader, `context` its own."""
    # Until an entry of its own term is committed, a new leader does not know how far the log was committed
    # before (section 8). The read waits for that.
    if not committed_in_own_term(raft):
        raft.reads.waiting_for_commit.append((message.from_, message.context))
        return
    _begin(raft, message.from_, message.context)
    # At once, not with the next tick: a read should take one round trip.
    if raft.reads.heartbeat_context():
        broadcast_heartbeat(raft)


def _begin(raft: Raft, reader: int, context: bytes) -> None:
    # The lease: for an election timeout after a quorum has heard from this leader, no other can be elected
    # (`election.in_lease`), if all clocks run at the same speed. A transfer breaks that. A single voter needs
    # no round, because no other node can be elected at all.
    by_lease = raft.config.read_only is ReadOnlyOption.LEASE_BASED
    if raft.tracker.is_single_voter(raft.id) or (by_lease and not raft.lease_broken):
        _answer(raft, reader, context, raft.log.committed)
    else:
        raft.reads.add(reader, context, raft.log.committed)


def release_waiting(raft: Raft) -> None:
    """Leader: the commit index has moved. Begin the reads that waited for the first commit of the term."""
    waiting = raft.reads.waiting_for_commit
    if waiting and committed_in_own_term(raft):
        raft.reads.waiting_for_commit = []
        for reader, context in waiting:
            _begin(raft, reader, context)
        if raft.reads.heartbeat_context():
            broadcast_heartbeat(raft)


def acknowledge(raft: Raft, message: Message) -> None:
    """Leader: `message.from_` answered a heartbeat. Answer the reads that a quorum has confirmed now."""
    if message.context:
        raft.reads.acknowledge(message.from_, message.context)
        answer_confirmed(raft)


def answer_confirmed(raft: Raft) -> None:
    """Leader: answer the reads whose rounds are confirmed."""
    # With the index noted when the read came in, not the present commit index: it is enough, and the reader
    # waits no longer than it has to.
    for read in raft.reads.take_confirmed(raft.conf_state):
        _answer(raft, read.reader, read.context, read.read_index)


def committed_in_own_term(raft: Raft) -> bool:
    """Leader: whether an entry of this term is committed (paper, section 8)."""
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
    """Follower: send a read on to the leader. It is dropped if no leader is known."""
    # The reader stays in `from_`: the leader answers it directly.
    if raft.leader_id is None:
        raft.logger.info(texts.NO_LEADER_FOR_READ, raft.id, raft.term)
        return
    message.to = raft.leader_id
    raft.send(message)


def handle_read_index_response(raft: Raft, message: Message) -> None:
    """Follower: take the leader's answer to a read of this node."""
    raft.read_states.append(ReadState(message.index, message.context))
