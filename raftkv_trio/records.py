"""Immutable records that are made by the thousand: frozen for the type checker, plain at run time.

A frozen dataclass sets each field through `object.__setattr__`, which makes it four times as slow to create
as a plain one. A NamedTuple is fast, but it is also a tuple, and a field called `index` or `count` hides a
method of that. Records that are made rarely are frozen dataclasses instead.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A slotted dataclass that compares and hashes by value; mypy refuses to assign to its fields."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
