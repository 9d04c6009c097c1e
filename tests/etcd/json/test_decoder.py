"""What is read is what etcd's gateway reads; the facts were measured with etcd 3.4.23."""

import json
from random import Random

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.etcd.json import decode, encode
from raftkv_trio.etcd.json.decoder import MAX_DEPTH
from raftkv_trio.etcd.json.text import EXACT_CHARACTERS
from raftkv_trio.schema.rpc_pb2 import (
    AlarmRequest,
    AuthUserAddRequest,
    Compare,
    LeaseGrantRequest,
    LeaseTimeToLiveResponse,
    MemberAddRequest,
    MemberRemoveRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
    WatchCreateRequest,
)
from tests.etcd.json.messages import TYPES

A = RangeRequest(key=b"a")
LONG = b"1" * 5000
NAMES = [field.name for kind in TYPES for field in kind.DESCRIPTOR.fields]
SIMPLE_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["YQ==", "1", "GET"])
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n\t\r",
        b"null",
        b" null ",
        b"nullx",
        b"null{}",
        b"{}",
        b'{"limit":null}',
        b'{"key":null,"x":1}',
    ],
)
def test_nothing_is_an_empty_message(content: bytes) -> None:
    """No content, `null`, and fields that are null."""
    assert decode(content, RangeRequest) == RangeRequest()


@pytest.mark.parametrize(
    "content",
    [
        b'\n{"key":"YQ=="}',
        b'{"key":"YQ=="}x',
        b'{"key":"YQ=="}{"key":"Yg=="}',
        b'{"key":"Yg==","key":"YQ=="}',
        b'{"key":"YR=="}',
        b'{"key":"Y\\nQ=\\r="}',
        b'{"key":"YQ==\\n"}',
        b'{"key":"YQ=\\u003d"}',
        b'{"key":[97]}',
        b'{"key":"YQ==","Key":"Yg=="}',
        b'{"key":"YQ==","x":"\xff"}',
        b'{"key":"YQ==","x":"\\ud800"}',
        b'{"key":"YQ==","x":%b}' % LONG,
        b'{"key":"YQ==","x":1e999}',
        b'{"key":"YQ==","x":[{"y":[]},-0.5,true]}',
    ],
)
def test_what_etcd_takes(content: bytes) -> None:
    """Trailing text, duplicates, unknown names, and base64 with line breaks or loose bits."""
    assert decode(content, RangeRequest) == A


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"1",
        b'"x"',
        b"true",
        b"{",
        b'{"key"',
        b'{"key":"YQ=="',
        b'{"key":"YQ==",}',
        b"x",
        b"nul",
        b'\xef\xbb\xbf{"key":"YQ=="}',
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"x":01}',
        b'{"x":\x0b1}',
        b'{"x":"\x01"}',
        b'{"x":\xff}',
        b'\x0b{"key":"YQ=="}',
        b'\xc2\xa0{"key":"YQ=="}',
        b"\xff",
        b'{"x":' + b"[" * 100_000,
        b'{"x":"\\x"}',
        b'{"x":truex}',
        b"{'x':1}",
        b'{"key":"YQ"}',
        b'{"key":"Y-_="}',
        b'{"key":" YQ=="}',
        b'{"key":"YQ==YQ=="}',
        b'{"key":"YWI0="}',
        b'{"key":"YQ==="}',
        b'{"key":"Y==="}',
        b'{"key":"YQ==\xff"}',
        b'{"key":1}',
        b'{"key":[256]}',
        b'{"key":[-1]}',
        b'{"key":[1.0]}',
        b'{"key":["a"]}',
        b'{"key":[true]}',
        b'{"key":{}}',
        b'{"key":true}',
        b'{"keys_only":"true"}',
        b'{"keys_only":1}',
        b'{"sort_order":"ascend"}',
        b'{"sort_order":"1"}',
        b'{"sort_order":1.0}',
        b'{"sort_order":2147483648}',
        b'{"sort_order":"\\u0041SCEND"}',
        b'{"sort_order":true}',
    ],
)
def test_what_etcd_refuses(content: bytes) -> None:
    """Whatever is no JSON, or has the wrong type."""
    with pytest.raises(MalformedRequest):
        decode(content, RangeRequest)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"12", 12),
        (b'"12"', 12),
        (b'" 12"', 12),
        (b'"12 "', 12),
        (b'"-7"', -7),
        (b"-7", -7),
        (b'"-0"', 0),
        (b"-0", 0),
        (b'"null"', 0),
        (b"9223372036854775807", 2**63 - 1),
        (b'"-9223372036854775808"', -(2**63)),
    ],
)
def test_numbers(text: bytes, number: int) -> None:
    """With and without quotes."""
    assert decode(b'{"limit":%b}' % text, RangeRequest).limit == number


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"+1",
            b"1.0",
            b"1e0",
            b"true",
            b"[1]",
            b"{}",
            b"9223372036854775808",
            LONG,
            b'""',
            b'" "',
            b'"+1"',
        ),
        *(b'"01"', b'"1_0"', b'"1.0"', b'"1e0"', b'"0x1"', b'"\xd9\xa1"', b'"true"', b'"\\u0031"', b'"1\\n"'),
        *(b'"-9223372036854775809"', b'"%b"' % LONG),
    ],
)
def test_what_is_no_number(text: bytes) -> None:
    """Anything but a whole number as JSON writes it, of 64 bits."""
    with pytest.raises(MalformedRequest):
        decode(b'{"limit":%b}' % text, RangeRequest)


