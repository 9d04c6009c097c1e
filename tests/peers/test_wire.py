"""The wire form: what is encoded comes back, and nonsense raises one kind of error."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.foreign_text import MAX_CHARACTERS
from raftkv_trio.payload.levels import Levels
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
from raftkv_trio.peers.handshake_frames import (
    PROTOCOL_VERSIONS,
    Admission,
    Hello,
    Introduction,
    JoinAnswer,
    Proof,
    Purpose,
    RefusalKind,
    Welcome,
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_join_answer,
    decode_notice,
    decode_proof,
    decode_welcome,
    encode_hello,
    encode_join_answer,
    encode_welcome,
    encode_with_levels,
)
from raftkv_trio.peers.proofs import MAX_HANDSHAKE_BYTES, key_towards
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
KEY = bytes(range(32))
ID = ProposalId(1, 2, 3)
HELLO = Hello(
    cluster_id=5, sender=1, nonce=b"n" * 16, receiver=2, peer_url="http://h:1", client_url="http://c:1"
)
WELCOME = Welcome(version=3, node_id=2, nonce=b"m" * 16, client_url="http://c:2", reason="no")

#: The first frame each way has the same form in all versions: encoder, decoder, what is said, and the bytes.
FIRST_FRAMES = [
    pytest.param(
        encode_hello,
        decode_hello,
        HELLO,
        "00000030b0308b9789018203040501506e6e6e6e6e6e6e6e6e6e6e6e6e6e"
        "6e6e026a687474703a2f2f683a316a687474703a2f2f633a31f4",
        id="hello",
    ),
    pytest.param(
        encode_welcome,
        decode_welcome,
        WELCOME,
        "00000025292222ad88020302506d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6a687474703a2f2f633a32626e6ff4f6",
        id="welcome",
    ),
]

#: One frame of each other kind that protocol version 1 has.
VERSION_1 = [
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


#: The frames that protocol version 2 adds, as far as version 3 has kept them.
VERSION_2 = [
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
]
#: A message tells the term of its commit index; before, it had the sender's vote there, which was never set.
VERSION_3 = [
    pytest.param(
        encode_messages,
        decode_peer_frame,
        [replace(MESSAGE, log_term=2, commit=4, context=b"c")],
        "00000018c19050348203818d040201030204818403050041780400f6f4004163",
        id="messages",
    ),
    pytest.param(
        encode_snapshot_frame,
        decode_snapshot_frame,
        SnapshotOffer(SNAP, 100),
        "0000001e76385e688206828d0a020103000080000084070385820102808080f440f400401864",
        id="offer",
    ),
]

#: The bodies of the sealed frames of the handshake, which protocol version 3 adds.
VERSION_3_BODIES = [
    pytest.param(partial(decode_proof, version=3), Proof(5, True), "8205f5", id="proof"),
    pytest.param(
        partial(decode_introduction, version=3),
        Introduction(Purpose.SNAPSHOT, 7, KEY, False, "no"),
        f"8501075820{KEY.hex()}f4626e6f",
        id="introduction",
    ),
    pytest.param(
        decode_admission,
        Admission(7, KEY, RefusalKind.REMOVED, "no", 9),
        f"85075820{KEY.hex()}01626e6f09",
        id="admission",
    ),
    pytest.param(
        decode_join_answer,
        JoinAnswer(5, {1: "http://h:1"}, None),
        "83058182016a687474703a2f2f683a31f6",
        id="join_answer",
    ),
    pytest.param(decode_notice, "two", "816374776f", id="notice"),
]

#: Those that have another form from protocol version 4 on.
VERSION_4_BODIES = [
    pytest.param(decode_proof, Proof(5, True, Levels(3, 2, 9)), "8405f583030209f6", id="proof"),
    pytest.param(
        decode_introduction,
        Introduction(Purpose.SNAPSHOT, 7, KEY, False, "no", Levels(2), "http://e:1"),
        f"8701075820{KEY.hex()}f4626e6f830201006a687474703a2f2f653a31",
        id="introduction",
    ),
]


def test_messages_come_back_whatever_the_pieces_they_arrive_in() -> None:
    """Frames cut into single bytes decode to the messages that were sent."""
    decoder = FrameDecoder()
    payloads: list[bytes] = []
    for byte in encode_messages([MESSAGE, replace(MESSAGE, commit_term=7)]):
        decoder.feed(bytes([byte]))
        payloads.extend(decoder)
    assert [decode_peer_frame(p) for p in payloads] == [[MESSAGE, replace(MESSAGE, commit_term=7)]]


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


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (
            b"GET /my-key HTTP/1.1\r\n",
            "an HTTP request came to the peer port; clients use the port of the REST API",
        ),
        (b"DELETE /my-key HTTP/1.1\r\n", "an HTTP request came"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "a TLS handshake came"),
    ],
)
def test_a_client_at_the_peer_port_is_told_apart(sent: bytes, what: str) -> None:
    """The first bytes of another protocol are not called a frame that is too long."""
    decoder = FrameDecoder()
    decoder.feed(sent)
    with pytest.raises(PeerProtocolError, match=what):
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
    [decode_hello, decode_welcome, decode_peer_frame, decode_snapshot_frame],
)
def test_no_value_gets_past_the_checks(decode: Callable[[bytes], object], value: object) -> None:
    """Every value in every field is taken or refused; so are numbers of thousands of digits."""
    for case in FIRST_FRAMES + VERSION_1 + VERSION_2 + VERSION_3:
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
        assert MAX_CHARACTERS - 50 < len(reason) <= MAX_CHARACTERS


def test_a_forward_without_proposals_is_refused() -> None:
    """It asks for nothing, and a core takes no empty proposal."""
    decoder = FrameDecoder()
    decoder.feed(encode_forward(Forward(3, ())))
    with pytest.raises(PeerProtocolError, match="without proposals"):
        decode_peer_frame(next(decoder))


@pytest.mark.parametrize(
    ("encode", "decode", "said", "form"), FIRST_FRAMES + VERSION_1 + VERSION_2 + VERSION_3
)
def test_each_frame_has_the_form_of_its_protocol_version(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], object], said: object, form: str
) -> None:
    """Nodes of other versions read these bytes: they change only with the protocol's version."""
    frame = encode(said)
    assert frame.hex() == form
    decoder = FrameDecoder()
    decoder.feed(frame)
    assert decode(next(decoder)) == said


