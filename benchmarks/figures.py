"""What was measured: figures by name, contestant and parameters, one value for each round."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(slots=True)
class Figure:
    """One thing that was measured.

    Attributes:
        what: the measurement, such as `get`.
        contestant: of whom.
        parameters: under which conditions, such as `clients`.
        rounds: by the name of a value, with its unit, what each round gave.
    """

    what: str
    contestant: str
    parameters: Mapping[str, int]
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, value: str) -> float | None:
        """Over all rounds; None if there is none."""
        return median(self.rounds[value]) if self.rounds.get(value) else None


class Figures:
    """All figures of one part of a run, and what is missing in it."""

    def __init__(self) -> None:
        self._figures: dict[tuple[Any, ...], Figure] = {}
        #: Why something has no figures, by its name: a program that is not installed, or a failure.
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def add(self, what: str, contestant: str, parameters: Mapping[str, int], **values: float) -> None:
        """Add the values of one round."""
        key = (what, contestant, *sorted(parameters.items()))
        figure = self._figures.setdefault(key, Figure(what, contestant, parameters))
        for name, value in values.items():
            figure.rounds.setdefault(name, []).append(value)

    def median(self, what: str, contestant: str, value: str, **parameters: int) -> float | None:
        """The median of a value, in the first figure that has these parameters; None if there is none."""
        for figure in self:
            if (figure.what, figure.contestant) == (what, contestant) and (
                parameters.items() <= figure.parameters.items()
            ):
                return figure.median(value)
        return None

    def largest(self, what: str, contestant: str, value: str) -> float | None:
        """The largest value of any round."""
        values = [
            v for f in self if (f.what, f.contestant) == (what, contestant) for v in f.rounds.get(value, ())
        ]
        return max(values, default=None)

    def as_documents(self) -> list[dict[str, Any]]:
        """For JSON: each figure with the values of all rounds and their medians."""
        return [
            {
                "what": figure.what,
                "contestant": figure.contestant,
                "parameters": dict(figure.parameters),
                "medians": {name: figure.median(name) for name in figure.rounds},
                "rounds": figure.rounds,
            }
            for figure in self
        ]
