"""The command: `python -m benchmarks`, in the root of the repository."""

import argparse
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from benchmarks.environment import describe
from benchmarks.outputs import check_directory, outputs_of
from benchmarks.parts import PARTS
from benchmarks.plan import Plan, full_plan, quick_plan
from benchmarks.processes import BenchmarkError, ending_children
from benchmarks.run import Run
from benchmarks.table import as_markdown

#: What flags change in a full plan, and its values without them.
_FULL_PLAN = {"rounds": 3, "seconds": 5, "keys": 1_000_000, "limit": 4 * 3600}


class _OutOfTimeError(Exception):
    """The run has taken too long."""


def main() -> int:
    """Measure, print the table, and write what flags ask for.

    Returns 1 if a part has failed, or an output; what is missing is no failure. Returns 2, before anything is
    measured, if flags do not fit together, or name what cannot be written.
    """
    arguments = _arguments()
    parts = list(dict.fromkeys(arguments.only or PARTS))
    outputs = outputs_of(arguments.json, arguments.plots, writes_docs=arguments.write_docs)
    try:
        plan = _plan(arguments)
        outputs.check(parts)
        if arguments.directory is not None:
            check_directory("--directory", arguments.directory)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(plan.limit_s)
    with TemporaryDirectory(prefix="raftkv-trio-benchmarks-", dir=arguments.directory) as directory:
        environment = describe(Path(directory))
        run = Run(plan, parts, Path(directory))
        try:
            with ending_children():
                run.carry_out()
        except _OutOfTimeError as error:
            run.cut_short(str(error))
    signal.alarm(0)
    failures = outputs.write(environment, run.measured, plan.rounds)
    try:
        print(as_markdown(environment, run.measured), end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        failures.append("the table: nobody reads it")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures or any(figures.failed for figures in run.measured.values()) else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """Raises BenchmarkError for what a plan has no use for."""
    given = {name: value for name in _FULL_PLAN if (value := getattr(arguments, name)) is not None}
    if not arguments.quick:
        chosen = {**_FULL_PLAN, **given}
        return full_plan(
            rounds=chosen["rounds"], seconds=chosen["seconds"], keys=chosen["keys"], limit_s=chosen["limit"]
        )
    if given:
        raise BenchmarkError(f"--{next(iter(given))} does not apply to --quick; leave out one of them")
    if arguments.write_docs:
        raise BenchmarkError("--write-docs does not apply to --quick, whose figures say nothing")
    return quick_plan()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test of under 30 s; its figures say nothing"
    )
    parser.add_argument(
        "--only", action="append", choices=tuple(PARTS), help="measure this part; repeat it for several"
    )
    for name, text in (
        ("rounds", "rounds of each load"),
        ("seconds", "of each load"),
        ("keys", "the largest state"),
        ("limit", "seconds, for all"),
    ):
        parser.add_argument(
            f"--{name}", type=_positive, metavar="N", help=f"{text} [{_FULL_PLAN[name]}]; not with --quick"
        )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds there, as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write SVG files there")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write tables and plots of what is measured into docs/performance.md",
    )
    parser.add_argument("--directory", type=Path, help="on the disk to measure [that of temporary files]")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it must be a whole number from 1 on")
    return int(text)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # which ends all processes on its way


def _too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise _OutOfTimeError("it took too long; --limit allows more")


if __name__ == "__main__":
    sys.exit(main())
