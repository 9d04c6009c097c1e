"""What reaches the core of all that other nodes say. This is the one place in front of it.

What a peer says is input. Raft trusts its members, and the core refuses only what contradicts itself or its
log (`raft/inbound.py`). Here is checked before that:

- who says it: only a node that is known (`known_nodes.py`);
- in which role: a term has one leader (paper, section 5.2), so nobody but the known one speaks as that; and
  a learner has no vote;
- what it says: nothing that no correct member can say to this node, however far behind this node is. A number
  beyond these bounds would be taken over for good: terms never decrease, and the next election would find no
  higher one;
- whether this node could apply what it says: an entry of a leader of a newer version is not appended.

What is refused changes nothing. It is counted by its reason, and logged. Late messages of a member that was
removed are neither: its connections end a moment after its removal, and what comes until then is nobody's
fault.

A term has two bounds. In one tick a node goes up by at most `MAX_TERM_STEP`, whoever says what, so that
nobody can soon take it to the last term. But if a broken member has raised the term of one node in several
ticks, that node must not be out of reach of the others for good. So a message of a term above that bound,
and within `MAX_TERM_GAP`, takes this node to the bound and no further (`Admission.term_on_the_way`). Its
sender repeats what it has to say, and some ticks later both are in one term.
"""

import logging
from dataclasses import replace
from typing import NamedTuple

from raftkv_trio.config import MAX_ENTRY_BYTES
from raftkv_trio.errors import DecodeError
from raftkv_trio.node.command_check import CommandCheck
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.node.reads import CONTEXT_BYTES
from raftkv_trio.payload.levels import HIGHEST
from raftkv_trio.payload.membership import raised_to
from raftkv_trio.payload.proposal import decode_proposal
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.refusals import Refusal, Refusals
from raftkv_trio.peers.wire import Refused
from raftkv_trio.raft.errors import PeerNotFound
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import Entry, EntryType, Message, MessageType
from raftkv_trio.records import record

logger = logging.getLogger(__name__)

#: By how much messages may raise the own term in one tick. With an election a second that takes 136 years. So
#: a new node, which is in term 0, can join a cluster of any age.
MAX_TERM_STEP = 2**32
#: How far the term of a message may be above the own one, so that this node goes up towards it tick by tick.
#: To be so far ahead of the others, a node must be sent such terms for two hours, unheard by them.
MAX_TERM_GAP = 2**48
#: The same for an index, above the end of the log. With a million entries a second that takes nine years.
MAX_INDEX_STEP = 2**48
_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_VOTES = frozenset({MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})
_CAMPAIGNS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})


class Position(NamedTuple):
    """Where a node is: what the bounds are relative to.

    Attributes:
        term: the present one; 0 on a new node that has been in none.
        last_index: of the log.
        leader_id: the leader of that term, if it is known.
        max_term: the last one that a message can bring this node into now.
    """

    term: int
    last_index: int
    leader_id: int | None
    max_term: int


class Objection(NamedTuple):
    """Why something is refused: for the metric, and in words."""

    reason: Refusal
    sentence: str


def objection_to(message: Message, own: Position) -> Objection | None:
    """Why no correct member can send this raft message to a node in that position; None if one can."""
    snapshot = message.snapshot
    term = max(message.term, message.log_term, message.commit_term, snapshot.term if snapshot else 0)
    # What its sender says of its own term is out of reach only if it is beyond all that is possible.
    bound = own.term + MAX_TERM_GAP if tells_term(message) and term == message.term else own.max_term
    if term > bound:
        return _of(message, Refusal.TERM, f"says term {term}, and this node is in term {own.term}")
    index = max(message.index, message.commit, message.reject_hint, snapshot.index if snapshot else 0)
    if index > own.last_index + MAX_INDEX_STEP:
        return _of(message, Refusal.INDEX, f"says index {index}, and this log ends at {own.last_index}")
    if any(len(entry.data) > MAX_ENTRY_BYTES for entry in message.entries):
        return _of(message, Refusal.ENTRY, f"has an entry of more than {MAX_ENTRY_BYTES} bytes")
    if len(message.context) > CONTEXT_BYTES:
        return _of(message, Refusal.CONTEXT, f"has a context of {len(message.context)} bytes")
    # This node would campaign at once, without a pre-vote, although another leader is alive.
    if message.type is MessageType.TIMEOUT_NOW and (message.from_, message.term) != (own.leader_id, own.term):
        return _of(message, Refusal.NOT_LEADER, f"has come, and that node does not lead term {own.term}")
    # The first one that spoke as the leader of this term is its only leader.
    is_of_leader = message.type in _FROM_LEADER and message.term == own.term
    if is_of_leader and own.leader_id not in (None, message.from_):
        sentence = f"has come, and node {own.leader_id} leads term {own.term}"
        return _of(message, Refusal.NOT_LEADER, sentence)
    return None


