"""Where each curve of growth bends, and what was busy there: sentences, computed from the figures.

A curve over clients should rise, and bends where more clients get less than a tenth more. All others should
stay level, and bend where a fifth of the rate is lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure, Figures
from benchmarks.measurements import growth

OPERATIONS = ("get", "put")
#: What grows, and its other values while it does.
CURVES: Mapping[str, Mapping[str, int]] = {
    "keys": {"clients": 64, "value_bytes": 100, "nodes": 3},
    "clients": {"keys": 1000, "value_bytes": 100, "nodes": 3},
    "value_bytes": {"clients": growth.FEW_CLIENTS, "nodes": 3},
    "nodes": {"clients": 64, "keys": 1000, "value_bytes": 100},
}
_UNITS = {"keys": "keys", "clients": "clients", "value_bytes": "bytes", "nodes": "nodes"}
_MORE, _LESS = 1.1, 0.8
_WHOLE_CORE, _WHOLE_MACHINE = 0.85, 0.9


@dataclass(frozen=True, slots=True)
class Curve:
    """The figures of one operation while one thing grows, in its order."""

    growing: str
    operation: str
    figures: tuple[Figure, ...]


def curves(figures: Figures) -> Iterator[Curve]:
    """All that have a point at least."""
    for growing, fixed in CURVES.items():
        for operation in OPERATIONS:
            found = [
                figure
                for figure in figures
                if (figure.what, figure.contestant) == (operation, growth.NAME)
                and fixed.items() <= figure.parameters.items()
            ]
            # Larger values come with fewer keys: that many bytes would not fit into the state.
            found.sort(key=lambda figure: figure.parameters[growing])
            if found:
                yield Curve(growing, operation, tuple(found))


def bends(figures: Figures) -> list[str]:
    """A sentence for each curve that has two points."""
    return [_sentence(curve) for curve in curves(figures) if len(curve.figures) > 1]


def _sentence(curve: Curve) -> str:
    bend = _rising_bend(curve) if curve.growing == "clients" else _level_bend(curve)
    return f"{curve.operation.upper()} by {curve.growing.replace('_', ' ')}: {bend}."


def _rising_bend(curve: Curve) -> str:
    rates = [_rate(figure) for figure in curve.figures]
    at = next(i for i, rate in enumerate(rates) if max(rates[i:]) <= rate * _MORE)
    where = f"{_at(curve, at)} ({rates[at]:,.0f}/s)"
    if at == len(rates) - 1:
        return f"still rises at {where}; {_why(curve.figures[at])}"
    left = f"{rates[-1] / rates[at]:.0%} of that at {_at(curve, -1)}"
    return f"rises up to {where}, then by less than a tenth, {left}; {_why(curve.figures[at])}"


def _level_bend(curve: Curve) -> str:
    rates = [_rate(figure) for figure in curve.figures]
    left = f"{rates[-1] / rates[0]:.0%} of the first rate is left at {_at(curve, -1)}"
    at = next((i for i, rate in enumerate(rates) if rate < rates[0] * _LESS), None)
    if at is None:
        return f"level, {left}"
    return f"level up to {_at(curve, at - 1)}, falls at {_at(curve, at)}, {left}; {_why(curve.figures[at])}"


def _rate(figure: Figure) -> float:
    return figure.median("rate_per_s") or 0.0


def _at(curve: Curve, number: int) -> str:
    value, unit = curve.figures[number].parameters[curve.growing], _UNITS[curve.growing]
    return f"{value:,} {unit.removesuffix('s') if value == 1 else unit}"


def _why(figure: Figure) -> str:
    """What was busy at a point; the shares are those of the measured time."""
    leader, machine = figure.median("leader_cores"), figure.median("machine_share")
    if leader is None or machine is None:
        return "what was busy there was not measured"
    shares = f"{leader:.2f} of a core for the leader, {machine:.0%} of all cores"
    if leader >= _WHOLE_CORE:
        return f"there the leader's one thread of Python is busy ({shares})"
    if machine >= _WHOLE_MACHINE:
        return f"there all cores are busy, with the other nodes and the load generator ({shares})"
    if figure.what == "put":
        written = figure.median("written_bytes_per_s")
        rate = "" if written is None else f": {written / 1e6:.3g} MB/s are written by all nodes"
        return f"there the disk is waited for{rate} ({shares})"
    return f"there no processor is the limit ({shares})"
