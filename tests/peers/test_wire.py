"""The wire form: what is encoded comes back, and nonsense raises one kind of error."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.proposal import ProposalId, decode_proposal, encode_proposal
from raftkv_trio.peers.framing import (
    MAX_FRAME_BYTES,
    PART_BYTES,
    FrameDecoder,
    FrameKind,
    PartAssembler,
    cut_into_parts,
    encode_frame,
)
from raftkv_trio.peers.handshake import MAX_HANDSHAKE_BYTES
from raftkv_trio.peers.handshake_frames import (
    AliveQuery,
    BootAnswer,
    Hello,
    JoinAnswer,
    JoinQuery,
    Welcome,
    decode_alive_answer,
    decode_boot,
    decode_boot_answer,
    decode_first_frame,
    decode_join_answer,
    decode_welcome,
    encode_alive_answer,
    encode_alive_query,
    encode_boot,
    encode_boot_answer,
    encode_hello,
    encode_join_answer,
    encode_join_query,
    encode_welcome,
)
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    FramePart,
    Refused,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotRefused,
    SnapshotTaken,
    SnapshotWanted,
    decode_peer_frame,
    decode_snapshot_frame,
    encode_forward,
    encode_forward_change,
    encode_messages,
    encode_refused,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import ConfState, Entry, Message, MessageType, Snapshot

MESSAGE = Message(type=MessageType.APP, to=2, from_=1, term=3, index=4, entries=(Entry(3, 5, data=b"x"),))


SNAP = Message(
    type=MessageType.SNAP, to=2, from_=1, term=3, snapshot=Snapshot(7, 3, ConfState(voters=(1, 2)))
)
ID = ProposalId(1, 2, 3)
HELLO = Hello(
    versions=(1, 1),
    cluster_id=5,
    sender=1,
    directory_id=b"d" * 16,
    receiver=2,
    peer_url="http://h:1",
    client_url=None,
    is_for_snapshot=True,
)
WELCOME = Welcome(
    version=1,
    node_id=2,
    directory_id=b"d" * 16,
    client_url="http://c:2",
    reason="no",
    is_other_directory=True,
    removed_at=9,
)

#: One frame of each kind, as protocol version 1 has it: encoder, decoder, what is said, and the bytes.
VERSION_1 = [
    pytest.param(
        encode_hello,
        decode_first_frame,
        HELLO,
        "000000264d3d052d890182010105015064646464646464646464646464646464026a687474703a2f2f683a31f6f5",
        id="hello",
    ),
    pytest.param(
        encode_welcome,
        decode_welcome,
        WELCOME,
        "0000002503e62f6e8802010250646464646464646464646464646464646a687474703a2f2f633a32626e6ff509",
        id="welcome",
    ),
    pytest.param(
        encode_join_query,
        decode_first_frame,
        JoinQuery((1, 1), 4),
        "000000063bb23eab830a82010104",
        id="query",
    ),
    pytest.param(
        encode_join_answer,
        decode_join_answer,
        JoinAnswer(5, {1: "http://h:1"}, None),
        "000000114de3e8c1840b05a1016a687474703a2f2f683a31f6",
        id="answer",
    ),
    pytest.param(
        encode_messages,
        decode_peer_frame,
        [replace(MESSAGE, log_term=2, commit=4, context=b"c")],
        "00000018025baa308203818d0402010302048184030500417804f6f6f4004163",
        id="messages",
    ),
    pytest.param(
        encode_forward,
        decode_peer_frame,
        Forward(3, ((ID, b"command"),)),
        "00000012709729d08204820381828301020347636f6d6d616e64",
        id="forward",
    ),
    pytest.param(
        encode_forward_change,
        decode_peer_frame,
        ForwardChange(3, ID, b"request"),
        "000000105ec799ec820c8303830102034772657175657374",
        id="forward_change",
    ),
    pytest.param(
        encode_refused,
        decode_peer_frame,
        Refused(3, (ID,), "reason", True, False),
        "00000012b3be945b82058503818301020366726561736f6ef5f4",
        id="refused",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotOffer(SNAP, 100),
        "0000001e1f4790248206828d0a02010300008000f684070385820102808080f440f400401864",
        id="offer",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotWanted(10),
        "00000003b264692582070a",
        id="wanted",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotPiece(b"data"),
        "000000074f72743e82084464617461",
        id="piece",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotTaken(100),
        "00000004a101a73b82091864",
        id="taken",
    ),
]


#: The frames that protocol version 2 adds.
VERSION_2 = [
    pytest.param(
        encode_hello,
        decode_first_frame,
        replace(HELLO, versions=(1, 2)),
        "0000002620bbf677890182010205015064646464646464646464646464646464026a687474703a2f2f683a31f6f5",
        id="hello",
    ),
    pytest.param(
        lambda part: encode_frame([FrameKind.PART, list(part)]),
        decode_peer_frame,
        FramePart(True, b"data"),
        "000000094ebd8831820d82f54464617461",
        id="part",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotRefused("full"),
        "0000000715669fe4820e6466756c6c",
        id="snapshot_refused",
    ),
    pytest.param(encode_boot, decode_boot, 7, "00000003040c9f90820f07", id="boot"),
    pytest.param(
        encode_boot_answer,
        decode_boot_answer,
        BootAnswer(7, "two"),
        "00000007527cfa038310076374776f",
        id="boot_answer",
    ),
    pytest.param(
        encode_alive_query,
        decode_first_frame,
        AliveQuery(7, "two"),
        "00000007992029a68311076374776f",
        id="alive_query",
    ),
    pytest.param(encode_alive_answer, decode_alive_answer, 7, "00000003fb60f38c821207", id="alive_answer"),
]


def test_messages_come_back_whatever_the_pieces_they_arrive_in() -> None:
    """Frames cut into single bytes decode to the messages that were sent."""
    decoder = FrameDecoder()
    payloads: list[bytes] = []
    for byte in encode_messages([MESSAGE, replace(MESSAGE, vote=7)]):
        decoder.feed(bytes([byte]))
        payloads.extend(decoder)
    assert [decode_peer_frame(p) for p in payloads] == [[MESSAGE, replace(MESSAGE, vote=7)]]


def test_a_forward_comes_back() -> None:
    """Proposals keep id and command on their way to the leader."""
    forward = Forward(3, ((ProposalId(1, 2, 3), b"command"),))
    decoder = FrameDecoder()
    decoder.feed(encode_forward(forward))
    assert decode_peer_frame(next(decoder)) == forward


@given(st.binary())
def test_a_proposal_comes_back(command: bytes) -> None:
    """An entry's data gives the proposal's id and command back."""
    proposal_id = ProposalId(1, 2**63 - 1, 3)
    assert decode_proposal(encode_proposal(proposal_id, command)) == (proposal_id, command)


def test_a_length_over_the_limit_is_refused_from_its_header() -> None:
    """No memory is taken for a frame that claims to be too large."""
    decoder = FrameDecoder(max_frame_bytes=10)
    decoder.feed(b"\0\0\0\x0b\0\0\0\0")
    with pytest.raises(PeerProtocolError, match="over the limit"):
        next(decoder)


def test_a_flipped_bit_is_refused() -> None:
    """A frame whose payload was changed on the way does not decode."""
    frame = bytearray(encode_messages([MESSAGE]))
    frame[-1] ^= 1
    decoder = FrameDecoder()
    decoder.feed(frame)
    with pytest.raises(PeerProtocolError, match="CRC"):
        next(decoder)


@given(st.binary())
def test_nonsense_raises_a_protocol_error_and_nothing_else(payload: bytes) -> None:
    """Random payloads are either frames or refused."""
    try:
        decode_peer_frame(payload)
    except PeerProtocolError:
        pass


@pytest.mark.parametrize(
    "value",
    [
        2**20_000,
        -(2**20_000),
        cbor2.CBORTag(4, [1, 2**63]),
        Decimal("sNaN"),
        float("nan"),
        [],
        cbor2.CBORTag(35, "(("),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "decode",
    [decode_first_frame, decode_welcome, decode_join_answer, decode_peer_frame, decode_snapshot_frame],
)
def test_no_value_gets_past_the_checks(decode: Callable[[bytes], object], value: object) -> None:
    """Every value in every field is taken or refused; so are numbers of thousands of digits."""
    for case in VERSION_1 + VERSION_2:
        frame = case.values[3]
        assert isinstance(frame, str)
        for damaged in replaced(cbor2.loads(bytes.fromhex(frame)[8:]), value):
            try:
                decode(cbor2.dumps(damaged))
            except PeerProtocolError:
                pass


def replaced(form: list[object], value: object) -> Iterator[list[object]]:
    """`form` with `value` in place of each of its parts in turn, at any depth."""
    for position, part in enumerate(form):
        yield [*form[:position], value, *form[position + 1 :]]
        if isinstance(part, list):
            for inner in replaced(part, value):
                yield [*form[:position], inner, *form[position + 1 :]]


def test_a_reason_is_cut_to_what_a_peer_takes() -> None:
    """However long the sentence is that somebody made, the frame can be read, also the first frame."""
    long = "\N{GREEK SMALL LETTER ALPHA}" * 100_000
    frames: list[tuple[bytes, Callable[[bytes], object], int]] = [
        (encode_refused(Refused(3, (ID,), long)), decode_peer_frame, MAX_FRAME_BYTES),
        (encode_snapshot_frame(SnapshotRefused(long)), decode_snapshot_frame, MAX_FRAME_BYTES),
        (encode_welcome(replace(WELCOME, reason=long)), decode_welcome, MAX_HANDSHAKE_BYTES),
    ]
    for data, decode, most_bytes in frames:
        decoder = FrameDecoder(most_bytes)
        decoder.feed(data)
        reason = getattr(decode(next(decoder)), "reason", None)
        assert isinstance(reason, str)
        assert long.startswith(reason.removesuffix("..."))
        assert 900 < len(reason) <= 1000


def test_a_forward_without_proposals_is_refused() -> None:
    """It asks for nothing, and a core takes no empty proposal."""
    decoder = FrameDecoder()
    decoder.feed(encode_forward(Forward(3, ())))
    with pytest.raises(PeerProtocolError, match="without proposals"):
        decode_peer_frame(next(decoder))


@pytest.mark.parametrize(("encode", "decode", "said", "form"), VERSION_1 + VERSION_2)
def test_each_frame_has_the_form_of_its_protocol_version(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], object], said: object, form: str
) -> None:
    """Nodes of other versions read these bytes: they change only with the protocol's version."""
    frame = encode(said)
    assert frame.hex() == form
    decoder = FrameDecoder()
    decoder.feed(frame)
    assert decode(next(decoder)) == said


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, MAX_FRAME_BYTES - 100])
def test_parts_of_a_frame_make_the_frame(size: int) -> None:
    """A large frame travels in parts of bounded size; a small one is whole."""
    message = replace(MESSAGE, entries=(Entry(3, 5, data=bytes(size)),))
    parts = cut_into_parts(encode_messages([message]))
    assert all(len(part) < PART_BYTES + 100 for part in parts)
    assembler, decoder = PartAssembler(), FrameDecoder()
    received: list[object] = []
    for part in parts:
        decoder.feed(part)
        frame = decode_peer_frame(next(decoder))
        if isinstance(frame, FramePart):
            whole = assembler.add(frame.data, is_last=frame.is_last)
            if whole is None:
                continue
            frame = decode_peer_frame(whole)
        received.append(frame)
    assert received == [[message]]


def test_parts_are_bounded() -> None:
    """Parts that never end, or hold nothing, are refused before they take more memory than one frame."""
    assembler = PartAssembler()
    for _ in range(MAX_FRAME_BYTES // PART_BYTES):
        assert assembler.add(bytes(PART_BYTES), is_last=False) is None
    for data in (b"x", b""):
        with pytest.raises(PeerProtocolError):
            assembler.add(data, is_last=True)
