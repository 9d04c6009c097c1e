"""A schedule as text (JSON): it can be kept, and keeps its meaning if later versions draw differently.

One line for each field and each fault, after the level and the planted bug of its run. Fields with their
default values are left out; enums are written by name.
"""

import json
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, NoReturn, cast, get_args, get_origin, get_type_hints

from raftkv_trio.testing.schedules.schedule import LOWEST, Schedule


@dataclass(frozen=True, slots=True)
class Kept:
    """A schedule, and how it was run.

    Attributes:
        level: None if the text does not tell; old texts do not, and were mostly run at level 1.
        planted: name of the planted bug; None: none.
    """

    schedule: Schedule
    level: int | None = None
    planted: str | None = None


def encode_kept(kept: Kept) -> str:
    """The text of a kept schedule, with a newline at its end."""
    run_with = {"level": kept.level, "planted": kept.planted}
    named = {name: value for name, value in run_with.items() if value is not None}
    lines = []
    for name, value in {**named, **_plain(kept.schedule)}.items():
        each = ",\n  ".join([json.dumps(item) for item in value]) if name == "faults" else ""
        lines.append(f' "{name}": ' + (f"[\n  {each}\n ]" if each else json.dumps(value)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def decode_kept(text: str) -> Kept:
    """Parse the text of `encode_kept`; raises ValueError with a text of one sentence."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("this is no schedule: it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("this is no schedule: it is no JSON object")
    level = _typed(int | None, value.pop("level", None), "level")
    planted = _typed(str | None, value.pop("planted", None), "planted")
    schedule = _typed(Schedule, value, "the schedule")
    assert isinstance(schedule, Schedule)
    for name, lowest in LOWEST.items():
        if getattr(schedule, name) < lowest:
            raise ValueError(f"{name} is {getattr(schedule, name)}; it must be at least {lowest}")
    return Kept(schedule, level, planted)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of a schedule")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = [(f, getattr(value, f.name)) for f in fields(value)]
        return {f.name: _plain(v) for f, v in named if f.default is MISSING or v != f.default}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A value of type `kind`; raises ValueError with the position `where` if it has another type."""
    if get_origin(kind) is UnionType:
        (inner,) = [k for k in get_args(kind) if k is not NoneType]
        return None if value is None else _typed(inner, value, where)
    if get_origin(kind) is tuple:
        return _typed_tuple(get_args(kind), value, where)
    if is_dataclass(kind):
        return _typed_fields(cast("type[Any]", kind), value, where)
    if issubclass(kind, Enum):
        if not isinstance(value, str) or value not in kind.__members__:
            raise ValueError(f"{where} is {value!r}; it must be one of {', '.join(kind.__members__)}")
        return kind[value]
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} is {value!r}, which is no {kind.__name__}")
    return value


def _typed_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is {value!r}, which is no list")
    if kinds[1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{where} has {len(value)} items; it must have {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple([_typed(kind, item, f"{where}[{position}]") for position, (kind, item) in pairs])


def _typed_fields(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}, which is no JSON object")
    hints = get_type_hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown:
        raise ValueError(f"{where} has unknown fields: {', '.join(map(repr, unknown))}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    lacking = [name for name in needed if name not in value]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    return kind(**{name: _typed(hints[name], item, name) for name, item in value.items()})
