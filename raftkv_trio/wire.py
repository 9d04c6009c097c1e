"""Bytes: the frames that peers exchange, and the CBOR form of what they say and of what the log holds.

Sans-IO: nothing here reads or writes. The rules of this file:
- a length is checked before memory is taken, a CRC before anything is decoded;
- every frame has a decoder of its own, with the nesting capped;
- whatever decodes is checked field by field; nonsense raises `PeerProtocolError`, and nothing else escapes.

A frame is `length u32 | crc32 u32 | payload`, big endian; `length` and the CRC are the payload's.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple
from zlib import crc32

import cbor2

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot

PROTOCOL_VERSIONS = (1, 1)  # lowest and highest spoken
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 8
_FRAME_HEADER = struct.Struct(">II")
_MAX_INT = 2**63 - 1

# ---------------------------------------------------------------- frames


def encode_frame(value: object) -> bytes:
    """One frame around the CBOR form of `value`; what `NodeConfig` allows fits `MAX_FRAME_BYTES`."""
    payload = cbor2.dumps(value)
    return _FRAME_HEADER.pack(len(payload), crc32(payload)) + payload


def decode_payload(payload: bytes) -> Any:
    """The value of a frame's payload; raises PeerProtocolError for anything that is not plain CBOR."""
    try:
        return cbor2.loads(payload, max_depth=MAX_DEPTH, allow_indefinite=False)
    except (
        cbor2.CBORDecodeError,
        RecursionError,
        MemoryError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
    ) as error:
        raise PeerProtocolError(f"a frame's payload is not valid CBOR: {error}") from error


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


# ---------------------------------------------------------------- checked fields


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise PeerProtocolError(f"expected an integer from 0 to 2**63-1, got {_short(value)}")
    return value


def _optional_int(value: object) -> int | None:
    return None if value is None else _int(value)


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise PeerProtocolError(f"expected bytes, got {_short(value)}")
    return value


def _text(value: object) -> str:
    if type(value) is not str or len(value) > 4096:
        raise PeerProtocolError(f"expected a text of at most 4096 characters, got {_short(value)}")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise PeerProtocolError(f"expected true or false, got {_short(value)}")
    return value


