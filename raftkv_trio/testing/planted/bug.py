"""What a planted bug is, and how it gets into the program."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A mutation: within `plant()` the program has it.

    Attributes:
        does: what the program does wrong, for the reader.
        level: of the simulator, the lowest that runs what is changed.
    """

    name: str
    does: str
    plant: Callable[[], AbstractContextManager[None]]
    level: int = 1


@contextmanager
def replaced(owner: object, name: str, replacement: object) -> Iterator[None]:
    """Let an attribute of a module or class be something else."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def bug(
    bugs: list[PlantedBug], name: str, does: str, owner: object, attribute: str, *, level: int = 1
) -> Callable[[Callable[[Any], object]], None]:
    """Add a bug: the decorated function makes the replacement of `attribute` from the original."""

    def add(make: Callable[[Any], object]) -> None:
        def plant() -> AbstractContextManager[None]:
            return replaced(owner, attribute, make(getattr(owner, attribute)))

        bugs.append(PlantedBug(name, does, plant, level))

    return add
