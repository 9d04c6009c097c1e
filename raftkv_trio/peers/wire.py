"""Bytes: the frames that peers exchange, and the form of what they say and of the proposals in the log.

Sans-IO: nothing here reads or writes. The rules of this file:
- a length is checked before memory is taken, a CRC before anything is decoded;
- every frame has a decoder of its own (`plain_cbor.py`).

A frame is `length u32 | crc32 u32 | payload`, big endian; `length` and the CRC are the payload's.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple
from zlib import crc32

import cbor2

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.cbor import (
    boolean,
    decode_payload,
    integer,
    items,
    octets,
    optional_integer,
    optional_text,
    pack_message,
    text,
    unpack_message,
)
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.types import Message

PROTOCOL_VERSIONS = (1, 1)  # lowest and highest spoken
MAX_FRAME_BYTES = 4 * 1024 * 1024
_FRAME_HEADER = struct.Struct(">II")

# ---------------------------------------------------------------- frames


def encode_frame(value: object) -> bytes:
    """One frame around the CBOR form of `value`; what `NodeConfig` allows fits `MAX_FRAME_BYTES`."""
    payload = cbor2.dumps(value)
    return _FRAME_HEADER.pack(len(payload), crc32(payload)) + payload


class FrameDecoder:
    """Cuts a byte stream into payloads: `feed` what arrived, then iterate over what is whole.

    Memory is bounded by one frame and what was fed last: a length over `max_frame_bytes` is refused when
    its header is seen, not when the bytes have come.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes | bytearray) -> None:
        self._buffer += data

    def __iter__(self) -> "FrameDecoder":
        return self

    def __next__(self) -> bytes:
        """The next whole payload; StopIteration until more is fed; PeerProtocolError ends the stream."""
        buffer = self._buffer
        if len(buffer) < _FRAME_HEADER.size:
            raise StopIteration
        length, crc = _FRAME_HEADER.unpack_from(buffer)
        if length > self._max_frame_bytes:
            raise PeerProtocolError(f"a frame of {length} bytes is over the limit of {self._max_frame_bytes}")
        end = _FRAME_HEADER.size + length
        if len(buffer) < end:
            raise StopIteration
        payload = bytes(memoryview(buffer)[_FRAME_HEADER.size : end])
        del buffer[:end]
        if crc32(payload) != crc:
            raise PeerProtocolError("a frame's CRC does not match its payload")
        return payload


# ---------------------------------------------------------------- what the log holds


# ---------------------------------------------------------------- what peers say


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of a member that connects: who it is, and whom it believes to speak to.

    `peer_url` is for whoever has not heard yet that the sender is a member, so as to answer it. On the wire
    the fields of this class and of `Welcome` go in their order here.
    """

    versions: tuple[int, int] = PROTOCOL_VERSIONS
    cluster_id: int
    sender: int
    directory_id: bytes
    receiver: int
    peer_url: str | None = None
    client_url: str | None = None
    is_for_snapshot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The answer to a Hello: `reason` is None where it is accepted, else why the connection is closed.

    `is_other_directory` where the reason is that the sender is known by another data directory, `removed_at`
    where it is that the entry at this index has removed it.
    """

    version: int
    node_id: int
    directory_id: bytes
    client_url: str | None = None
    reason: str | None = None
    is_other_directory: bool = False
    removed_at: int | None = None


class JoinQuery(NamedTuple):
    """The first frame of a node without a directory that wants to join: which cluster is this?"""

    versions: tuple[int, int]
    node_id: int


class JoinAnswer(NamedTuple):
    """The cluster, its members' peer URLs by id, and at which index it has removed the asking id, if so."""

    cluster_id: int
    urls: Mapping[int, str]
    removed_at: int | None


class Forward(NamedTuple):
    """Proposals `(id, command)` that a follower asks the leader of `term`, and no other, to append.

    What becomes of those that are appended the follower learns from its own log.
    """

    term: int
    proposals: tuple[tuple[ProposalId, bytes], ...]


