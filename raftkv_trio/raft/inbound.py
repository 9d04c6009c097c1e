"""What is checked of a message before the core acts on it: nonsense changes nothing, not even the term.

A lying peer cannot be told from an honest one here (Raft trusts its members); what is refused is what no
correct member can have sent to this node.
"""

from raftkv_trio.raft.confchange import normalized
from raftkv_trio.raft.errors import InvalidConfiguration, InvalidMessage, LocalMessage, PeerNotFound
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import APPEND_THREAD, APPLY_THREAD, Message, MessageType, StateRole

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
_STORAGE_RESPONSES = {
    APPEND_THREAD: MessageType.STORAGE_APPEND_RESP,
    APPLY_THREAD: MessageType.STORAGE_APPLY_RESP,
}
_RESPONSES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.READ_INDEX_RESP,
    }
)
#: What may come from the node itself: its promises, delivered when they are durable, and what it had sent to
#: a leader that led no more and sent it on to the next one, this node.
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
#: Terms and indexes stay below this, so that they fit wherever they are written down.
_LIMIT = 2**63


def check(raft: Raft, message: Message) -> None:
    """Raises LocalMessage, PeerNotFound or InvalidMessage where `message` must not be acted on."""
    kind, sender = message.type, message.from_
    if sender < 0:
        if _STORAGE_RESPONSES.get(sender) is not kind:
            raise LocalMessage(f"{kind.name} is no answer of node {raft.id}'s storage")
        return
    if kind in _LOCAL:
        raise LocalMessage(f"{kind.name} from node {sender} never travels between nodes")
    if kind in _RESPONSES and sender not in raft.tracker.progress:
        raise PeerNotFound(f"{kind.name} from node {sender}, which is not in the configuration")
    if message.to != raft.id:
        raise InvalidMessage(f"{kind.name} for node {message.to} came to node {raft.id}")
    if sender == 0 or (sender == raft.id and kind not in _FROM_SELF):
        raise InvalidMessage(f"{kind.name} claims to come from node {sender}")
    numbers = (message.term, message.log_term, message.index, message.commit, message.reject_hint)
    if min(numbers) < 0 or max(numbers) >= _LIMIT:
        raise InvalidMessage(f"{kind.name} from node {sender} holds a number that is no term and no index")
    if message.term == 0 and kind not in _WITHOUT_TERM and not _refused_in_no_term(message):
        raise InvalidMessage(f"{kind.name} from node {sender} names no term")
    if message.term and kind in _WITHOUT_TERM:
        raise InvalidMessage(f"{kind.name} from node {sender} names a term, and is of none")
    if kind is MessageType.PROP and not message.entries:
        raise InvalidMessage(f"node {sender} proposes nothing")
    if message.term >= raft.term:
        _check_body(raft, message)


def _refused_in_no_term(message: Message) -> bool:
    """Whether this is a pre-vote refused by a node that has not been in any term yet."""
    return message.type is MessageType.PRE_VOTE_RESP and message.reject


def _check_body(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind is MessageType.APP:
        _check_entries(message)
    elif kind is MessageType.HEARTBEAT:
        if message.commit > raft.log.last_index():
            raise InvalidMessage(
                f"node {message.from_} knows this log to reach {message.commit}, but it ends at "
                f"{raft.log.last_index()}: entries that were acknowledged are lost"
            )
    elif kind is MessageType.APP_RESP:
        leads = raft.role is StateRole.LEADER and message.term == raft.term
        if leads and not message.reject and message.index > raft.log.last_index():
            raise InvalidMessage(
                f"node {message.from_} acknowledges entry {message.index}, but the log ends at "
                f"{raft.log.last_index()}"
            )
    elif kind is MessageType.SNAP:
        _check_snapshot(message)
    elif kind in (MessageType.VOTE, MessageType.PRE_VOTE) and message.log_term > message.term:
        raise InvalidMessage(f"node {message.from_} campaigns for a term before that of its log")


def _check_entries(message: Message) -> None:
    """Entries follow each other and the one before them, in index and in term (paper, section 5.3)."""
    index, term = message.index, message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            raise InvalidMessage(
                f"node {message.from_} sent entry {entry.index} of term {entry.term} where entry {index} of "
                f"term {term} or later belongs"
            )
        term = entry.term
    if term > message.term:
        raise InvalidMessage(f"node {message.from_} sent an entry of term {term} in term {message.term}")


def _check_snapshot(message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is None or not 0 < snapshot.index < _LIMIT or not 0 < snapshot.term <= message.term:
        raise InvalidMessage(f"node {message.from_} sent no snapshot, or an impossible one")
    try:
        normalized(snapshot.conf_state)
    except InvalidConfiguration as error:
        raise InvalidMessage(
            f"node {message.from_} sent a snapshot of an impossible configuration"
        ) from error
