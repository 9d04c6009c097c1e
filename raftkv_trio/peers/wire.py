"""What members say to each other after the handshake, and its form as bytes.

On a member's stream: raft messages, proposals that a follower forwards to the leader, and the leader's
refusals. On a connection for a snapshot: the offer, the part that is wanted, pieces of the file, and the
confirmation.

Decoders raise PeerProtocolError for all other bytes; they check the form of a frame, and `incoming.py` checks
whether this peer may say it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.payload.cbor import (
    MAX_MEMBERS,
    boolean,
    decode_payload,
    integer,
    items,
    octets,
    pack_message,
    reason_on_the_wire,
    sentence,
    text,
    unpack_message,
)
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.framing import FrameKind, encode_frame, of_a_peer
from raftkv_trio.raft.types import Message

#: So many proposals a Forward has at most: as many as may wait on a node by default.
MAX_FORWARDED = 10_000
#: So many raft messages a frame has at most: more small ones than an outbox merges.
MAX_MESSAGES = 2048
#: So many entries the messages of a frame have at most. A leader sends fewer (`config.MAX_MESSAGE_ENTRIES`),
#: also one of before there was this limit: 1 MiB of the smallest ones.
MAX_ENTRIES = 26_000
#: So many proposals a Refused names at most. A leader names fewer, `MAX_FORWARDED`; one of before there was
#: this limit named all that had waited while it slowed writers, and that is as many.
MAX_REFUSED = 45_000

# ---------------------------------------------------------------- a member's stream


class Forward(NamedTuple):
    """Proposals that a follower asks the leader to append.

    The follower learns from its own log what becomes of those that are appended.

    Attributes:
        term: the leader's term; a leader of another term refuses.
        proposals: pairs of id and command, at least one.
    """

    term: int
    proposals: tuple[tuple[ProposalId, bytes], ...]


class ForwardChange(NamedTuple):
    """A change of members that a follower asks the leader to append.

    Attributes:
        term: the leader's term; a leader of another term refuses.
        id: of the proposal.
        request: an encoded `ChangeRequest`.
    """

    term: int
    id: ProposalId
    request: bytes


class Refused(NamedTuple):
    """The leader's answer to a Forward or ForwardChange: it has not appended these, and will not.

    So the follower may forward them again, to this leader or another: they cannot be appended twice.

    Attributes:
        term: that of the Forward.
        ids: of the proposals that are refused.
        reason: one sentence for the client.
        is_final: the proposal is invalid as it is; forwarding it again is useless.
        is_unknown: the reason is that the change names a node that is not a member.
    """

    term: int
    ids: tuple[ProposalId, ...]
    reason: str
    is_final: bool = False
    is_unknown: bool = False


class MembersQuery(NamedTuple):
    """A node has come that the sender does not know; which nodes are members?"""


class Members(NamedTuple):
    """The answer to a MembersQuery.

    Attributes:
        addresses: by node id, where each member listens for the others; as the sender has applied its log.
    """

    addresses: Mapping[int, PeerAddress]


#: What has a frame of its own; raft messages share frames.
SingleFrame = Forward | ForwardChange | Refused | MembersQuery | Members
PeerFrame = Sequence[Message] | SingleFrame


class FramePart(NamedTuple):
    """A part of a large frame (`framing.cut_into_parts`)."""

    is_last: bool
    data: bytes


def encode_messages(messages: Iterable[Message]) -> bytes:
    """Raft messages as one frame, in their order."""
    return encode_frame([FrameKind.MESSAGES, [pack_message(m) for m in messages]])


def encode_forward(forward: Forward) -> bytes:
    """A Forward as a frame."""
    proposals = [[list(proposal_id), command] for proposal_id, command in forward.proposals]
    return encode_frame([FrameKind.FORWARD, [forward.term, proposals]])


def encode_forward_change(forward: ForwardChange) -> bytes:
    """A ForwardChange as a frame."""
    return encode_frame([FrameKind.FORWARD_CHANGE, [forward.term, list(forward.id), forward.request]])


def encode_refused(refused: Refused) -> bytes:
    """A Refused as a frame."""
    ids = [list(proposal_id) for proposal_id in refused.ids]
    body = [refused.term, ids, reason_on_the_wire(refused.reason), refused.is_final, refused.is_unknown]
    return encode_frame([FrameKind.REFUSED, body])


def encode_members_query() -> bytes:
    """A MembersQuery as a frame."""
    return encode_frame([FrameKind.MEMBERS_QUERY, None])


def encode_members(members: Members) -> bytes:
    """A Members as a frame."""
    pairs = [[node_id, address.url] for node_id, address in sorted(members.addresses.items())]
    return encode_frame([FrameKind.MEMBERS, pairs])


def encode_peer_frame(frame: PeerFrame) -> bytes:
    """Any frame of a member's stream, but a part of one."""
    if isinstance(frame, Forward):
        return encode_forward(frame)
    if isinstance(frame, ForwardChange):
        return encode_forward_change(frame)
    if isinstance(frame, Refused):
        return encode_refused(frame)
    if isinstance(frame, MembersQuery):
        return encode_members_query()
    if isinstance(frame, Members):
        return encode_members(frame)
    return encode_messages(frame)