class ForwardChange(NamedTuple):
    """A change of members, which a follower asks the leader of `term`, and no other, to append."""

    term: int
    id: ProposalId
    request: bytes


class Refused(NamedTuple):
    """The leader that was asked under `term` did not append these and never will on that request.

    `is_final`: asking again makes no sense; `is_unknown`: because a node that is no member was to be changed.
    """

    term: int
    ids: tuple[ProposalId, ...]
    reason: str
    is_final: bool = False
    is_unknown: bool = False


class SnapshotOffer(NamedTuple):
    """Opens a snapshot's connection: the SNAP message, and how many bytes its file has."""

    message: Message
    size_bytes: int


class SnapshotWanted(NamedTuple):
    """The answer: the file's bytes from `offset` on are wanted, of which there may be none."""

    offset: int


class SnapshotPiece(NamedTuple):
    """The file's next bytes."""

    data: bytes


class SnapshotTaken(NamedTuple):
    """All of it has arrived, is whole and durable."""

    size_bytes: int


class ReceivedSnapshot(NamedTuple):
    """Not a frame, but what a snapshot's connection comes to: a SNAP message whose file is here."""

    message: Message


PeerFrame = Sequence[Message] | Forward | ForwardChange | Refused
SnapshotFrame = SnapshotOffer | SnapshotWanted | SnapshotPiece | SnapshotTaken
InboxItem = PeerFrame | ReceivedSnapshot
_HELLO, _WELCOME, _MESSAGES, _FORWARD, _REFUSED, _OFFER, _WANTED, _PIECE, _TAKEN = range(1, 10)
_QUERY, _ANSWER, _FORWARD_CHANGE = range(10, 13)


def encode_hello(hello: Hello) -> bytes:
    return encode_frame([_HELLO, *astuple(hello)])


def decode_first_frame(payload: bytes) -> Hello | JoinQuery:
    """Raises PeerProtocolError where the first frame is neither."""
    fields = items(decode_payload(payload))
    if len(fields) == 3 and integer(fields[0]) == _QUERY:
        return JoinQuery(_versions(fields[1]), integer(fields[2]))
    kind, versions, cluster_id, sender, directory_id, receiver, *more = items(fields, 9)
    peer_url, client_url, is_for_snapshot = more
    if integer(kind) != _HELLO:
        raise PeerProtocolError("the first frame is not a handshake")
    return Hello(
        versions=_versions(versions),
        cluster_id=integer(cluster_id),
        sender=integer(sender),
        directory_id=octets(directory_id),
        receiver=integer(receiver),
        peer_url=optional_text(peer_url),
        client_url=optional_text(client_url),
        is_for_snapshot=boolean(is_for_snapshot),
    )


def encode_welcome(welcome: Welcome) -> bytes:
    return encode_frame([_WELCOME, *astuple(welcome)])


def decode_welcome(payload: bytes) -> Welcome:
    """Raises PeerProtocolError where the answer to a Hello is no Welcome."""
    fields = items(decode_payload(payload), 8)
    kind, version, node_id, directory_id, client_url, reason, is_other_directory, removed_at = fields
    if integer(kind) != _WELCOME:
        raise PeerProtocolError("the answer to the handshake is not one")
    return Welcome(
        version=integer(version),
        node_id=integer(node_id),
        directory_id=octets(directory_id),
        client_url=optional_text(client_url),
        reason=optional_text(reason),
        is_other_directory=boolean(is_other_directory),
        removed_at=optional_integer(removed_at),
    )


def encode_join_query(query: JoinQuery) -> bytes:
    return encode_frame([_QUERY, *query])


def encode_join_answer(answer: JoinAnswer) -> bytes:
    return encode_frame([_ANSWER, answer.cluster_id, dict(answer.urls), answer.removed_at])


