"""`raftkv-trio simulate`: whole clusters on virtual time, one for each seed, and the failures they find."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import click

from raftkv_trio.cli.shared_flags import integer_from
from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import check_new_file, new_file

if TYPE_CHECKING:
    from raftkv_trio.testing.campaign.campaign import Tally
    from raftkv_trio.testing.campaign.levels import Level
    from raftkv_trio.testing.campaign.seeds import Verdict
    from raftkv_trio.testing.schedules.schedule import Schedule
    from raftkv_trio.testing.schedules.schedule_text import Kept

Item = TypeVar("Item")

SHOWN_LINES = 40
_SOUND, _WRONG, _INTERRUPTED = 0, 1, 130
_count = integer_from(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the flags and the file of `--schedule` ask for."""

    level: int
    first: int
    count: int
    jobs: int
    only: str
    planted: str | None
    schedule: Path | None
    kept: "Kept | None"
    keep: Path | None
    trace: bool
    trace_file: Path | None
    shrink_runs: int


@click.command()
@click.option("--seeds", type=_count, help="Number of seeds.  [default: 100; 200 for each planted bug]")
@click.option("--from", "first", type=integer_from(0), default=0, show_default=True, help="First seed.")
@click.option("--seed", type=integer_from(0), help="Run this seed alone.")
@click.option(
    "--level", type=_count, help="1: core and log; 2: nodes with all tasks.  [default: 1, or the schedule's]"
)
@click.option("--jobs", type=_count, help="Number of processes.  [default: one per core]")
@click.option("--trace", is_flag=True, help="Print the whole trace of --seed or --schedule.")
@click.option(
    "--trace-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the whole trace of the reported run.",
)
@click.option(
    "--schedule", metavar="FILE", type=click.Path(path_type=Path), help="Run the schedule that --keep wrote."
)
@click.option(
    "--keep", metavar="FILE", type=click.Path(path_type=Path), help="Write the shrunk schedule of a failure."
)
@click.option(
    "--only", metavar="TEXT", default="", help="Run a part of the schedule, as a failure prints it."
)
@click.option(
    "--shrink",
    "shrink_runs",
    metavar="RUNS",
    type=integer_from(0),
    default=300,
    show_default=True,
    help="Largest number of runs to shrink a failing schedule.",
)
@click.option(
    "--planted", metavar="NAME", help="Plant a bug, or each of `all`, and print how many seeds find it."
)
def simulate(
    seeds: int | None,
    first: int,
    seed: int | None,
    level: int | None,
    jobs: int | None,
    schedule: Path | None,
    keep: Path | None,
    trace: bool,
    trace_file: Path | None,
    only: str,
    shrink_runs: int,
    planted: str | None,
) -> int:
    """Run simulated clusters under faults.

    Each seed gives one cluster and one schedule of faults; invariants are checked at every step. The exit
    code is 0 if no invariant broke, and 1 if one did or a planted bug was not found.
    """
    alone = "--seed" if schedule is None else "--schedule"
    is_one = seed is not None or schedule is not None
    if seed is not None and schedule is not None:
        raise ConfigError("--schedule and --seed exclude each other")
    if not is_one and (only or trace):
        raise ConfigError("--only and --trace need --seed or --schedule")
    if is_one and (seeds is not None or first or planted == "all"):
        raise ConfigError(f"{alone} excludes --seeds, --from and --planted all")
    if planted is not None and first:
        raise ConfigError("--planted begins at seed 0, so --from is not allowed")
    if planted is not None and not is_one and (keep is not None or trace_file is not None):
        raise ConfigError("--keep and --trace-file need --seed or --schedule if --planted is given")
    _check_writable(("--keep", keep), ("--trace-file", trace_file))
    kept = None if schedule is None else _read_kept(schedule)
    asked_level, planted = _asked_for(level, planted)
    if kept is not None and schedule is not None:
        asked_level, planted = _what_to_run(kept, schedule, level, planted)
    asked = _Asked(
        level=asked_level,
        first=first if seed is None else seed,
        count=seeds or (100 if planted is None else 200),
        jobs=jobs or len(os.sched_getaffinity(0)),
        only=only,
        planted=planted,
        schedule=schedule,
        kept=kept,
        keep=keep,
        trace=trace,
        trace_file=trace_file,
        shrink_runs=shrink_runs,
    )
    try:
        if is_one:
            return _one(asked)
        return _many(asked) if planted is None else _find_planted(asked)
    except KeyboardInterrupt:
        click.echo("raftkv-trio: interrupted; nothing is left running", err=True)
        return _INTERRUPTED


