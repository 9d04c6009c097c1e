"""What a Byzantine stranger says: a process that is in no configuration, and tells nodes what may harm them.

Mostly it keeps to the form: random bytes seldom get past the first check. It knows what the cluster is about,
its terms and indexes. It speaks in its own name, and now and then in that of a member.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.wire import Forward, ForwardChange, Members, MembersQuery, PeerFrame, Refused
from raftkv_trio.raft.types import Entry, EntryType, Message, MessageType

#: Its node id: no node of a simulation gets this one.
STRANGER_ID = 99
INTERVAL_S = (0.001, 0.1)
_MAX_INT = 2**63 - 1
_ADDRESS = PeerAddress(f"node{STRANGER_ID}", 9021)
_REQUEST = ChangeRequest((MemberChange(Action.ADD, STRANGER_ID, _ADDRESS),)).encode()
_TYPES = (
    MessageType.APP,
    MessageType.APP,
    MessageType.APP_RESP,
    MessageType.VOTE,
    MessageType.VOTE_RESP,
    MessageType.PRE_VOTE,
    MessageType.PRE_VOTE_RESP,
    MessageType.HEARTBEAT,
    MessageType.HEARTBEAT_RESP,
    MessageType.TIMEOUT_NOW,
    MessageType.TRANSFER_LEADER,
    MessageType.READ_INDEX,
    MessageType.READ_INDEX_RESP,
)


class Overheard(NamedTuple):
    """What a stranger knows of the node that it speaks to."""

    term: int
    last_index: int


def draw_frame(random: Random, to: int, heard: Overheard) -> PeerFrame:
    """A frame of a member's stream, to node `to`, in the stranger's own name."""
    term = random.choice((0, heard.term, heard.term, heard.term + 1, heard.term + 1, 2**33, _MAX_INT))
    kind = random.randrange(10)
    own_id = ProposalId(STRANGER_ID, random.getrandbits(62), 1)
    if kind == 0:
        return Forward(term, ((own_id, random.randbytes(20)),))
    if kind == 1:
        return ForwardChange(term, own_id, random.choice((_REQUEST, random.randbytes(20))))
    if kind == 2:
        return Refused(term, (ProposalId(to, random.getrandbits(62), random.randrange(20)),), "no")
    if kind == 3:
        return random.choice((MembersQuery(), Members({STRANGER_ID: _ADDRESS, to: _ADDRESS})))
    return [_draw_message(random, to, term, heard) for _ in range(random.randint(1, 3))]


def with_wrong_ids(random: Random, frame: PeerFrame, members: Sequence[int]) -> PeerFrame:
    """The same frame in the name of a member, or to another one."""
    if isinstance(frame, Forward):
        return Forward(frame.term, ((ProposalId(random.choice(members), 1, 1), b"command"),))
    if isinstance(frame, ForwardChange | Refused | MembersQuery | Members):
        return frame
    for message in frame:
        if random.random() < 0.7:
            message.from_ = random.choice(members)
        else:
            message.to = random.choice(members)
    return frame


def _draw_message(random: Random, to: int, term: int, heard: Overheard) -> Message:
    index = random.choice((0, heard.last_index, heard.last_index, heard.last_index + 1, 2**50, _MAX_INT))
    entries: list[Entry] = []
    type_ = random.choice(_TYPES)
    if type_ is MessageType.APP:
        kinds = (EntryType.NORMAL, EntryType.NORMAL, EntryType.CONF_CHANGE_V2)
        entries = [
            Entry(term, index + 1 + i, random.choice(kinds), random.randbytes(random.randrange(30)))
            for i in range(random.randrange(3))
            if index + 1 + i <= _MAX_INT
        ]
    return Message(
        type=type_,
        to=to,
        from_=STRANGER_ID,
        term=term,
        log_term=random.choice((0, term, heard.term)),
        index=index,
        entries=tuple(entries),
        commit=random.choice((0, heard.last_index, index, index + len(entries), _MAX_INT)),
        reject=random.random() < 0.3,
        reject_hint=random.choice((0, 0, index)),
        context=random.choice((b"", b"", random.randbytes(24), random.randbytes(1000))),
    )
