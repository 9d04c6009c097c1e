"""Messages to JSON: names as in the `.proto` files, numbers of 64 bits in quotes, bytes in padded base64.

Fields at their zero value are left out. A message that is set is written even if it is empty, and so is a
member of a oneof.
"""

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Writer = Callable[[Any], str]

#: What Go escapes: what JSON demands, and what an HTML page or JavaScript would read as its own.
_ESCAPED = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}

#: The fields of a type of message: name, what writes name and value, and whether a zero may be set.
_FIELDS: dict[type[Message], list[tuple[str, Writer, bool]]] = {}


def encode(message: Message) -> bytes:
    """The JSON of a message, without spaces."""
    return _written(message).encode()


def quoted(text: str) -> str:
    """A string in JSON."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _written(message: Message) -> str:
    fields = _FIELDS.get(message.__class__)
    if fields is None:
        fields = _FIELDS[message.__class__] = _writers_of(message.DESCRIPTOR.fields)
    members = []
    for name, write, has_presence in fields:
        if has_presence:
            if message.HasField(name):
                members.append(write(getattr(message, name)))
        elif value := getattr(message, name):
            members.append(write(value))
    return "{" + ",".join(members) + "}"


def _writers_of(fields: Iterable[Any]) -> list[tuple[str, Writer, bool]]:
    writers: list[tuple[str, Writer, bool]] = []
    for field in fields:
        start, write = f'"{field.name}":', _writer_of(field)
        member = partial(_list, start, write) if field.is_repeated else _joined(start, write)
        writers.append((field.name, member, field.has_presence))
    return writers


def _writer_of(field: FieldDescriptor) -> Writer:
    """How one value of a field is written."""
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE:
            return _written
        case FieldDescriptor.TYPE_BYTES:
            return _base64
        case FieldDescriptor.TYPE_STRING:
            return quoted
        case FieldDescriptor.TYPE_BOOL:
            return _bool
        case FieldDescriptor.TYPE_ENUM if field.enum_type is not None:
            names = {value.number: f'"{value.name}"' for value in field.enum_type.values}
            return lambda number: names.get(number) or str(number)
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT64:
            return '"{}"'.format
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_UINT32:
            return str
    raise TypeError(f"{field.full_name}: etcd's messages have no field of this type")


def _joined(start: str, write: Writer) -> Writer:
    return lambda value: start + write(value)


def _list(start: str, write: Writer, values: Iterable[Any]) -> str:
    return f"{start}[{','.join([write(value) for value in values])}]"


def _base64(value: bytes) -> str:
    return f'"{b2a_base64(value, newline=False).decode()}"'


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"
