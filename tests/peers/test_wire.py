"""The wire form: what is encoded comes back, and nonsense raises one kind of error."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.proposal import ProposalId, decode_proposal, encode_proposal
from raftkv_trio.peers.wire import (
    Forward,
    FrameDecoder,
    decode_first_frame,
    decode_peer_frame,
    decode_welcome,
    encode_forward,
    encode_messages,
)
from raftkv_trio.raft.types import Entry, Message, MessageType

MESSAGE = Message(type=MessageType.APP, to=2, from_=1, term=3, index=4, entries=(Entry(3, 5, data=b"x"),))


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
@pytest.mark.parametrize("decode", [decode_first_frame, decode_welcome, decode_peer_frame])
def test_no_value_gets_past_the_checks(decode: Callable[[bytes], object], value: object) -> None:
    """Whatever CBOR holds, in whichever field, is refused; numbers of thousands of digits, too."""
    entry: list[object] = [1, 2, 0, b"data"]
    message = [4, 1, 2, 3, 3, 3, [entry], 3, None, None, False, 0, b""]
    forms: list[list[object]] = [
        [1, [1, 1], 5, 1, b"d" * 16, 2, None],
        [2, 1, 1, b"d" * 16, None, None],
        [3, [message]],
        [4, [1, [[[1, 2, 3], b"command"]]]],
        [5, [1, [[1, 2, 3]], "reason"]],
        [[1, None, 1], [entry]],
    ]
    for form in forms:
        for damaged in replaced(form, value):
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


def test_a_forward_without_proposals_is_refused() -> None:
    """It asks for nothing, and a core takes no empty proposal."""
    decoder = FrameDecoder()
    decoder.feed(encode_forward(Forward(3, ())))
    with pytest.raises(PeerProtocolError, match="without proposals"):
        decode_peer_frame(next(decoder))
