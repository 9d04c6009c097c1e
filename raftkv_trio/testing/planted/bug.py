"""What a planted bug is, and how it enters the program."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A mutation of the program.

    Attributes:
        does: what the program then does wrong, for the reader.
        plant: while its context lasts, the program has the bug.
        level: the lowest level of the simulator that runs the changed code.
    """

    name: str
    does: str
    plant: Callable[[], AbstractContextManager[None]]
    level: int = 1


@contextmanager
def replaced(owner: object, name: str, replacement: object) -> Iterator[None]:
    """Replace an attribute of a module or class while the context lasts."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def bug(
    bugs: list[PlantedBug], name: str, does: str, owner: object, attribute: str, *, level: int = 1
) -> Callable[[Callable[[Any], object]], None]:
    """Add a bug to `bugs`: the decorated function makes the replacement from the original attribute."""

    def add(make: Callable[[Any], object]) -> None:
        def plant() -> AbstractContextManager[None]:
            return replaced(owner, attribute, make(getattr(owner, attribute)))

        bugs.append(PlantedBug(name, does, plant, level))

    return add
