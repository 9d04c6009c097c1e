"""Plots as SVG, by hand: lines through points, on a logarithmic axis from left to right."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from benchmarks.bends import curves
from benchmarks.figures import Figure, Figures

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 400, 76, 56, 64, 32
_COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#9a6700")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.g{stroke:#d0d7de}.p{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.g{stroke:#3d444d}.p{fill:#0d1117}}"
)
Points = Sequence[tuple[float, float]]


_LATENCY, _KEYS = "latency-throughput.svg", "throughput-keys.svg"
#: By file name.
TITLES = {
    _LATENCY: "Latency against throughput, 3 nodes, 1 to 256 clients",
    _KEYS: "Throughput against the size of the state, 3 nodes, 64 clients",
}


def plots(figures: Figures) -> dict[str, str]:
    """All plots for which there are points, by file name."""
    found = {
        _LATENCY: draw(
            TITLES[_LATENCY],
            ("requests per second", "median latency, ms"),
            # Not by the rate: a line that turns back shows where more clients get less.
            _lines(figures, "clients", lambda f: (f.median("rate_per_s") or 0.1, f.median("p50_ms") or 0.0)),
        ),
        _KEYS: draw(
            TITLES[_KEYS],
            ("keys in the store", "requests per second"),
            _lines(figures, "keys", lambda f: (f.parameters["keys"], f.median("rate_per_s") or 0.0)),
        ),
    }
    return {name: svg for name, svg in found.items() if svg is not None}


def _lines(
    figures: Figures, growing: str, point: Callable[[Figure], tuple[float, float]]
) -> dict[str, Points]:
    """By operation."""
    chosen = [curve for curve in curves(figures) if curve.growing == growing]
    return {curve.operation.upper(): [point(figure) for figure in curve.figures] for curve in chosen}


def draw(title: str, axes: tuple[str, str], lines: Mapping[str, Points]) -> str | None:
    """An SVG of these lines, through their points in order; None if no line has two. All are positive."""
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    xs = [math.log10(x) for points in lines.values() for x, _ in points]
    left, right = min(xs), max(max(xs), min(xs) + 0.1)
    top = _round_up(max(y for points in lines.values() for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / (right - left)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _BOTTOM - _TOP),
        )

    parts = [_text(_WIDTH / 2, 22, title, "middle"), _text(_WIDTH / 2, _HEIGHT - 12, axes[0], "middle")]
    parts.append(_text(12, _TOP - 8, axes[1], "start"))
    for step in range(5):
        _, y = at(10**left, top * step / 4)
        parts.append(f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{top * step / 4:,g}", "end"))
    ticks = _ticks(left, right)
    parts += [_text(at(x, 0)[0], _HEIGHT - _BOTTOM + 18, f"{x:,g}", "middle") for x in ticks]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        where = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in where]
        beside = _WIDTH - _RIGHT - 60 * number
        parts.append(f'<circle cx="{beside - 44}" cy="{_TOP - 13}" r="4" fill="{colour}"/>')
        parts.append(_text(beside, _TOP - 8, name, "end"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
    background = f'<rect class="p" width="{_WIDTH}" height="{_HEIGHT}"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", background, *parts, "</svg>", ""])


def _ticks(left: float, right: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there are few."""
    steps = (1, 2, 5) if right - left < 3 else (1,)
    powers = range(math.floor(left), math.ceil(right) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if left - 1e-9 <= math.log10(tick) <= right + 1e-9]


def _round_up(value: float) -> float:
    """The next number of one or two digits that an axis may end with."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= value)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
