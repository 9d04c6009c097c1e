"""The command: `python -m benchmarks`, in the root of the repository."""

import argparse
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from benchmarks.documents import write_docs
from benchmarks.environment import describe
from benchmarks.figures import Figures
from benchmarks.plan import full_plan, quick_plan
from benchmarks.plot import plots
from benchmarks.processes import ending_children
from benchmarks.run import PARTS, Run
from benchmarks.table import as_json, as_markdown


class _OutOfTimeError(Exception):
    """The run has taken too long."""


def main() -> int:
    """Measure, and print the table. Returns 1 if a part has failed; one that is missing is no failure."""
    arguments = _arguments()
    if arguments.quick:
        plan = quick_plan()
    else:
        plan = full_plan(
            rounds=arguments.rounds, seconds=arguments.seconds, keys=arguments.keys, limit_s=arguments.limit
        )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(plan.limit_s)
    with TemporaryDirectory(prefix="raftkv-trio-benchmarks-", dir=arguments.directory) as directory:
        environment = describe(Path(directory))
        run = Run(plan, tuple(arguments.only or PARTS), Path(directory))
        try:
            with ending_children():
                run.carry_out()
        except _OutOfTimeError as error:
            run.figures.failed["the whole run"] = str(error)
    signal.alarm(0)
    _show(arguments, environment, run.figures, plan.rounds)
    return 1 if run.figures.failed else 0


def _show(arguments: argparse.Namespace, environment: dict[str, str], figures: Figures, rounds: int) -> None:
    print(as_markdown(environment, figures, rounds), end="")
    if arguments.json is not None:
        arguments.json.write_text(as_json(environment, figures, rounds))
    if arguments.plots is not None:
        arguments.plots.mkdir(parents=True, exist_ok=True)
        for name, svg in plots(figures).items():
            (arguments.plots / name).write_text(svg)
    if arguments.write_docs:
        write_docs(environment, figures, rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test of under 30 s; its figures say nothing"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; repeat it for several"
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds of each load [%(default)s]")
    parser.add_argument("--seconds", type=_positive, default=5, help="of each load [%(default)s]")
    parser.add_argument("--keys", type=_positive, default=1_000_000, help="the largest state [%(default)s]")
    parser.add_argument("--limit", type=_positive, default=4 * 3600, help="seconds, for all [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds there, as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write SVG files there")
    parser.add_argument(
        "--write-docs", action="store_true", help="write tables and plots into docs/performance.md"
    )
    parser.add_argument("--directory", type=Path, help="on the disk to measure [that of temporary files]")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # which ends all processes on its way


def _too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise _OutOfTimeError("it took too long; --limit allows more")


if __name__ == "__main__":
    sys.exit(main())