def _many(asked: _Asked) -> int:
    from raftkv_trio.testing.campaign.campaign import Tally, run_seeds

    tally, begun_at = Tally(), perf_counter()
    verdicts = run_seeds(asked.level, range(asked.first, asked.first + asked.count), asked.jobs)
    failed: Verdict | None = None
    with closing(verdicts):
        for verdict in _with_bar(verdicts, asked.count, "seeds"):
            tally.add(verdict)
            if verdict.failure is not None:
                failed = verdict
                break
    click.echo(_summary(tally, perf_counter() - begun_at))
    if failed is None:
        return _SOUND
    _explain(asked, failed)
    return _WRONG


def _one(asked: _Asked) -> int:
    from raftkv_trio.testing.campaign.campaign import Tally
    from raftkv_trio.testing.campaign.shrink import Reduction
    from raftkv_trio.testing.planted import PLANTED

    level = _level(asked)
    schedule = level.draw(asked.first) if asked.kept is None else asked.kept.schedule
    if asked.kept is not None:
        bug = f", with {asked.planted} planted" if asked.planted else ""
        click.echo(f"{asked.schedule}: seed {schedule.seed} at level {asked.level}{bug}", err=True)
    try:
        schedule = Reduction.parse(asked.only).of(schedule)
    except ValueError as error:
        raise ConfigError(f"--only {asked.only!r}: {error}") from error
    with nullcontext() if asked.planted is None else PLANTED[asked.planted].plant():
        begun_at, tally = perf_counter(), Tally()
        verdict = level.run(schedule, keep_trace=asked.trace or asked.trace_file is not None)
        tally.add(verdict)
        wall_s = perf_counter() - begun_at
        if asked.trace:
            click.echo("\n".join(verdict.trace or []))
        click.echo(_summary(tally, wall_s))
        if verdict.failure is None or asked.trace or asked.only:
            _write_trace(asked, verdict)
            if verdict.failure is not None:
                click.echo(f"seed {schedule.seed}: {verdict.text}")
                _keep(asked, schedule)
        else:
            _explain(asked, verdict)
    return _SOUND if verdict.failure is None else _WRONG


def _find_planted(asked: _Asked) -> int:
    from raftkv_trio.testing.campaign.campaign import find_planted
    from raftkv_trio.testing.planted import PLANTED

    names = list(PLANTED) if asked.planted == "all" else [str(asked.planted)]
    with closing(find_planted(asked.level, names, asked.count, min(asked.jobs, len(names)))) as findings:
        found = list(_with_bar(findings, len(names), "bugs"))
    click.echo("| bug | what it does | level | seeds needed | caught by |\n| --- | --- | --- | --- | --- |")
    for finding in found:
        seeds = str(finding.seeds) if finding.is_found else f"not in {finding.seeds}"
        caught_by = finding.failure or "-"
        if finding.failure and not finding.is_found:
            seeds, caught_by = "-", f"nothing: it does not fit the code, {finding.failure}"
        does = PLANTED[finding.name].does
        click.echo(f"| `{finding.name}` | {does} | {finding.level} | {seeds} | {caught_by} |")
    return _SOUND if all(finding.is_found for finding in found) else _WRONG


def _explain(asked: _Asked, failed: "Verdict") -> None:
    """Shrink a schedule that failed; print what is left, how the run ended, and how to repeat it."""
    from raftkv_trio.testing.campaign.shrink import Reduction, shrink

    seed, run = failed.schedule.seed, _level(asked).run
    click.echo(f"\nseed {seed}: {failed.text}")
    reduction, runs, schedule = Reduction(), 0, failed.schedule
    steps = islice(shrink(failed, run), asked.shrink_runs)
    for shrunk in _with_bar(steps, None, "shrinking"):
        reduction, runs, schedule = shrunk.reduction, shrunk.runs, shrunk.verdict.schedule
    again = run(schedule, keep_trace=True)
    click.echo(
        f"after {runs} runs {len(schedule.faults)} of {len(failed.schedule.faults)} faults are left, "
        f"{schedule.nodes} nodes, {schedule.clients} clients, {schedule.operations} operations"
    )
    for fault in schedule.faults:
        click.echo(f"  {fault}")
    lines = again.trace or []
    click.echo(f"\nthe last of {len(lines)} lines of its trace:")
    click.echo("\n".join(lines[-SHOWN_LINES:]))
    click.echo(f"\n{again.text}")
    planted = f" --planted {asked.planted}" if asked.planted else ""
    only = f" --only {reduction}" if runs else ""
    which = f"--seed {seed}" if asked.schedule is None else f"--schedule {shlex.quote(str(asked.schedule))}"
    click.echo(f"to see it again: raftkv-trio simulate --level {asked.level} {which}{planted}{only} --trace")
    _write_trace(asked, again)
    _keep(asked, schedule)


