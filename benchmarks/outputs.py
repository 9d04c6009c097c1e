"""Where a run goes besides the terminal: looked at before anything is measured, written when all is."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.documents import PAGE, PLOTS, check_markers, write_docs
from benchmarks.figures import Figures
from benchmarks.plot import plots
from benchmarks.processes import BenchmarkError
from benchmarks.table import as_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What is written; None is not.

    Attributes:
        json: a file for all rounds.
        plots: a directory for SVG files, which is made if it is missing.
        page: the page that gets tables and plots, between markers.
    """

    json: Path | None
    plots: Path | None
    page: Path | None

    def check(self, parts: Iterable[str]) -> None:
        """Raise BenchmarkError if one of them cannot be written, as far as that can be known before."""
        if self.json is not None:
            _check_file("--json", self.json)
        if self.plots is not None:
            _check_new_directory("--plots", self.plots)
        if self.page is not None:
            _check_file("--write-docs", self.page)
            _check_new_directory("--write-docs", self.page.parent / PLOTS)
            try:
                check_markers(parts, self.page)
            except OSError as error:
                raise BenchmarkError(f"--write-docs {self.page}: {error.strerror}") from error

    def write(
        self, environment: Mapping[str, str], measured: Mapping[str, Figures], rounds: int
    ) -> list[str]:
        """Write each of them, though another one fails. Returns a sentence for each one that failed."""
        writes: dict[str, Callable[[], None]] = {}
        if self.json is not None:
            writes[f"--json {self.json}"] = partial(_write_json, environment, measured, rounds, self.json)
        if self.plots is not None:
            writes[f"--plots {self.plots}"] = partial(_write_plots, measured, self.plots)
        if self.page is not None:
            writes[f"--write-docs {self.page}"] = partial(write_docs, environment, measured, self.page)
        failures = []
        for what, write in writes.items():
            try:
                write()
            except OSError as error:
                failures.append(f"{what}: {error.strerror}")
            except BenchmarkError as error:
                failures.append(f"{what}: {error}")
        return failures


def outputs_of(json: Path | None, plots: Path | None, *, writes_docs: bool) -> Outputs:
    """The outputs that flags ask for."""
    return Outputs(json=json, plots=plots, page=PAGE if writes_docs else None)


def check_directory(flag: str, path: Path) -> None:
    """Raise BenchmarkError if this is no directory that files can be made in."""
    if not path.is_dir():
        raise BenchmarkError(f"{flag} {path}: there is no such directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise BenchmarkError(f"{flag} {path}: this directory cannot be written to")


def _check_file(flag: str, path: Path) -> None:
    if path.is_dir():
        raise BenchmarkError(f"{flag} {path}: this is a directory, not a file")
    if not path.parent.is_dir():
        raise BenchmarkError(f"{flag} {path}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BenchmarkError(f"{flag} {path}: this file cannot be written")


def _check_new_directory(flag: str, path: Path) -> None:
    """It is made with its parents, if need be."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise BenchmarkError(f"{flag} {path}: {nearest} is a file, not a directory")
    check_directory(flag, nearest)


def _write_json(
    environment: Mapping[str, str], measured: Mapping[str, Figures], rounds: int, file: Path
) -> None:
    file.write_text(as_json(environment, measured, rounds))


def _write_plots(measured: Mapping[str, Figures], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for figures in measured.values():
        for name, svg in plots(figures).items():
            (directory / name).write_text(svg)