def decode_join_answer(payload: bytes) -> JoinAnswer:
    """Raises PeerProtocolError where the answer to a JoinQuery is none."""
    kind, cluster_id, urls, removed_at = items(decode_payload(payload), 4)
    if integer(kind) != _ANSWER or type(urls) is not dict:
        raise PeerProtocolError("the answer to a node that wants to join is not one")
    members = {integer(i): text(url) for i, url in urls.items()}
    return JoinAnswer(integer(cluster_id), members, optional_integer(removed_at))


def _versions(value: object) -> tuple[int, int]:
    lowest, highest = items(value, 2)
    return integer(lowest), integer(highest)


def encode_messages(messages: Iterable[Message]) -> bytes:
    return encode_frame([_MESSAGES, [pack_message(m) for m in messages]])


def encode_forward(forward: Forward) -> bytes:
    proposals = [[list(proposal_id), command] for proposal_id, command in forward.proposals]
    return encode_frame([_FORWARD, [forward.term, proposals]])


def encode_forward_change(forward: ForwardChange) -> bytes:
    return encode_frame([_FORWARD_CHANGE, [forward.term, list(forward.id), forward.request]])


def encode_refused(refused: Refused) -> bytes:
    ids = [list(proposal_id) for proposal_id in refused.ids]
    return encode_frame([_REFUSED, [refused.term, ids, refused.reason, refused.is_final, refused.is_unknown]])


def decode_peer_frame(payload: bytes) -> PeerFrame:
    """Any frame after the handshake; raises PeerProtocolError."""
    kind, body = items(decode_payload(payload), 2)
    if integer(kind) == _MESSAGES:
        return [unpack_message(item) for item in items(body)]
    if kind == _FORWARD:
        term, proposals = items(body, 2)
        pairs = [items(item, 2) for item in items(proposals)]
        if not pairs:
            raise PeerProtocolError("a Forward without proposals")
        return Forward(integer(term), tuple((_proposal_id(i), octets(command)) for i, command in pairs))
    if kind == _FORWARD_CHANGE:
        term, proposal_id, request = items(body, 3)
        return ForwardChange(integer(term), _proposal_id(proposal_id), octets(request))
    if kind == _REFUSED:
        term, ids, reason, is_final, is_unknown = items(body, 5)
        proposal_ids = tuple(_proposal_id(i) for i in items(ids))
        return Refused(integer(term), proposal_ids, text(reason), boolean(is_final), boolean(is_unknown))
    raise PeerProtocolError(f"unknown frame kind {kind}")


def encode_snapshot_frame(frame: SnapshotFrame) -> bytes:
    match frame:
        case SnapshotOffer(message, size_bytes):
            return encode_frame([_OFFER, [pack_message(message), size_bytes]])
        case SnapshotWanted(offset):
            return encode_frame([_WANTED, offset])
        case SnapshotPiece(data):
            return encode_frame([_PIECE, data])
        case SnapshotTaken(size_bytes):
            return encode_frame([_TAKEN, size_bytes])


def decode_snapshot_frame(payload: bytes) -> SnapshotFrame:
    """Any frame of a snapshot's connection after the handshake; raises PeerProtocolError."""
    kind, body = items(decode_payload(payload), 2)
    if integer(kind) == _OFFER:
        message, size_bytes = items(body, 2)
        return SnapshotOffer(unpack_message(message), integer(size_bytes))
    if kind == _WANTED:
        return SnapshotWanted(integer(body))
    if kind == _PIECE:
        return SnapshotPiece(octets(body))
    if kind == _TAKEN:
        return SnapshotTaken(integer(body))
    raise PeerProtocolError(f"unknown frame kind {kind} on a snapshot's connection")


def _proposal_id(value: object) -> ProposalId:
    node_id, boot_nonce, sequence = items(value, 3)
    return ProposalId(integer(node_id), integer(boot_nonce), integer(sequence))
