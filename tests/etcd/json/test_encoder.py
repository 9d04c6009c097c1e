"""What is written is what etcd's gateway writes, for every type of message."""

import json
from random import Random

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from raftkv_trio.etcd.json import decode, encode, quoted
from raftkv_trio.schema.kv_pb2 import Event, KeyValue
from raftkv_trio.schema.rpc_pb2 import (
    AlarmMember,
    Compare,
    HashResponse,
    RangeResponse,
    ResponseHeader,
    ResponseOp,
    TxnResponse,
)
from tests.etcd.json.messages import TYPES, filled

HTML = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def by_protobuf(message: Message) -> bytes:
    """A message's JSON by protobuf's own code, with what Go escapes."""
    values = MessageToDict(message, preserving_proto_field_name=True)
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return text.replace("\\b", "\\u0008").replace("\\f", "\\u000c").translate(HTML).encode()


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_each_type_is_written_as_by_protobuf(kind: type[Message]) -> None:
    """Protobuf's own code is the same thing made slowly."""
    for seed in range(40):
        message = filled(kind, Random(seed))
        assert encode(message) == by_protobuf(message)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_what_is_written_can_be_read(kind: type[Message]) -> None:
    """Every message comes back as it was."""
    for seed in range(40):
        message = filled(kind, Random(seed))
        assert decode(encode(message), kind) == message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (RangeResponse(), b"{}"),
        (RangeResponse(header=ResponseHeader()), b'{"header":{}}'),
        (
            ResponseHeader(cluster_id=2**64 - 1, revision=-1),
            b'{"cluster_id":"18446744073709551615","revision":"-1"}',
        ),
        (HashResponse(hash=2**32 - 1), b'{"hash":4294967295}'),
        (KeyValue(key=b"a", value=b"\xff\xfe"), b'{"key":"YQ==","value":"//4="}'),
        (Event(type=Event.PUT), b"{}"),
        (Event(type=Event.DELETE), b'{"type":"DELETE"}'),
        (AlarmMember(alarm=7), b'{"alarm":7}'),  # type: ignore[arg-type]  # etcd writes unknown numbers so
        (Compare(version=0), b'{"version":"0"}'),
        (Compare(range_end=b"b", value=b""), b'{"value":"","range_end":"Yg=="}'),
        (TxnResponse(succeeded=True, responses=[ResponseOp()]), b'{"succeeded":true,"responses":[{}]}'),
    ],
)
def test_the_form_of_values(message: Message, expected: bytes) -> None:
    """Zero is left out, an empty message that is set is not, and 64 bits stand in quotes."""
    assert encode(message) == expected


def test_strings_are_escaped_as_by_go() -> None:
    """Measured with etcd 3.4.23, which was asked for a user of this name."""
    name = '<a>&\u2028\b\f\x01\x7f\xe9\ufffd"\\/'
    assert quoted(name) == '"\\u003ca\\u003e\\u0026\\u2028\\u0008\\u000c\\u0001\x7fé\ufffd\\"\\\\/"'