def _list(value: object, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        of_length = "" if length is None else f" of {length}"
        raise PeerProtocolError(f"expected a list{of_length}, got {_short(value)}")
    return value


def _ids(value: object) -> tuple[int, ...]:
    return tuple(_int(i) for i in _list(value))


def _short(value: object) -> str:
    if isinstance(value, bytes | str | list | dict | tuple):
        return f"{type(value).__name__} of length {len(value)}"
    if type(value) is int and value.bit_length() <= 64:  # a larger one may be too long to be written out
        return f"the integer {value}"
    return type(value).__name__


# ---------------------------------------------------------------- raft's words


def pack_entries(entries: Sequence[Entry]) -> list[object]:
    """Entries as CBOR lists `[term, index, type, data]`."""
    return [[e.term, e.index, int(e.type), e.data] for e in entries]


def unpack_entries(value: object) -> tuple[Entry, ...]:
    return tuple([_unpack_entry(item) for item in _list(value)])


def _unpack_entry(value: object) -> Entry:
    term, index, kind, data = _list(value, 4)
    try:
        return Entry(_int(term), _int(index), EntryType(_int(kind)), _bytes(data))
    except ValueError as error:
        raise PeerProtocolError(f"unknown entry type {kind}") from error


def pack_conf_state(conf: ConfState) -> list[object]:
    return [
        list(conf.voters),
        list(conf.learners),
        list(conf.voters_outgoing),
        list(conf.learners_next),
        conf.auto_leave,
    ]


def unpack_conf_state(value: object) -> ConfState:
    voters, learners, outgoing, learners_next, auto_leave = _list(value, 5)
    return ConfState(_ids(voters), _ids(learners), _ids(outgoing), _ids(learners_next), _bool(auto_leave))


def _pack_message(m: Message) -> list[object]:
    snapshot = m.snapshot and [
        m.snapshot.index,
        m.snapshot.term,
        pack_conf_state(m.snapshot.conf_state),
        m.snapshot.data,
    ]
    return [
        int(m.type),
        m.to,
        m.from_,
        m.term,
        m.log_term,
        m.index,
        pack_entries(m.entries),
        m.commit,
        m.vote,
        snapshot,
        m.reject,
        m.reject_hint,
        m.context,
    ]


def _unpack_message(value: object) -> Message:
    kind, to, from_, term, log_term, index, entries, commit, vote, snapshot, reject, hint, context = _list(
        value, 13
    )
    try:
        message_type = MessageType(_int(kind))
    except ValueError as error:
        raise PeerProtocolError(f"unknown message type {kind}") from error
    return Message(
        type=message_type,
        to=_int(to),
        from_=_int(from_),
        term=_int(term),
        log_term=_int(log_term),
        index=_int(index),
        entries=unpack_entries(entries),
        commit=_int(commit),
        vote=_optional_int(vote),
        snapshot=None if snapshot is None else _unpack_snapshot(snapshot),
        reject=_bool(reject),
        reject_hint=_int(hint),
        context=_bytes(context),
    )


def _unpack_snapshot(value: object) -> Snapshot:
    index, term, conf_state, data = _list(value, 4)
    return Snapshot(_int(index), _int(term), unpack_conf_state(conf_state), _bytes(data))


# ---------------------------------------------------------------- what the log holds


class ProposalId(NamedTuple):
    """Names one proposal for ever: the proposing node, a random number of its start, a counter."""

    node_id: int
    boot_nonce: int
    sequence: int


_PROPOSAL_HEADER = struct.Struct(">BQQQ")
_PROPOSAL_VERSION = 1


def encode_proposal(proposal_id: ProposalId, command: bytes) -> bytes:
    """The data of a NORMAL entry: a fixed header naming the proposal, then the command as it is."""
    return _PROPOSAL_HEADER.pack(_PROPOSAL_VERSION, *proposal_id) + command


def decode_proposal(data: bytes) -> tuple[ProposalId, bytes]:
    """What `encode_proposal` made; raises PeerProtocolError for another version or a short header."""
    if len(data) < _PROPOSAL_HEADER.size or data[0] != _PROPOSAL_VERSION:
        raise PeerProtocolError("an entry's data does not begin with a proposal header of version 1")
    _, node_id, boot_nonce, sequence = _PROPOSAL_HEADER.unpack_from(data)
    return ProposalId(node_id, boot_nonce, sequence), data[_PROPOSAL_HEADER.size :]


def encode_log_batch(hard_state: HardState | None, entries: Sequence[Entry]) -> bytes:
    """The payload of one write-ahead-log record: a hard state where it changed, and entries."""
    return cbor2.dumps([hard_state and list(hard_state), pack_entries(entries)])


def decode_log_batch(payload: bytes) -> tuple[HardState | None, tuple[Entry, ...]]:
    """What `encode_log_batch` made; raises PeerProtocolError, which the caller turns into CorruptLog."""
    hard_state, entries = _list(decode_payload(payload), 2)
    return None if hard_state is None else _unpack_hard_state(hard_state), unpack_entries(entries)


def _unpack_hard_state(value: object) -> HardState:
    term, vote, commit = _list(value, 3)
    return HardState(_int(term), _optional_int(vote), _int(commit))


# ---------------------------------------------------------------- what peers say


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of whoever connects: who it is, and whom it believes to speak to.

    On the wire the fields of this class and of `Welcome` go in their order here.
    """

    versions: tuple[int, int] = PROTOCOL_VERSIONS
    cluster_id: int
    sender: int
    directory_id: bytes
    receiver: int
    client_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The answer to a Hello: `reason` is None where it is accepted, else why the connection is closed.

    `is_other_directory` where the reason is that the sender is known by another data directory.
    """

    version: int
    node_id: int
    directory_id: bytes
    client_url: str | None = None
    reason: str | None = None
    is_other_directory: bool = False


class Forward(NamedTuple):
    """Proposals `(id, command)` that a follower asks the leader of `term`, and no other, to append.

    What becomes of those that are appended the follower learns from its own log.
    """

    term: int
    proposals: tuple[tuple[ProposalId, bytes], ...]


class Refused(NamedTuple):
    """The leader that was asked under `term` did not append these and never will on that request."""

    term: int
    ids: tuple[ProposalId, ...]
    reason: str


PeerFrame = Sequence[Message] | Forward | Refused
_HELLO, _WELCOME, _MESSAGES, _FORWARD, _REFUSED = range(1, 6)


def encode_hello(hello: Hello) -> bytes:
    return encode_frame([_HELLO, *astuple(hello)])


def decode_hello(payload: bytes) -> Hello:
    """Raises PeerProtocolError where the first frame is no Hello."""
    kind, versions, cluster_id, sender, directory_id, receiver, client_url = _list(decode_payload(payload), 7)
    lowest, highest = _list(versions, 2)
    if _int(kind) != _HELLO:
        raise PeerProtocolError("the first frame is not a handshake")
    return Hello(
        versions=(_int(lowest), _int(highest)),
        cluster_id=_int(cluster_id),
        sender=_int(sender),
        directory_id=_bytes(directory_id),
        receiver=_int(receiver),
        client_url=_optional_text(client_url),
    )


def encode_welcome(welcome: Welcome) -> bytes:
    return encode_frame([_WELCOME, *astuple(welcome)])


def decode_welcome(payload: bytes) -> Welcome:
    """Raises PeerProtocolError where the answer to a Hello is no Welcome."""
    fields = _list(decode_payload(payload), 7)
    kind, version, node_id, directory_id, client_url, reason, is_other_directory = fields
    if _int(kind) != _WELCOME:
        raise PeerProtocolError("the answer to the handshake is not one")
    return Welcome(
        version=_int(version),
        node_id=_int(node_id),
        directory_id=_bytes(directory_id),
        client_url=_optional_text(client_url),
        reason=_optional_text(reason),
        is_other_directory=_bool(is_other_directory),
    )


def encode_messages(messages: Iterable[Message]) -> bytes:
    return encode_frame([_MESSAGES, [_pack_message(m) for m in messages]])


def encode_forward(forward: Forward) -> bytes:
    proposals = [[list(proposal_id), command] for proposal_id, command in forward.proposals]
    return encode_frame([_FORWARD, [forward.term, proposals]])


def encode_refused(refused: Refused) -> bytes:
    ids = [list(proposal_id) for proposal_id in refused.ids]
    return encode_frame([_REFUSED, [refused.term, ids, refused.reason]])


def decode_peer_frame(payload: bytes) -> PeerFrame:
    """Any frame after the handshake; raises PeerProtocolError."""
    kind, body = _list(decode_payload(payload), 2)
    if _int(kind) == _MESSAGES:
        return [_unpack_message(item) for item in _list(body)]
    if kind == _FORWARD:
        term, proposals = _list(body, 2)
        pairs = [_list(item, 2) for item in _list(proposals)]
        if not pairs:
            raise PeerProtocolError("a Forward without proposals")
        return Forward(_int(term), tuple((_proposal_id(i), _bytes(command)) for i, command in pairs))
    if kind == _REFUSED:
        term, ids, reason = _list(body, 3)
        return Refused(_int(term), tuple(_proposal_id(i) for i in _list(ids)), _text(reason))
    raise PeerProtocolError(f"unknown frame kind {kind}")


def _proposal_id(value: object) -> ProposalId:
    node_id, boot_nonce, sequence = _list(value, 3)
    return ProposalId(_int(node_id), _int(boot_nonce), _int(sequence))