def tells_term(message: Message) -> bool:
    """Whether its sender is in the term that it names, and is heard of it in every state of this node."""
    # A campaign may be ignored, and a pre-vote is of a term that the sender is not in; if granted, as well.
    granted = message.type is MessageType.PRE_VOTE_RESP and not message.reject
    return message.type not in _CAMPAIGNS and not granted


def believed(message: Message, own: Position) -> Message:
    """The message, without what only the known leader is believed: that this node has lost entries."""
    # A heartbeat that tells of a commit beyond this log ends this node for good. So one that also introduces
    # its sender as the leader only does that. A leader repeats its heartbeats, and the next one counts.
    leads = (message.from_, message.term) == (own.leader_id, own.term)
    if message.type is MessageType.HEARTBEAT and message.commit > own.last_index and not leads:
        return replace(message, commit=0)
    return message


def _of(message: Message, reason: Refusal, what: str) -> Objection:
    return Objection(reason, f"{_kind(message)} of node {message.from_} {what}")


@record
class _NotAppended:
    """An entry that this node could not apply, why, and which leader has sent it in which term."""

    leader_id: int
    term: int
    index: int
    objection: str

    @property
    def sentence(self) -> str:
        return (
            f"entry {self.index} of the log, which node {self.leader_id} has sent, cannot be applied here,"
            f" so this node stays behind: {self.objection}"
        )