def _read_kept(file: Path) -> "Kept":
    from raftkv_trio.testing.schedules.schedule_text import decode_kept

    try:
        return decode_kept(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--schedule {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--schedule {file}: this is no schedule: it is not text in UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"--schedule {file}: {error}") from error


def _asked_for(level: int | None, planted: str | None) -> tuple[int, str | None]:
    """Level and planted bug as the flags say; raises ConfigError if this version has no such one."""
    from raftkv_trio.testing.campaign.levels import LEVELS
    from raftkv_trio.testing.planted import PLANTED

    if level not in (None, *LEVELS):
        raise ConfigError(f"--level {level} is not in this version; it has {', '.join(map(str, LEVELS))}")
    if planted not in (None, "all", *PLANTED):
        raise ConfigError(f"--planted: no bug {planted!r}; use all, or one of: {', '.join(PLANTED)}")
    bug = PLANTED.get(planted or "")
    return max(level or 1, bug.level if bug else 1), planted


def _what_to_run(kept: "Kept", file: Path, level: int | None, planted: str | None) -> tuple[int, str | None]:
    """Level and planted bug as the file says, or as the flags say if the file does not."""
    from raftkv_trio.testing.campaign.levels import LEVELS
    from raftkv_trio.testing.planted import PLANTED

    if kept.level not in (None, *LEVELS):
        raise ConfigError(f"--schedule {file}: level {kept.level} is not in this version")
    if kept.planted not in (None, *PLANTED):
        raise ConfigError(f"--schedule {file}: this version has no bug {kept.planted!r} to plant")
    if level is not None and kept.level not in (None, level):
        raise ConfigError(
            f"--level {level}: {file} was kept at level {kept.level}, and runs at that level only"
        )
    if planted is not None and kept.planted not in (None, planted):
        raise ConfigError(f"--planted {planted}: {file} was kept with {kept.planted} planted")
    planted = planted or kept.planted
    needed = PLANTED[planted].level if planted else 1
    known = kept.level or level
    if known is not None and known < needed:
        raise ConfigError(f"--planted {planted} needs level {needed}, and {file} is of level {known}")
    return known or needed, planted


def _check_writable(*asked: tuple[str, Path | None]) -> None:
    """Raise ConfigError, before anything is run, if the file of one of these flags cannot be written."""
    for flag, file in asked:
        if file is not None:
            check_new_file(file, replaces=True, called=f"{flag} {file}")


def _write(flag: str, file: Path, text: str) -> None:
    """Make the file hold this text; an earlier file of the name is replaced."""
    try:
        with new_file(file, replaces=True, called=f"{flag} {file}") as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise ConfigError(f"{flag} {file} cannot be written: {error.strerror}") from error


def _keep(asked: _Asked, schedule: "Schedule") -> None:
    from raftkv_trio.testing.schedules.schedule_text import Kept, encode_kept

    if asked.keep is not None:
        _write("--keep", asked.keep, encode_kept(Kept(schedule, asked.level, asked.planted)))


def _write_trace(asked: _Asked, verdict: "Verdict") -> None:
    if asked.trace_file is not None:
        _write("--trace-file", asked.trace_file, "\n".join([*(verdict.trace or []), ""]))


def _level(asked: _Asked) -> "Level":
    from raftkv_trio.testing.campaign.levels import LEVELS

    return LEVELS[asked.level]


def _summary(tally: "Tally", wall_s: float) -> str:
    rate = tally.simulated_s / wall_s
    return "\n".join(
        [
            f"seeds       {tally.seeds}",
            f"events      {tally.events}",
            f"faults      {_counts(tally.faults)}",
            f"operations  {_counts(tally.operations)}",
            f"time        {tally.simulated_s:.0f} s simulated in {wall_s:.1f} s: {rate:.0f} to 1",
            f"hash        {tally.digest}",
        ]
    )


def _counts(counts: Counter[str]) -> str:
    each = ", ".join([f"{name} {count}" for name, count in sorted(counts.items())])
    return f"{counts.total()}{': ' if each else ''}{each}"


def _with_bar(items: Iterable[Item], length: int | None, label: str) -> Iterator[Item]:
    """The same items, with a progress bar if standard error is a terminal."""
    from raftkv_trio.cli.progress import is_terminal

    if not is_terminal():
        yield from items
        return
    with click.progressbar(items, length=length, label=label, file=sys.stderr, show_pos=True) as bar:
        yield from bar
