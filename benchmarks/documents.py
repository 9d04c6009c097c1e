"""Puts a run into docs/performance.md, between two markers, with its plots beside it."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.plot import TITLES, plots
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.table import sections

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- figures, written by benchmarks/documents.py -->"
END = "<!-- end of figures -->"
_PLOTS = "plots"  # beside the page


def write_docs(environment: Mapping[str, str], figures: Figures, rounds: int, page: Path = PAGE) -> None:
    """Replace what stands between the markers of the page, and the plots.

    Raises BenchmarkError if the page has not both markers, once each; then nothing is written.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise BenchmarkError(f"{page} has not the two markers, in their order and once each: {BEGIN} {END}")
    drawn = plots(figures)
    directory = page.parent / _PLOTS
    directory.mkdir(exist_ok=True)
    for name in TITLES:
        (directory / name).unlink(missing_ok=True)  # a plot of another run would stay otherwise
    for name, svg in drawn.items():
        (directory / name).write_text(svg)
    parts = [
        BEGIN,
        f"Measured on {date.today().isoformat()}.",
        *sections(environment, figures, rounds, "###"),
    ]
    parts += [f"![{TITLES[name]}]({_PLOTS}/{name})" for name in drawn]
    page.write_text(before + "\n\n".join([*parts, END]) + after)
