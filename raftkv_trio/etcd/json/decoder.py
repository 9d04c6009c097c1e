"""JSON to messages, with what etcd's gateway takes and refuses.

- Names are those of the `.proto` file or their camel case form; the latter counts if both are there. Members
  of other names are ignored.
- `null` is a field that is not set. Numbers may stand in quotes, enums are names or numbers.
- Bytes are padded base64 of the standard alphabet, in which line breaks are ignored, or a list of numbers.

Where etcd itself ends with a panic, at `null` in a list of messages, the request is refused.
"""

import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.etcd.json.text import NegativeZero, parse, without_surrogates

MessageT = TypeVar("MessageT", bound=Message)
#: From a value of the JSON, which is not None, to one of a field; raises MalformedRequest.
Reader = Callable[[Any], Any]
#: Puts a value of the JSON into a message that is at this depth.
Setter = Callable[[Message, Any, int], None]

#: Messages in messages; protobuf itself reads no more from bytes.
MAX_DEPTH = 100
#: The least and the greatest number of a type.
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_ZEROS: dict[int, Any] = {
    FieldDescriptor.TYPE_BYTES: b"",
    FieldDescriptor.TYPE_STRING: "",
    FieldDescriptor.TYPE_BOOL: False,
}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")

#: What sets the members of a type of message, by their names, each with the name that counts more.
_SETTERS: dict[type[Message], dict[str, tuple[Setter, str | None]]] = {}


def decode(content: bytes, kind: type[MessageT]) -> MessageT:
    """The message of a type in JSON; an empty one for empty content or `null`.

    Raises MalformedRequest with a sentence that says what is wrong.
    """
    message = kind()
    value = parse(content)
    if value is not None:
        _fill(message, value, 1)
    return message


def _fill(message: Message, value: Any, depth: int) -> None:
    if value.__class__ is not dict:
        raise MalformedRequest(f"{message.DESCRIPTOR.name} must be a JSON object")
    if depth > MAX_DEPTH:
        raise MalformedRequest(f"messages are nested more than {MAX_DEPTH} deep")
    setters = _SETTERS.get(message.__class__)
    if setters is None:
        setters = _SETTERS[message.__class__] = _setters_of(message.DESCRIPTOR.fields)
    for name, member in value.items():
        found = setters.get(name)
        if found is not None:
            set_member, better_name = found
            if better_name is None or better_name not in value:
                set_member(message, member, depth)


def _setters_of(fields: Iterable[Any]) -> dict[str, tuple[Setter, str | None]]:
    setters: dict[str, tuple[Setter, str | None]] = {}
    for field in fields:
        setter = _setter_of(field)
        setters[field.name] = setter, field.json_name if field.json_name != field.name else None
        setters[field.json_name] = setter, None
    return setters


def _setter_of(field: FieldDescriptor) -> Setter:
    name = field.name
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _messages_setter(name) if field.is_repeated else _message_setter(name)
    read, zero = _reader_of(field), _ZEROS.get(field.type, 0)
    if field.is_repeated:
        return _values_setter(name, read, zero)
    # In a oneof `null` chooses the member all the same.
    if field.containing_oneof is not None:
        return lambda message, value, depth: setattr(message, name, zero if value is None else read(value))

    def set_value(message: Message, value: Any, depth: int) -> None:
        if value is not None:
            setattr(message, name, read(value))

    return set_value


def _message_setter(name: str) -> Setter:
    def set_message(message: Message, value: Any, depth: int) -> None:
        if value is not None:
            inner = getattr(message, name)
            inner.SetInParent()  # it is set even if it stays empty
            _fill(inner, value, depth + 1)

    return set_message


def _messages_setter(name: str) -> Setter:
    def set_messages(message: Message, values: Any, depth: int) -> None:
        messages = getattr(message, name)
        for value in _list_in(name, values):
            _fill(messages.add(), value, depth + 1)

    return set_messages


def _values_setter(name: str, read: Reader, zero: Any) -> Setter:
    def set_values(message: Message, values: Any, depth: int) -> None:
        read_values = [zero if value is None else read(value) for value in _list_in(name, values)]
        getattr(message, name)[:] = read_values

    return set_values


def _list_in(name: str, values: Any) -> list[Any]:
    if values is None:
        return []
    if values.__class__ is not list:
        raise MalformedRequest(f"{name} must be a list")
    return values


# ---------------------------------------------------------------- one value


def _reader_of(field: FieldDescriptor) -> Reader:
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return _bytes_reader(field.name)
        case FieldDescriptor.TYPE_STRING:
            return _string_reader(field.name)
        case FieldDescriptor.TYPE_BOOL:
            return _bool_reader(field.name)
        case FieldDescriptor.TYPE_ENUM if field.enum_type is not None:
            numbers = {value.name: value.number for value in field.enum_type.values}
            return _enum_reader(field.name, numbers)
    if field.type in _INTEGERS:
        return _integer_reader(field.name, *_INTEGERS[field.type])
    raise TypeError(f"{field.full_name}: etcd's messages have no field of this type")


def _integer_reader(name: str, low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        number = _integer_in(value) if value.__class__ is str else value
        if number.__class__ is int and low <= number <= high:
            return number
        if low < 0 and number.__class__ is NegativeZero:
            return 0
        raise MalformedRequest(f"{name} must be a whole number from {low} to {high}, with or without quotes")

    return read


def _integer_in(text: str) -> int | None:
    """The number in a string, as JSON allows it; None for anything else."""
    try:
        number = int(text)
        if str(number) == text:  # else Python takes more than JSON: `+1`, `1_0`, `01`
            return number
    except ValueError:
        pass
    text = text.strip(" ")  # the other spaces of JSON cannot stand in a string
    if text == "null":
        return 0
    if text == "-0":
        return NegativeZero()
    return int(text) if _INTEGER.fullmatch(text) else None


def _enum_reader(name: str, numbers: dict[str, int]) -> Reader:
    low, high = _INTEGERS[FieldDescriptor.TYPE_INT32]

    def read(value: Any) -> int:
        if value.__class__ is str and value in numbers:
            return numbers[value]
        if value.__class__ is int and low <= value <= high:
            return value
        if value.__class__ is NegativeZero:
            return 0
        raise MalformedRequest(f"{name} must be one of {', '.join(numbers)}, or a number")

    return read


def _bool_reader(name: str) -> Reader:
    def read(value: Any) -> bool:
        if value.__class__ is bool:
            return value
        raise MalformedRequest(f"{name} must be true or false")

    return read


def _string_reader(name: str) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, str):
            return without_surrogates(value)
        raise MalformedRequest(f"{name} must be a string")

    return read


def _bytes_reader(name: str) -> Reader:
    def read(value: Any) -> bytes:
        if isinstance(value, str):
            decoded = _from_base64(value)
            if decoded is None and ("\n" in value or "\r" in value):
                decoded = _from_base64(value.replace("\n", "").replace("\r", ""))
            if decoded is not None:
                return decoded
        elif value.__class__ is list and all(number is None or number.__class__ is int for number in value):
            try:
                return bytes([number or 0 for number in value])
            except ValueError:
                pass
        raise MalformedRequest(f"{name} must be in padded base64 of the standard alphabet")

    return read


def _from_base64(text: str) -> bytes | None:
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    # Python takes padding after a group that needs none, some versions even in strict mode.
    padding = 2 if text.endswith("==") else 1 if text.endswith("=") else 0
    return decoded if 4 * len(decoded) == 3 * len(text) - 4 * padding else None
