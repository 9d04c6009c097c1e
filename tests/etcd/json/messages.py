"""All message types of the schema, and messages of them filled by chance."""

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from raftkv_trio.schema import auth_pb2, kv_pb2, rpc_pb2, v3election_pb2, v3lock_pb2

MODULES = (auth_pb2, kv_pb2, rpc_pb2, v3election_pb2, v3lock_pb2)
TYPES: list[type[Message]] = [
    getattr(module, name) for module in MODULES for name in module.DESCRIPTOR.message_types_by_name
]
TEXTS = [
    "",
    "a",
    "<a href='x'>&",
    "\u2028\u2029",
    '"\\/',
    "\x00\b\t\n\f\r\x1f\x7f",
    "é",
    "\U0001f600",
    "\ufffd",
]
LIMITS = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
}


def filled(kind: type[Message], random: Random, depth: int = 0) -> Message:
    """A message of which each field is set with a chance of two thirds."""
    message = kind()
    fill(message, random, depth)
    return message


def fill(message: Message, random: Random, depth: int) -> None:
    """See `filled`."""
    for field in message.DESCRIPTOR.fields:
        if random.random() < 1 / 3 or (field.message_type and depth > 4):
            continue
        count = random.randrange(4) if field.is_repeated else 1
        if field.message_type is None:
            values = [_value(field, random) for _ in range(count)]
            if field.is_repeated:
                getattr(message, field.name).extend(values)
            else:
                setattr(message, field.name, values[0])
        elif field.is_repeated:
            for _ in range(count):
                fill(getattr(message, field.name).add(), random, depth + 1)
        else:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, random, depth + 1)


def _value(field: Any, random: Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.randrange(5))
        case FieldDescriptor.TYPE_STRING:
            return random.choice(TEXTS)
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_ENUM if field.enum_type is not None:
            return random.choice([*field.enum_type.values_by_number, 99, -1])
    low, high = LIMITS[field.type]
    return random.choice([0, 1, low, high, random.randint(low, high)])