@of_a_peer
def decode_peer_frame(payload: bytes) -> PeerFrame | FramePart:
    """Any frame of a member's stream after the handshake; raises PeerProtocolError."""
    kind, body = items(decode_payload(payload), 2)
    if integer(kind) == FrameKind.MESSAGES:
        return _messages(items(body))
    if kind == FrameKind.FORWARD:
        term, proposals = items(body, 2)
        pairs = [items(item, 2) for item in items(proposals)]
        if not pairs:
            raise PeerProtocolError("a Forward without proposals")
        if len(pairs) > MAX_FORWARDED:
            raise PeerProtocolError(f"{len(pairs)} proposals are over the limit of {MAX_FORWARDED}")
        return Forward(integer(term), tuple((_proposal_id(i), octets(command)) for i, command in pairs))
    if kind == FrameKind.FORWARD_CHANGE:
        term, proposal_id, request = items(body, 3)
        return ForwardChange(integer(term), _proposal_id(proposal_id), octets(request))
    if kind == FrameKind.REFUSED:
        term, ids, reason, is_final, is_unknown = items(body, 5)
        if len(items(ids)) > MAX_REFUSED:
            raise PeerProtocolError(f"{len(ids)} refused proposals are over the limit of {MAX_REFUSED}")
        proposal_ids = tuple(_proposal_id(i) for i in ids)
        return Refused(integer(term), proposal_ids, sentence(reason), boolean(is_final), boolean(is_unknown))
    if kind == FrameKind.MEMBERS_QUERY:
        return MembersQuery()
    if kind == FrameKind.MEMBERS:
        return _members(items(body))
    if kind == FrameKind.PART:
        is_last, data = items(body, 2)
        return FramePart(boolean(is_last), octets(data))
    raise PeerProtocolError(f"unknown frame kind {kind} on a member's stream")


def _messages(packed: Sequence[object]) -> Sequence[Message]:
    if len(packed) > MAX_MESSAGES:
        raise PeerProtocolError(f"{len(packed)} messages are over the limit of {MAX_MESSAGES}")
    messages = []
    count = 0
    for item in packed:
        messages.append(message := unpack_message(item))
        count += len(message.entries)
        if count > MAX_ENTRIES:
            raise PeerProtocolError(f"{count} entries are over the limit of {MAX_ENTRIES}")
    return messages


def _members(pairs: Sequence[object]) -> Members:
    if len(pairs) > MAX_MEMBERS:
        raise PeerProtocolError(f"{len(pairs)} members are over the limit of {MAX_MEMBERS}")
    addresses: dict[int, PeerAddress] = {}
    for pair in pairs:
        node_id, url = items(pair, 2)
        try:
            addresses[integer(node_id)] = PeerAddress.parse(text(url))
        except ConfigError as error:
            raise PeerProtocolError(f"a member's address cannot be read: {error}") from error
    return Members(addresses)


def _proposal_id(value: object) -> ProposalId:
    node_id, boot_nonce, sequence = items(value, 3)
    return ProposalId(integer(node_id), integer(boot_nonce), integer(sequence))


# ---------------------------------------------------------------- a connection for a snapshot


class SnapshotOffer(NamedTuple):
    """Opens a transfer: the SNAP message, and the size of its file."""

    message: Message
    size_bytes: int


class SnapshotWanted(NamedTuple):
    """The answer to an offer: send the file's bytes from `offset` on. Its size means that none are needed."""

    offset: int


class SnapshotRefused(NamedTuple):
    """The answer to an offer: the snapshot cannot be received now, for this reason."""

    reason: str


class SnapshotPiece(NamedTuple):
    """The file's next bytes, at least one."""

    data: bytes


class SnapshotTaken(NamedTuple):
    """The whole file has arrived, has been verified, and is durable."""

    size_bytes: int


SnapshotFrame = SnapshotOffer | SnapshotWanted | SnapshotRefused | SnapshotPiece | SnapshotTaken


def encode_snapshot_frame(frame: SnapshotFrame) -> bytes:
    """One frame of a snapshot's connection."""
    match frame:
        case SnapshotOffer(message, size_bytes):
            return encode_frame([FrameKind.SNAPSHOT_OFFER, [pack_message(message), size_bytes]])
        case SnapshotWanted(offset):
            return encode_frame([FrameKind.SNAPSHOT_WANTED, offset])
        case SnapshotRefused(reason):
            return encode_frame([FrameKind.SNAPSHOT_REFUSED, reason_on_the_wire(reason)])
        case SnapshotPiece(data):
            return encode_frame([FrameKind.SNAPSHOT_PIECE, data])
        case SnapshotTaken(size_bytes):
            return encode_frame([FrameKind.SNAPSHOT_TAKEN, size_bytes])


@of_a_peer
def decode_snapshot_frame(payload: bytes) -> SnapshotFrame:
    """Any frame of a snapshot's connection after the handshake; raises PeerProtocolError."""
    kind, body = items(decode_payload(payload), 2)
    if integer(kind) == FrameKind.SNAPSHOT_OFFER:
        message, size_bytes = items(body, 2)
        return SnapshotOffer(unpack_message(message), integer(size_bytes))
    if kind == FrameKind.SNAPSHOT_WANTED:
        return SnapshotWanted(integer(body))
    if kind == FrameKind.SNAPSHOT_REFUSED:
        return SnapshotRefused(sentence(body))
    if kind == FrameKind.SNAPSHOT_PIECE:
        return SnapshotPiece(octets(body))
    if kind == FrameKind.SNAPSHOT_TAKEN:
        return SnapshotTaken(integer(body))
    raise PeerProtocolError(f"unknown frame kind {kind} on a snapshot's connection")