class Admission:
    """Decides on what the driver acts of all that other nodes say.

    Args:
        command_check: says which commands the state machine could not apply; None: it takes all.
        highest_level: the highest feature level that this node knows.
    """

    def __init__(
        self,
        raw: RawNode,
        known: KnownNodes,
        refusals: Refusals,
        command_check: CommandCheck | None = None,
        highest_level: int = HIGHEST,
    ) -> None:
        self._raw = raw
        self._known = known
        self._refusals = refusals
        self._command_check = command_check
        self._highest_level = highest_level
        self._not_appended: _NotAppended | None = None
        self._term_at_tick = raw.term

    def tick(self) -> None:
        """From here on messages may raise the term again."""
        self._term_at_tick = self._raw.term

    def admits(self, peer_id: int, said: Item) -> bool:
        """Whether the driver may act on it; if not, that is counted and logged, and the node asked about."""
        objection = self._objection(peer_id, said)
        if objection is not None:
            self._refused(peer_id, objection)
        return objection is None

    def appendable(self, message: Message) -> Message | None:
        """The raft message with the entries before the first one that this node could not apply.

        None if an answer would say nothing new: then the core must not see the message.
        """
        # That is safe. What is left is what a leader with a lower limit of bytes would send. The rest is as
        # if it were lost on the way: nothing of it is acknowledged, so nothing of it is committed by this
        # node, and the leader sends it again until an upgraded node takes it, or a snapshot replaces it.
        if message.term < self._raw.term:
            return message
        for position, entry in enumerate(message.entries):
            if (objection := self._objection_to_entry(entry)) is not None:
                self._note_not_appended(_NotAppended(message.from_, message.term, entry.index, objection))
                # Nothing is left, and the leader's probe fits this log: it is not answered, as by a full
                # disk. An answer would make the leader stream on at once. But a probe that does not fit has
                # to be refused, so that the leader learns where this log ends.
                if (
                    not position
                    and message.index >= self._raw.commit
                    and self._raw.has_entry(message.index, message.log_term)
                ):
                    return None
                return replace(message, entries=message.entries[:position])
        return message

    @property
    def lags_because(self) -> str | None:
        """Why this node does not append what the leader sends, in a sentence; None if it does."""
        refused = self._not_appended
        # Another leader may not have that entry, and a snapshot may have replaced it.
        if refused is None or refused.term != self._raw.term or refused.index <= self._raw.commit:
            return None
        return refused.sentence

    def _objection_to_entry(self, entry: Entry) -> str | None:
        if entry.type is not EntryType.NORMAL:
            level = raised_to(entry)
            if level is None or level <= self._highest_level:
                return None
            # The handshake keeps this node away from such a cluster, and it must have been in it already.
            known = f"this program knows feature levels up to {self._highest_level}"
            return f"it makes the cluster one of feature level {level}, and {known}: upgrade this node"
        if self._command_check is None or not entry.data:
            return None
        try:
            _, command = decode_proposal(entry.data)
        except DecodeError as error:  # on a stream, `peers/incoming.py` has checked it already
            return str(error)
        return self._command_check(command)

    def _note_not_appended(self, refused: _NotAppended) -> None:
        # The leader repeats the entry for as long as this node runs: one line is enough.
        if refused == self._not_appended:
            self._refusals.count(Refusal.NEWER_VERSION)
            return
        self._not_appended = refused
        self._refusals.note(Refusal.NEWER_VERSION, refused.sentence)

    def believed(self, message: Message) -> Message:
        """What the core is told of a raft message that is admitted."""
        return believed(message, self._own())

    def term_on_the_way(self, message: Message) -> int | None:
        """The term to enter instead of acting on an admitted message, if that is of one too far above it."""
        own = self._own()
        return own.max_term if message.term > own.max_term else None

    def refused_by_core(self, peer_id: int, message: Message, error: Exception) -> None:
        """The core has refused a message that was admitted; it has not changed."""
        reason = Refusal.STRANGER if isinstance(error, PeerNotFound) else Refusal.NONSENSE
        self._refused(peer_id, Objection(reason, f"{_kind(message)} of node {peer_id}: {error}"))

    def _refused(self, peer_id: int, objection: Objection) -> None:
        if objection.reason is Refusal.STRANGER and peer_id in self._known.envelope.removed:
            logger.debug("refused: %s", objection.sentence)
        else:
            self._refusals.note(*objection)

    def _objection(self, peer_id: int, said: Item) -> Objection | None:
        if peer_id not in self._known:
            self._known.came(peer_id)
            return Objection(
                Refusal.STRANGER, f"{_kind(said)} of node {peer_id}, which is not known to be a member"
            )
        own = self._own()
        if isinstance(said, Message):
            objection = objection_to(said, own)
            # With its vote it may tell a commit index, which the core takes over.
            if objection is None and said.type in _VOTES and self._raw.is_learner(peer_id):
                return _of(said, Refusal.NOT_VOTER, "has come, and that node is a learner")
            return objection
        # Who is believed may have the proposals sent again, although another node has appended them.
        if isinstance(said, Refused) and said.term == own.term and peer_id != own.leader_id:
            return Objection(
                Refusal.NOT_LEADER, f"a Refused of node {peer_id}, which does not lead term {own.term}"
            )
        return None

    def _own(self) -> Position:
        term = self._raw.term
        max_term = max(term, self._term_at_tick + MAX_TERM_STEP)
        return Position(term, self._raw.last_index, self._raw.leader_id, max_term)


def _kind(said: object) -> str:
    if not isinstance(said, Message):
        return f"a {type(said).__name__}"
    name = said.type.name
    return f"{'an' if name.startswith('A') else 'a'} {name} message"
