"""Puts a run into docs/performance.md: each part between markers of its own, the plots beside the page.

So a run of some parts (`--only`) leaves the figures of the others as they are. Each part says when and where
it was measured.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.parts import PARTS
from benchmarks.plot import TITLES, plots
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.table import sections

PAGE = ROOT / "docs" / "performance.md"
PLOTS = "plots"  # beside the page
_PLOTTED = "growth"


def begin(part: str) -> str:
    """The line before the figures of a part."""
    return f"<!-- figures of {part}, written by benchmarks/documents.py -->"


def end(part: str) -> str:
    """The line after them."""
    return f"<!-- end of figures of {part} -->"


def check_markers(parts: Iterable[str], page: Path = PAGE) -> None:
    """Raise BenchmarkError if the page has not both markers of one of these parts, once each; or OSError."""
    _check(parts, page.read_text(), page)


def write_docs(environment: Mapping[str, str], measured: Mapping[str, Figures], page: Path = PAGE) -> None:
    """Replace what stands between the markers of each part that has figures, and the plots of such a part.

    Raises BenchmarkError if the page has not the markers; then nothing is written. Raises OSError.
    """
    parts = {part: figures for part, figures in measured.items() if any(figures)}
    text = page.read_text()
    _check(parts, text, page)
    for part, figures in parts.items():
        content = [
            f"### {PARTS[part]}",
            f"Measured on {date.today().isoformat()}. {_rounds(figures)}",
            *sections({part: figures}, "####"),
        ]
        if part == _PLOTTED:
            content += _write_plots(figures, page.parent / PLOTS)
        content.append(f"Environment: {'; '.join(f'{name}: {said}' for name, said in environment.items())}.")
        between = "\n\n".join([begin(part), *content, end(part)])
        before, _, rest = text.partition(begin(part))
        text = before + between + rest.partition(end(part))[2]
    page.write_text(text)


def _check(parts: Iterable[str], text: str, page: Path) -> None:
    for part in parts:
        found = re.findall(f"{re.escape(begin(part))}|{re.escape(end(part))}", text)
        if found != [begin(part), end(part)]:
            raise BenchmarkError(
                f"{page} needs these two markers, in this order and once each: {begin(part)} {end(part)}"
            )


def _rounds(figures: Figures) -> str:
    rounds = max(len(values) for figure in figures for values in figure.rounds.values())
    return f"All values are medians of {rounds:,} rounds." if rounds > 1 else "Each value is of one round."


def _write_plots(figures: Figures, directory: Path) -> list[str]:
    """Replace all plots; returns a line for each, for the page."""
    drawn = plots(figures)
    directory.mkdir(exist_ok=True)
    for name in TITLES:
        (directory / name).unlink(missing_ok=True)  # a plot of another run would stay otherwise
    for name, svg in drawn.items():
        (directory / name).write_text(svg)
    return [f"![{TITLES[name]}]({PLOTS}/{name})" for name in drawn]