@pytest.mark.parametrize("text", [b"-0", b'"-0"', b"-1", b"18446744073709551616"])
def test_numbers_without_sign_have_none(text: bytes) -> None:
    """For Go `-0` has a sign."""
    assert decode(b'{"ID":18446744073709551615}', MemberRemoveRequest).ID == 2**64 - 1
    with pytest.raises(MalformedRequest):
        decode(b'{"ID":%b}' % text, MemberRemoveRequest)


def test_names_in_camel_case_count_more() -> None:
    """Whatever their order, and the other one is not even read."""
    expected = RangeRequest(range_end=b"b")
    assert decode(b'{"range_end":"YQ==","rangeEnd":"Yg=="}', RangeRequest) == expected
    assert decode(b'{"rangeEnd":"Yg==","range_end":1}', RangeRequest) == expected
    assert decode(b'{"ttl":1,"TTL":2}', LeaseGrantRequest) == LeaseGrantRequest(TTL=2)


def test_enums_are_names_or_numbers() -> None:
    """A number that nobody has given a name is taken."""
    assert decode(b'{"sort_order":"DESCEND"}', RangeRequest).sort_order == RangeRequest.DESCEND
    assert decode(b'{"sortOrder":2}', RangeRequest).sort_order == RangeRequest.DESCEND
    assert decode(b'{"alarm":7}', AlarmRequest).alarm == 7
    assert list(decode(b'{"filters":["NODELETE",0,null]}', WatchCreateRequest).filters) == [1, 0, 0]


def test_messages_in_messages() -> None:
    """Empty ones are set; `null` is not."""
    assert decode(b'{"success":[{"request_put":{}}]}', TxnRequest).success[0].HasField("request_put")
    assert not decode(b'{"success":[{"request_put":null}]}', TxnRequest).success[0].HasField("request_put")
    assert decode(b'{"success":null}', TxnRequest) == TxnRequest()
    with pytest.raises(MalformedRequest):
        decode(b'{"success":[null]}', TxnRequest)  # etcd ends the connection
    with pytest.raises(MalformedRequest):
        decode(b'{"success":{}}', TxnRequest)


