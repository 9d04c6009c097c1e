"""Makes a failing schedule smaller, as long as it violates the same invariant.

First the faults, by delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
input", 2002). Then everything else: defaults for the other fields; fewer nodes, clients, keys and operations;
a shorter time. This repeats until nothing more can be taken away.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Any

from raftkv_trio.testing.campaign.seeds import Verdict
from raftkv_trio.testing.schedules.schedule import LOWEST, Schedule
from raftkv_trio.testing.world.message_network import Conditions

_KEPT = {"seed", "faults"}


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left of a schedule; `raftkv-trio simulate --only` takes its text.

    Attributes:
        faults: positions of the faults that are left, from 0; None: all.
        numbers: names and values of the fields that are lowered.
        defaults: names of the fields that are set to their defaults.
    """

    faults: tuple[int, ...] | None = None
    numbers: tuple[tuple[str, int], ...] = ()
    defaults: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{name}={value}" for name, value in self.numbers]
        if self.faults is not None:
            parts.insert(0, f"faults={'+'.join(map(str, self.faults))}")
        if self.defaults:
            parts.append(f"default={'+'.join(self.defaults)}")
        return ",".join(parts)

    @classmethod
    def parse(cls, text: str) -> "Reduction":
        """Parse the text of a reduction; raises ValueError if it is malformed."""
        faults: tuple[int, ...] | None = None
        numbers: dict[str, int] = {}
        defaults: tuple[str, ...] = ()
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            values = [v for v in value.split("+") if v]
            if name == "faults":
                faults = tuple([int(v) for v in values])
            elif name == "default":
                defaults = tuple(values)
            elif name in LOWEST:
                numbers[name] = int(value)
                if numbers[name] < LOWEST[name]:
                    raise ValueError(f"{part} is too low; the least is {LOWEST[name]}")
            else:
                raise ValueError(
                    f"a schedule has no {name!r} to reduce; use faults, default, {', '.join(LOWEST)}"
                )
        return cls(faults, tuple(numbers.items()), defaults)

    def of(self, schedule: Schedule) -> Schedule:
        """Apply to a schedule; raises ValueError if it lacks such a fault, field or node."""
        known = {f.name: f for f in fields(schedule) if _has_default(f)}
        changes: dict[str, Any] = dict(self.numbers)
        for name in self.defaults:
            if name not in known:
                raise ValueError(f"a schedule has no {name!r} with a default")
            changes[name] = _default(known[name])
        faults = schedule.faults
        if self.faults is not None:
            if not set(self.faults) <= set(range(len(faults))):
                raise ValueError(f"the schedule has the faults 0 to {len(faults) - 1}")
            faults = tuple([faults[position] for position in self.faults])
        nodes = changes.get("nodes", schedule.nodes)
        named = {f.node for f in faults if f.node} | {i for f in faults for pair in f.pairs for i in pair}
        if any(nodes < node <= schedule.nodes for node in named):  # higher ids join later
            raise ValueError(f"a fault names a node above {nodes}")
        return replace(schedule, faults=faults, **changes)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest schedule so far that violates the same invariant.

    Attributes:
        runs: number of schedules run so far.
    """

    reduction: Reduction
    verdict: Verdict
    runs: int


def shrink(failed: Verdict, run: Callable[[Schedule], Verdict]) -> Iterator[Shrunk]:
    """Yield the smallest schedule so far after each run; a caller may stop at any time.

    Args:
        failed: the verdict on the whole schedule.
        run: runs a schedule; equal schedules must give equal verdicts.
    """
    return _Shrinking(failed, run).steps()


class _Shrinking:
    def __init__(self, failed: Verdict, run: Callable[[Schedule], Verdict]) -> None:
        self._schedule = failed.schedule
        self._failure = failed.failure
        self._run = run
        self._tried: set[Reduction] = set()
        self._best = Shrunk(Reduction(tuple(range(len(failed.schedule.faults)))), failed, 0)

    def steps(self) -> Iterator[Shrunk]:
        before = None
        while before != self._best.reduction:
            before = self._best.reduction
            yield from self._drop_faults()
            yield from self._use_defaults()
            for name in LOWEST:
                yield from self._lower(name)

    def _drop_faults(self) -> Iterator[Shrunk]:
        size = len(self._faults())
        while size:
            start = 0
            while start < len(self._faults()):
                kept = self._faults()[:start] + self._faults()[start + size :]
                if not (yield from self._try(replace(self._best.reduction, faults=kept))):
                    start += size
            size //= 2

    def _use_defaults(self) -> Iterator[Shrunk]:
        for field in fields(self._schedule):
            if field.name in LOWEST or field.name in _KEPT or not _has_default(field):
                continue
            now = self._best.reduction
            is_default = getattr(self._schedule, field.name) == _default(field)
            if not is_default and field.name not in now.defaults:
                yield from self._try(replace(now, defaults=(*now.defaults, field.name)))

    def _lower(self, name: str) -> Iterator[Shrunk]:
        value = LOWEST[name]
        while value < getattr(self._best.verdict.schedule, name):
            numbers = {**dict(self._best.reduction.numbers), name: value}
            if (yield from self._try(replace(self._best.reduction, numbers=tuple(numbers.items())))):
                return
            value = value + 1 if name == "nodes" else 2 * value

    def _faults(self) -> tuple[int, ...]:
        assert self._best.reduction.faults is not None
        return self._best.reduction.faults

    def _try(self, reduction: Reduction) -> Generator[Shrunk, None, bool]:
        """Whether the reduced schedule violates the same invariant."""
        if reduction in self._tried:
            return False
        self._tried.add(reduction)
        try:
            schedule = reduction.of(self._schedule)
        except ValueError:  # a fault names a node that would be gone
            return False
        verdict = self._run(schedule)
        fails = verdict.failure == self._failure
        best = Shrunk(reduction, verdict, 0) if fails else self._best
        self._best = replace(best, runs=self._best.runs + 1)
        yield self._best
        return fails


def _has_default(field: "Field[Any]") -> bool:
    return field.name == "conditions" or field.default is not MISSING or field.default_factory is not MISSING


def _default(field: "Field[Any]") -> Any:
    if field.name == "conditions":
        return Conditions()
    return field.default_factory() if field.default_factory is not MISSING else field.default
