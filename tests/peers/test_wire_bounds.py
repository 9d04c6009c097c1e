"""Frames whose parts are counted: what is too much is refused when it is decoded."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import MAX_MESSAGE_ENTRIES
from raftkv_trio.errors import DecodeError, PeerProtocolError
from raftkv_trio.payload.cbor import MAX_MEMBERS, pack_conf_state, unpack_conf_state
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.framing import FrameDecoder, FrameKind, encode_frame
from raftkv_trio.peers.outbox import FRAME_BYTES, MAX_URGENT_BYTES, OVERHEAD_BYTES, Outbox
from raftkv_trio.peers.wire import (
    MAX_ENTRIES,
    MAX_FORWARDED,
    MAX_MESSAGES,
    MAX_REFUSED,
    Forward,
    FramePart,
    Members,
    MembersQuery,
    PeerFrame,
    Refused,
    decode_peer_frame,
    encode_forward,
    encode_members,
    encode_members_query,
    encode_messages,
    encode_refused,
)
from raftkv_trio.raft.storage import ENTRY_OVERHEAD_BYTES
from raftkv_trio.raft.types import ConfState, Entry, Message, MessageType

ID = ProposalId(1, 2, 3)


def decoded(frame: bytes) -> PeerFrame | FramePart:
    decoder = FrameDecoder()
    decoder.feed(frame)
    return decode_peer_frame(next(decoder))


def test_the_frames_about_members_have_the_form_of_the_protocol() -> None:
    """Nodes of other versions read these bytes: they change only with the protocol's version."""
    members = Members({1: PeerAddress("h", 1)})
    assert encode_members_query().hex() == "000000034cadc5438217f6"
    assert encode_members(members).hex() == "00000011c98bba218218188182016a687474703a2f2f683a31"
    assert decoded(encode_members_query()) == MembersQuery()
    assert decoded(encode_members(members)) == members


def test_a_forward_has_a_bounded_number_of_proposals() -> None:
    """However small their commands are."""
    for count, is_taken in ((MAX_FORWARDED, True), (MAX_FORWARDED + 1, False)):
        with nullcontext() if is_taken else pytest.raises(PeerProtocolError, match="over the limit"):
            decoded(encode_forward(Forward(3, ((ID, b""),) * count)))


def test_a_frame_has_a_bounded_number_of_messages() -> None:
    """However small they are: the loop stands still while they are decoded."""
    message = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=3)
    for count, is_taken in ((MAX_MESSAGES, True), (MAX_MESSAGES + 1, False)):
        with nullcontext() if is_taken else pytest.raises(PeerProtocolError, match="over the limit"):
            decoded(encode_messages([message] * count))


def test_a_frame_has_a_bounded_number_of_entries() -> None:
    """However small they are, and over how many messages they are spread."""
    for count, is_taken in ((MAX_ENTRIES, True), (MAX_ENTRIES + 1, False)):
        half = count // 2
        messages = [
            Message(type=MessageType.APP, to=1, from_=2, term=3, entries=(Entry(3, 1),) * number)
            for number in (half, count - half)
        ]
        with nullcontext() if is_taken else pytest.raises(PeerProtocolError, match="entries are over"):
            decoded(encode_messages(messages))


def test_a_leader_sends_fewer_entries_than_a_frame_may_have() -> None:
    """Those of before this limit do too, with the default of 1 MiB: of the smallest proposals."""
    assert MAX_MESSAGE_ENTRIES + FRAME_BYTES // OVERHEAD_BYTES < MAX_ENTRIES
    smallest = len(encode_proposal(ID, b"")) + ENTRY_OVERHEAD_BYTES
    assert 2**20 // smallest < MAX_ENTRIES


def test_a_refused_has_a_bounded_number_of_ids() -> None:
    """And so have the ones that a leader sends, since all its answers are to Forwards."""
    for count, is_taken in ((MAX_REFUSED, True), (MAX_REFUSED + 1, False)):
        with nullcontext() if is_taken else pytest.raises(PeerProtocolError, match="over the limit"):
            decoded(encode_refused(Refused(3, (ID,) * count, "reason")))


def test_a_configuration_has_a_bounded_number_of_members() -> None:
    """Each of its lists, in a snapshot that is offered."""
    for count, is_taken in ((MAX_MEMBERS, True), (MAX_MEMBERS + 1, False)):
        for conf_state in (ConfState(voters=(1,) * count), ConfState(voters=(1,), learners=(2,) * count)):
            with nullcontext() if is_taken else pytest.raises(DecodeError, match="over the limit"):
                unpack_conf_state(pack_conf_state(conf_state))


async def test_an_outbox_merges_no_more_than_a_frame_may_have() -> None:
    """With both queues full of the smallest messages."""
    outbox = Outbox(MAX_URGENT_BYTES)
    outbox.open()
    small = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=3)
    # As entries they would be compared with those that wait; an empty append is bulk as well.
    while outbox.offer([small] * 100 + [replace(small, type=MessageType.APP)] * 100):
        pass
    frame = decoded(outbox.next_frame())
    assert isinstance(frame, list)
    assert MAX_MESSAGES / 2 < len(frame) <= MAX_MESSAGES


@pytest.mark.parametrize(
    "pairs",
    [[[1, "h:1"]], [[1, "http://h:1", 2]], [[-1, "http://h:1"]], [[1, "http://h:1"]] * (MAX_MEMBERS + 1)],
    ids=["address", "length", "id", "number"],
)
def test_members_are_checked(pairs: list[object]) -> None:
    """Their ids, their addresses, and how many they are."""
    with pytest.raises(PeerProtocolError):
        decoded(encode_frame([FrameKind.MEMBERS, pairs]))
