"""What is checked of a message before the core acts on it. Nonsense changes nothing, not even the term.

Raft trusts its members, so the core cannot detect a member that lies consistently. It refuses what no correct
member can have sent to this node: an error in one node, or on the wire, must not spread.
"""

from raftkv_trio.raft.confchange import normalized
from raftkv_trio.raft.errors import (
    AcknowledgedEntriesLost,
    InvalidConfiguration,
    InvalidMessage,
    LocalMessage,
    PeerNotFound,
)
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import APPEND_THREAD, APPLY_THREAD, Message, MessageType, StateRole

#: Between a core and its own driver or storage. From another node they would forge, say, a completed write.
_LOCAL = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.FORGET_LEADER,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESP,
    }
)
#: The only local messages that are stepped, and the negative id that each comes from.
_STORAGE_RESPONSES = {
    APPEND_THREAD: MessageType.STORAGE_APPEND_RESP,
    APPLY_THREAD: MessageType.STORAGE_APPLY_RESP,
}
#: These count for something, votes or acknowledgements, so they come from members only.
_RESPONSES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.READ_INDEX_RESP,
    }
)
_CAMPAIGNS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
#: What may come from the node itself. Its own promises are stepped when they are durable. And what it
#: forwarded to the leader may come back: if that one does not lead any more, it forwards to the new leader,
#: this node.
_FROM_SELF = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.PROP,
        MessageType.READ_INDEX,
        MessageType.TRANSFER_LEADER,
    }
)
_WITHOUT_TERM = frozenset({MessageType.PROP, MessageType.READ_INDEX})
#: Terms and indexes stay below this, so that they fit into the 64-bit fields of log and wire.
_LIMIT = 2**63


def check(raft: Raft, message: Message) -> None:
    """Raises LocalMessage, PeerNotFound or InvalidMessage if the core must not act on `message`."""
    kind, sender = message.type, message.from_
    # From storage, which is part of this node. Its message was made by this core; `reconfiguration` and
    # `unstable` check that it still fits.
    if sender < 0:
        if _STORAGE_RESPONSES.get(sender) is not kind:
            raise LocalMessage(f"{kind.name} is not a response of node {raft.id}'s storage")
        return
    if kind in _LOCAL:
        raise LocalMessage(f"{kind.name} from node {sender} never travels between nodes")
    # A removed member's answers may still be on their way; they count no more. Requests of unknown nodes are
    # accepted: this node may not have applied yet that they are members.
    if kind in _RESPONSES and sender not in raft.tracker.progress:
        raise PeerNotFound(f"{kind.name} from node {sender}, which is not in the configuration")
    # What follows is an error of the sender, or on the way from it.
    if message.to != raft.id:
        raise InvalidMessage(f"{kind.name} for node {message.to} was delivered to node {raft.id}")
    if sender == 0 or (sender == raft.id and kind not in _FROM_SELF):
        raise InvalidMessage(f"{kind.name} claims to come from node {sender}")
    terms = (message.term, message.log_term, message.commit_term)
    numbers = (*terms, message.index, message.commit, message.reject_hint)
    if min(numbers) < 0 or max(numbers) >= _LIMIT:
        raise InvalidMessage(f"{kind.name} from node {sender} has a term or index outside 0..2**63-1")
    # Term 0 means "of no term" to `step`. So of all other kinds it must not come, or a message of term 0
    # would count in any term.
    if message.term == 0 and kind not in _WITHOUT_TERM and not _refused_in_no_term(message):
        raise InvalidMessage(f"{kind.name} from node {sender} has no term")
    if message.term and kind in _WITHOUT_TERM:
        raise InvalidMessage(f"{kind.name} from node {sender} has a term, but belongs to none")
    if kind is MessageType.PROP and not message.entries:
        raise InvalidMessage(f"node {sender} sent a proposal without entries")
    if message.commit_term and kind not in _CAMPAIGNS:
        raise InvalidMessage(f"{kind.name} from node {sender} tells the term of a commit")
    # A message of an earlier term is ignored anyway, whatever it holds.
    if message.term >= raft.term:
        _check_body(raft, message)


def _refused_in_no_term(message: Message) -> bool:
    """Whether this is a refused pre-vote of a node that has not been in any term yet."""
    return message.type is MessageType.PRE_VOTE_RESP and message.reject


def _check_body(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind is MessageType.APP:
        _check_entries(message)
    elif kind is MessageType.HEARTBEAT:
        # A leader tells no more than `match` (`read_index.broadcast_heartbeat`). An index beyond this log
        # proves that acknowledged entries are lost:
        # - `match` is 0 when a term begins, and grows only by acknowledgements of that term.
        # - An acknowledgement waits for the write of the entries, which also holds the term. So a node that
        #   has not lost them follows no leader of an earlier term, which might shorten its log again.
        # - This leader never shortens its own log (section 5.3, Leader Append-Only), so none of its appends
        #   removes what this node has acknowledged to it.
        # - A snapshot replaces this log only if the log lacks the snapshot's last entry (Log Matching). So
        #   the snapshot is ahead of everything that was acknowledged in this term.
        # Not every loss is seen. The message holds the smaller of `match` and the commit index, so the loss
        # of entries is seen when they are committed. What was lost before this term is not seen at all.
        if message.commit > raft.log.last_index():
            raise AcknowledgedEntriesLost(message.from_, message.commit, raft.log.last_index())
    elif kind is MessageType.APP_RESP:
        # It could commit entries that do not exist.
        leads = raft.role is StateRole.LEADER and message.term == raft.term
        if leads and not message.reject and message.index > raft.log.last_index():
            raise InvalidMessage(
                f"node {message.from_} acknowledges entry {message.index}, but the log ends at "
                f"{raft.log.last_index()}"
            )
    elif kind is MessageType.SNAP:
        _check_snapshot(message)
    # A candidate's term is later than all terms in its log.
    elif kind in _CAMPAIGNS and max(message.log_term, message.commit_term) > message.term:
        raise InvalidMessage(f"node {message.from_} campaigns for an earlier term than that of its log")


def _check_entries(message: Message) -> None:
    """Check that the entries follow each other in index and in term (paper, section 5.3)."""
    # Indexes are consecutive, and terms never decrease along a log. No entry is of a later term than its
    # leader.
    index, term = message.index, message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            raise InvalidMessage(
                f"node {message.from_} sent entry {entry.index} of term {entry.term} in the place of entry "
                f"{index} of term {term} or later"
            )
        term = entry.term
    if term > message.term:
        raise InvalidMessage(f"node {message.from_} sent an entry of term {term} in term {message.term}")


def _check_snapshot(message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is None or not 0 < snapshot.index < _LIMIT or not 0 < snapshot.term <= message.term:
        raise InvalidMessage(f"node {message.from_} sent no snapshot, or one of an impossible index or term")
    try:
        normalized(snapshot.conf_state)
    except InvalidConfiguration as error:
        raise InvalidMessage(
            f"node {message.from_} sent a snapshot with an impossible configuration"
        ) from error
