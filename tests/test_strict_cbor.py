"""Bytes that anybody may have made: decoded within bounds, or refused with one error."""

from collections.abc import Callable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio import Committed
from raftkv_trio.errors import CorruptLog, DecodeError, PeerProtocolError
from raftkv_trio.kv import Rejected, Store
from raftkv_trio.payload.cbor import decode_payload
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import ChangeRequest
from raftkv_trio.peers.handshake_frames import (
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_join_answer,
    decode_notice,
    decode_proof,
    decode_welcome,
)
from raftkv_trio.peers.wire import decode_peer_frame, decode_snapshot_frame
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage.record import BATCH, LogRecord, decode_record
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT
from raftkv_trio.strict_cbor import decode

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=300)
    | st.text(max_size=100),
    lambda values: st.lists(values, max_size=30) | st.dictionaries(st.text(max_size=3) | st.binary(), values),
    max_leaves=20,
)


def colliding(size_bytes: int) -> bytes:
    """A map whose keys all have the same hash, so that each is compared with all before it."""
    # The hash of an integer is a remainder. A large integer is a tag around bytes.
    multiples = [factor * (2**61 - 1) for factor in range(size_bytes // 19)]
    keys = [b"\xc2\x50" + multiple.to_bytes(16, "big") for multiple in multiples]
    return b"\xba" + len(keys).to_bytes(4, "big") + b"".join(key + b"\x00" for key in keys)


def empty_lists(count: int) -> bytes:
    """A list of empty lists: each is one byte, and more than fifty in memory."""
    return b"\x9a" + count.to_bytes(4, "big") + b"\x80" * count


def count_of(value: object) -> int:
    """How many items a value is, itself included."""
    if isinstance(value, list):
        return 1 + sum(map(count_of, value))
    if isinstance(value, dict):
        return 1 + sum(count_of(key) + count_of(item) for key, item in value.items())
    return 1


@given(plain)
def test_plain_values_are_decoded_if_they_have_no_more_items_than_allowed(value: object) -> None:
    """Items are counted exactly, whatever they are."""
    data, count = cbor2.dumps(value), count_of(value)
    assert decode(data, max_depth=400, max_items=count) == value
    if count < len(data):  # else they are not counted: no item is shorter than a byte
        with pytest.raises(DecodeError, match="more than"):
            decode(data, max_depth=400, max_items=count - 1)


@given(st.binary())
def test_other_bytes_raise_one_error(data: bytes) -> None:
    """Whatever the bytes are, and whether they are counted or not."""
    for max_items in (1, 1000):
        try:
            decode(data, max_depth=8, max_items=max_items)
        except DecodeError:
            pass


@pytest.mark.parametrize("tag", [0, 2, 4, 25, 28, 29, 30, 35, 37, 256, 258, 55799, 2**32, 2**64 - 1])
@pytest.mark.parametrize("content", [0, b"\x01" * 9, "2013-03-21T20:04:00Z", [1, 2], {}])
def test_no_tag_is_accepted(tag: int, content: object) -> None:
    """A tag would have its content made into something else: a large number, a set, a shared reference."""
    data = cbor2.dumps([1, cbor2.CBORTag(tag, content)])
    with pytest.raises(DecodeError, match="tag"):
        decode(data, max_depth=8, max_items=100)


def test_items_of_indefinite_length_are_refused() -> None:
    """Nothing of ours has them, and their items could not be counted."""
    for data in (b"\x9f\x01\xff", b"\x5f\x41a\xff", b"\xbf\xff", b"\x81" + b"\x9f" + b"\x00" * 100 + b"\xff"):
        for max_items in (2, 1000):
            with pytest.raises(DecodeError):
                decode(data, max_depth=8, max_items=max_items)


@pytest.mark.parametrize("key", [b"\x01", b"\x20", b"\x81\x01", b"\xa0", b"\xf6", b"\xfb" + bytes(8)])
def test_only_texts_and_bytes_are_keys(key: bytes) -> None:
    """The hashes of all other values are known, so that somebody can choose keys of the same hash."""
    data = b"\xa1" + key + b"\x00"
    with pytest.raises(DecodeError, match="key must be"):
        decode(data, max_depth=8, max_items=10)
    for allowed in ("a", b"a"):
        assert decode(cbor2.dumps({allowed: 0}), max_depth=8, max_items=10) == {allowed: 0}


def test_integers_are_keys_where_a_format_has_them() -> None:
    """The first version of the envelope has ids as keys, and is short."""
    urls = {i: f"http://10.0.0.{i}:2380" for i in range(1, 200)}
    assert Envelope.decode(cbor2.dumps([1, urls])).addresses.keys() == urls.keys()
    many = dict.fromkeys(range(1, 1000), "http://10.0.0.1:2380")
    with pytest.raises(CorruptLog, match="key must be"):
        Envelope.decode(cbor2.dumps([1, many]))


DECODERS: list[tuple[Callable[[bytes], object], type[Exception]]] = [
    (decode_payload, DecodeError),
    (decode_hello, PeerProtocolError),
    (decode_welcome, PeerProtocolError),
    (decode_proof, PeerProtocolError),
    (decode_introduction, PeerProtocolError),
    (decode_admission, PeerProtocolError),
    (decode_join_answer, PeerProtocolError),
    (decode_notice, PeerProtocolError),
    (decode_peer_frame, PeerProtocolError),
    (decode_snapshot_frame, PeerProtocolError),
    (ChangeRequest.decode, DecodeError),
    (Envelope.decode, CorruptLog),
]


@pytest.mark.parametrize(("decoder", "error"), DECODERS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (colliding(20_000), "tag"),
        (empty_lists(197_000), "more than 196608 items"),
        (b"\xc2\x41\x01", "tag"),
    ],
    ids=["keys that collide", "many items", "a tag"],
)
def test_every_decoder_is_strict(
    decoder: Callable[[bytes], object], error: type[Exception], data: bytes, words: str
) -> None:
    """Frames, changes of members and envelopes are refused before anything large is made of them."""
    with pytest.raises(error, match=words):
        decoder(data)


@pytest.mark.parametrize(
    "data", [colliding(20_000), empty_lists(20_000), b"\xd9\xd9\xf7\x84\x01\x80\x80\x80"]
)
def test_a_hostile_command_has_a_result(data: bytes) -> None:
    """As a command such bytes are in the log, and every start applies them again."""
    (result,) = Store().apply([Committed(term=1, index=2, command=data)])
    assert result == Rejected("a command is not valid CBOR")


@pytest.mark.parametrize("data", [colliding(20_000), empty_lists(200_000)])
def test_a_hostile_chunk_is_no_part_of_a_snapshot(data: bytes) -> None:
    """A chunk of a member's snapshot is bounded like its messages."""
    with pytest.raises(CorruptLog, match="cannot be read"):
        Store().restore([cbor2.dumps([1, 1, 1]), data])


def test_a_record_of_the_log_may_have_any_number_of_entries() -> None:
    """This node has written it, in one batch, and must be able to read it."""
    entries = tuple([Entry(1, index) for index in range(1, 60_000)])
    record = LogRecord(HardState(1, None, 0), entries, NO_SNAPSHOT)
    assert decode_record(BATCH, record.encode()) == record