@pytest.mark.parametrize(("decode", "said", "form"), VERSION_3_BODIES + VERSION_4_BODIES)
def test_each_body_has_the_form_of_its_protocol_version(
    decode: Callable[[bytes], object], said: Any, form: str
) -> None:
    """As above, for what a handshake says under a seal; and nonsense in any field is refused."""
    body = [said] if isinstance(said, str) else list(said)
    if isinstance(said, JoinAnswer):
        body = encode_join_answer(said)
    elif isinstance(said, Proof | Introduction):
        version = 3 if isinstance(decode, partial) else 4
        body = list(encode_with_levels(said, version))
    assert cbor2.dumps(body).hex() == form
    assert decode(bytes.fromhex(form)) == said
    values: list[Any] = [2**80, -1, b"bytes", "text", [], {}, None, True, float("nan")]
    for value in values:
        for damaged in replaced(body, value):
            try:
                decode(cbor2.dumps(damaged))
            except PeerProtocolError:
                pass


LEVELS_OF_NOBODY = [
    [0, 0, 0],
    [1, 2, 5],  # of a cluster that it does not know
    [2, 2, 0],  # nothing has raised it
    [2, 1, 5],
    [2, 1],
    [2, 1, 0, 0],
    [2**63, 1, 0],
    [-1, 1, 0],
    ["2", 1, 0],
    [2, True, 0],
    [2, 1, None],
    2,
    "all",
    None,
]


@pytest.mark.parametrize("levels", LEVELS_OF_NOBODY)
def test_feature_levels_that_no_node_can_have_end_the_handshake(levels: object) -> None:
    """The new fields are input as all others are: of the wrong type, out of range, or in contradiction."""
    with pytest.raises(PeerProtocolError):
        decode_proof(cbor2.dumps([5, True, levels]))
    with pytest.raises(PeerProtocolError):
        decode_introduction(cbor2.dumps([1, 7, KEY, False, None, levels]))


@pytest.mark.parametrize("versions", [(1, 1), (1, 2)])
def test_the_first_frames_of_older_versions_can_be_read(versions: tuple[int, int]) -> None:
    """And older versions can read those of this one: nodes tell each other why they do not talk."""
    older = [1, list(versions), 5, 1, b"d" * 16, 2, "http://h:1", None, True]
    assert decode_hello(cbor2.dumps(older)).versions == versions
    assert decode_welcome(cbor2.dumps([2, 2, 2, b"d" * 16, None, "too new", True, 9])).reason == "too new"
    # What version 2 checks of each field of a Hello and of a Welcome.
    hello = cbor2.loads(encode_hello(HELLO)[8:])
    assert [type(field) for field in hello] == [int, list, int, int, bytes, int, str, str, bool]
    assert hello[1] == list(PROTOCOL_VERSIONS)
    welcome = cbor2.loads(encode_welcome(WELCOME)[8:])
    assert [type(field) for field in welcome] == [int, int, int, bytes, str, str, bool, type(None)]
    with pytest.raises(PeerProtocolError, match="an older version of raftkv-trio asks; upgrade it"):
        decode_hello(cbor2.dumps([10, list(versions), 4]))


def test_the_keys_of_a_directory_do_not_change() -> None:
    """They are on disks: by them members know each other after an upgrade too."""
    assert (
        key_towards(b"d" * 16, 2).hex() == "78554907dc718cea067dd03496950395706b895c7a3a1ea6cb389918f7397c78"
    )


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
