"""A schedule as text (JSON): it can be kept, and means the same whatever later versions draw from its seed.

One line for each field and each fault. What has its default is left out; enums go by their names.
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from raftkv_trio.testing.schedule import Schedule


def encode_schedule(schedule: Schedule) -> str:
    lines = []
    for name, value in _plain(schedule).items():
        each = ",\n  ".join([json.dumps(item) for item in value]) if name == "faults" else ""
        lines.append(f' "{name}": ' + (f"[\n  {each}\n ]" if each else json.dumps(value)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def decode_schedule(text: str) -> Schedule:
    """What `encode_schedule` made; raises ValueError."""
    try:
        schedule = _typed(Schedule, json.loads(text))
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no schedule: {error}") from error
    assert isinstance(schedule, Schedule)
    return schedule


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = [(f, getattr(value, f.name)) for f in fields(value)]
        return {f.name: _plain(v) for f, v in named if f.default is MISSING or v != f.default}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def _typed(kind: Any, value: Any) -> Any:
    """A value of that type; raises TypeError, KeyError, ValueError where it is none."""
    if get_origin(kind) is UnionType:
        (inner,) = [k for k in get_args(kind) if k is not NoneType]
        return None if value is None else _typed(inner, value)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(value) if kinds[1] is ... else kinds
        return tuple([_typed(k, item) for k, item in zip(kinds, value, strict=True)])
    if is_dataclass(kind):
        hints, make = get_type_hints(kind), cast("type[Any]", kind)
        return make(**{name: _typed(hints[name], item) for name, item in value.items()})
    if issubclass(kind, Enum):
        return kind[value]
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
