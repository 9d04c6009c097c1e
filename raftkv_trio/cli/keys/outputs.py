"""Answers in the formats of etcdctl 3.4, byte for byte, and tables of our own."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from raftkv_trio.client.text import aligned
from raftkv_trio.schema import kv_pb2, rpc_pb2

FORMATS = ("simple", "fields", "json", "table")
Answer = (
    rpc_pb2.PutResponse
    | rpc_pb2.RangeResponse
    | rpc_pb2.DeleteRangeResponse
    | rpc_pb2.TxnResponse
    | rpc_pb2.CompactionResponse
    | rpc_pb2.WatchResponse
)


def as_json(answer: Message) -> bytes:
    """As Go's own JSON has etcd's messages: numbers as numbers, fields that are zero left out."""
    values = _watch_values(answer) if isinstance(answer, rpc_pb2.WatchResponse) else _values(answer)
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _watch_values(response: rpc_pb2.WatchResponse) -> dict[str, Any]:
    """The response as Go's client has it: no message of etcd's, so nothing is left out."""
    return {
        "Header": _values(response.header),
        "Events": [_values(event) for event in response.events],
        "CompactRevision": response.compact_revision,
        "Canceled": response.canceled,
        "Created": response.created,
    }


def _values(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None:
            if message.HasField(field.name):
                name = "".join(part.capitalize() for part in field.name.split("_"))
                values["Response"] = {name: _values(getattr(message, field.name))}
            continue
        value = getattr(message, field.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.is_repeated:
                if value:
                    values[field.name] = [_values(each) for each in value]
            elif message.HasField(field.name):
                values[field.name] = _values(value)
        elif field.is_repeated:
            if value:
                values[field.name] = list(value)
        elif value:
            is_bytes = field.type == FieldDescriptor.TYPE_BYTES
            values[field.name] = base64.b64encode(value).decode() if is_bytes else value
    return values


# ---------------------------------------------------------------- simple


def as_simple(answer: Answer, *, value_only: bool = False, count_only: bool = False) -> bytes:
    """Keys and values on lines of their own."""
    return b"".join(line + b"\n" for line in _simple_lines(answer, value_only, count_only))


def _simple_lines(answer: Answer, value_only: bool, count_only: bool) -> Iterator[bytes]:
    match answer:
        case rpc_pb2.PutResponse():
            yield b"OK"
            if answer.HasField("prev_kv"):
                yield from (answer.prev_kv.key, answer.prev_kv.value)
        case rpc_pb2.RangeResponse():
            if count_only:
                yield b"%d" % answer.count
            for each in answer.kvs:
                if not value_only:
                    yield each.key
                yield each.value
        case rpc_pb2.DeleteRangeResponse():
            yield b"%d" % answer.deleted
            for each in answer.prev_kvs:
                yield from (each.key, each.value)
        case rpc_pb2.TxnResponse():
            yield b"SUCCESS" if answer.succeeded else b"FAILURE"
            for inner in _inner(answer):
                yield b""
                yield from _simple_lines(inner, False, False)
        case rpc_pb2.WatchResponse():
            for event in answer.events:
                yield event_type(event).encode()
                if event.HasField("prev_kv"):
                    yield from (event.prev_kv.key, event.prev_kv.value)
                yield from (event.kv.key, event.kv.value)
        case _:
            pass


def event_type(event: kv_pb2.Event) -> str:
    """PUT or DELETE."""
    return kv_pb2.Event.EventType.Name(event.type)


def _inner(answer: rpc_pb2.TxnResponse) -> Iterator[Any]:
    for response in answer.responses:
        kind = response.WhichOneof("response")
        if kind is not None:
            yield getattr(response, kind)


# ---------------------------------------------------------------- fields


def as_fields(answer: Answer) -> bytes:
    """A line for each field, with strings as Go quotes them."""
    return b"".join(b'"%b" : %b\n' % (name.encode(), value) for name, value in _fields(answer))


def _fields(answer: Any) -> Iterator[tuple[str, bytes]]:
    header = answer.header
    for name, number in (
        ("ClusterID", header.cluster_id),
        ("MemberID", header.member_id),
        ("Revision", header.revision),
        ("RaftTerm", header.raft_term),
    ):
        yield name, b"%d" % number
    match answer:
        case rpc_pb2.PutResponse():
            if answer.HasField("prev_kv"):
                yield from _fields_of("Prev", answer.prev_kv)
        case rpc_pb2.RangeResponse():
            for each in answer.kvs:
                yield from _fields_of("", each)
            yield "More", b"true" if answer.more else b"false"
            yield "Count", b"%d" % answer.count
        case rpc_pb2.DeleteRangeResponse():
            yield "Deleted", b"%d" % answer.deleted
            for each in answer.prev_kvs:
                yield from _fields_of("Prev", each)
        case rpc_pb2.TxnResponse():
            yield "Succeeded", b"true" if answer.succeeded else b"false"
            for inner in _inner(answer):
                yield from _fields(inner)
        case rpc_pb2.WatchResponse():
            for event in answer.events:
                yield "Type", event_type(event).encode()
                if event.HasField("prev_kv"):
                    yield from _fields_of("Prev", event.prev_kv)
                yield from _fields_of("", event.kv)


def _fields_of(prefix: str, key_value: kv_pb2.KeyValue) -> Iterator[tuple[str, bytes]]:
    yield f"{prefix}Key", quoted(key_value.key)
    yield f"{prefix}CreateRevision", b"%d" % key_value.create_revision
    yield f"{prefix}ModRevision", b"%d" % key_value.mod_revision
    yield f"{prefix}Version", b"%d" % key_value.version
    yield f"{prefix}Value", quoted(key_value.value)
    yield f"{prefix}Lease", b"%d" % key_value.lease


_ESCAPES = dict(zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"', strict=True))


def quoted(content: bytes) -> bytes:
    """In double quotes, with Go's escapes for what cannot be printed."""
    return b'"%b"' % "".join(map(_escaped, content.decode("utf-8", "surrogateescape"))).encode()


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return "\\" + _ESCAPES[character]
    if character.isprintable():
        return character
    if 0xDC80 <= code < 0xDD00:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# ---------------------------------------------------------------- table


def as_table(answer: Answer, *, count_only: bool = False) -> bytes:
    """A row for each key-value, or what else there is; etcdctl has no such tables."""
    if not isinstance(answer, rpc_pb2.RangeResponse) or count_only:
        return as_simple(answer, count_only=count_only)
    return _table(answer.kvs)


def _table(key_values: Iterable[kv_pb2.KeyValue]) -> bytes:
    rows = [["KEY", "VALUE", "CREATED AT", "MODIFIED AT", "VERSION"]]
    for each in key_values:
        texts = [part.decode("utf-8", "backslashreplace") for part in (each.key, each.value)]
        numbers = [each.create_revision, each.mod_revision, each.version]
        rows.append([*texts, *map(str, numbers)])
    return aligned(rows).encode() + b"\n"


def rendered(answer: Answer, format: str, *, value_only: bool = False, count_only: bool = False) -> bytes:
    """An answer in one of `FORMATS`."""
    match format:
        case "json":
            return as_json(answer)
        case "fields":
            return as_fields(answer)
        case "table":
            return as_table(answer, count_only=count_only)
        case _:
            return as_simple(answer, value_only=value_only, count_only=count_only)