def test_null_chooses_a_member_of_a_oneof() -> None:
    """A compare with `version: null` is one with version 0."""
    assert decode(b'{"version":null}', Compare).WhichOneof("target_union") == "version"
    assert decode(b'{"value":null}', Compare).WhichOneof("target_union") == "value"


def test_the_later_member_of_a_oneof_counts() -> None:
    """In etcd chance decides."""
    one, other = b'"version":1', b'"mod_revision":2'
    assert decode(b"{%b,%b}" % (one, other), Compare).WhichOneof("target_union") == "mod_revision"
    assert decode(b"{%b,%b}" % (other, one), Compare).WhichOneof("target_union") == "version"


def test_lists() -> None:
    """`null` in them is a zero value, and `null` instead of one an empty list."""
    assert list(decode(b'{"peerURLs":["a",null]}', MemberAddRequest).peerURLs) == ["a", ""]
    assert list(decode(b'{"keys":["YQ==",[98,null],null]}', LeaseTimeToLiveResponse).keys) == [
        b"a",
        b"b\0",
        b"",
    ]
    assert decode(b'{"peerURLs":null}', MemberAddRequest) == MemberAddRequest()
    with pytest.raises(MalformedRequest):
        decode(b'{"peerURLs":[1]}', MemberAddRequest)


def test_what_is_no_character_is_replaced() -> None:
    """Bytes that are not UTF-8 one by one, and lone surrogates."""
    assert decode(b'{"name":"\xff\xe2\x82k"}', AuthUserAddRequest).name == "\ufffd\ufffd\ufffdk"
    assert decode(b'{"name":"\\ud800\\ud83d\\ude00\xed\xa0\x80"}', AuthUserAddRequest).name == (
        "\ufffd\U0001f600\ufffd\ufffd\ufffd"
    )


def test_depth_is_bounded() -> None:
    """At a depth that nobody needs, and before the interpreter's own limit."""

    def nested(depth: int) -> bytes:
        return b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth

    fits = MAX_DEPTH // 2 - 1
    assert decode(nested(fits), TxnRequest).ByteSize() > 0
    TxnRequest.FromString(decode(nested(fits), TxnRequest).SerializeToString())
    for depth in (fits + 1, 10_000):
        with pytest.raises(MalformedRequest):
            decode(nested(depth), TxnRequest)


def test_large_content_with_escapes_is_read_by_the_fast_scanner() -> None:
    """There an escape in a number is overlooked, which etcd refuses."""
    filling = b'"x":"%b",' % (b"x" * EXACT_CHARACTERS)
    assert decode(b'{%b"key":"YQ=\\u003d","limit":"\\u0031"}' % filling, RangeRequest).limit == 1


@given(st.sampled_from(TYPES), st.binary())
def test_any_bytes_are_read_or_refused(kind: type[Message], content: bytes) -> None:
    """Nothing else is ever raised, and what is read can be written."""
    read_or_refused(content, kind)


@given(
    st.sampled_from(TYPES),
    st.recursive(
        SIMPLE_VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner)
    ),
)
def test_any_json_is_read_or_refused(kind: type[Message], value: object) -> None:
    """Values of any type under the names of fields."""
    read_or_refused(json.dumps(value).encode(), kind)


def test_deep_messages_of_every_kind_are_read_or_refused() -> None:
    """Random members under random names, deeper than hypothesis draws them."""
    random = Random(1)
    for _ in range(500):
        depth = random.randrange(1, 300)
        opening = "".join(f'{{"{random.choice(NAMES)}":' + "[" * random.randrange(2) for _ in range(depth))
        read_or_refused(opening.encode(), random.choice(TYPES))


def read_or_refused(content: bytes, kind: type[Message]) -> None:
    try:
        message = decode(content, kind)
    except MalformedRequest:
        return
    assert decode(encode(message), kind) == message


def test_a_large_value_is_read() -> None:
    """The largest that a store takes."""
    message = PutRequest(key=b"k", value=bytes(range(256)) * 6144)
    assert decode(encode(message), PutRequest) == message
