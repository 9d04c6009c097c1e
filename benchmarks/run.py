"""Carries a plan out. What is not installed is named as missing, what breaks as failed; the rest goes on."""

import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks import wrk
from benchmarks.contestants import NAMED_ONLY
from benchmarks.figures import Figures
from benchmarks.measurements import disk, etcd_api, failover, growth, hops, http_load, proposals, state
from benchmarks.plan import Plan
from benchmarks.processes import BenchmarkError


class Run:
    """A plan under way; each step has a directory of its own, which is removed after it.

    Attributes:
        measured: the figures of each part that was asked for, by its name.
    """

    def __init__(self, plan: Plan, parts: Sequence[str], directory: Path) -> None:
        self.measured = {part: Figures() for part in parts}
        self._plan = plan
        self._directory = directory
        self._to_do = deque(self.measured)

    def carry_out(self) -> None:
        """Everything, part by part."""
        with TemporaryDirectory(dir=self._directory, prefix="backups-") as backups:
            while self._to_do:
                getattr(self, f"_{self._to_do[0]}")(Path(backups))
                self._to_do.popleft()

    def cut_short(self, reason: str) -> None:
        """Note as failed what is not carried out, or not to its end."""
        for part in self._to_do:
            self.measured[part].failed[f"{part}, or a part of it"] = reason

    @property
    def figures(self) -> Figures:
        """Those of the part that is measured now."""
        return self.measured[self._to_do[0]]

    def _loads(self, backups: Path) -> None:
        plan, missing = self._plan, self.figures.missing
        for name, program in NAMED_ONLY.items():
            found = shutil.which(program)
            missing[name] = "is installed, but nothing here starts it yet" if found else "is not installed"
        if (reason := wrk.why_missing()) is not None:
            missing.update({contestant.name: reason for contestant in plan.contestants})
            return
        here = []
        for contestant in plan.contestants:
            if (reason := contestant.why_missing()) is not None:
                missing[contestant.name] = reason
            else:
                here.append(contestant)
        for number in range(plan.rounds):
            for contestant in here:
                self._step(
                    f"{contestant.name}, round {number + 1}",
                    partial(http_load.measure_loads, contestant, plan.loads, plan.load_keys, plan.seconds),
                )

    def _etcd(self, backups: Path) -> None:
        plan, missing = self._plan, self.figures.missing
        if not plan.etcd_api:
            missing["etcd's API"] = "not in this plan"
        here = []
        for contestant in plan.etcd_api:
            if (reason := contestant.why_missing()) is not None:
                missing[contestant.name] = reason
            else:
                here.append(contestant)
        for number in range(plan.rounds):
            for contestant in here:
                measure = partial(etcd_api.measure_etcd_api, contestant, plan.seconds)
                self._step(f"{contestant.name}, etcd's API, round {number + 1}", measure)

    def _disk(self, backups: Path) -> None:
        for number in range(self._plan.rounds):
            self._step(f"{disk.NAME}, round {number + 1}", partial(disk.measure_disk, self._plan.seconds))

    def _hops(self, backups: Path) -> None:
        measure = partial(hops.measure_hops, self._plan.state_nodes, self._plan.traced_puts)
        self._step(f"trace of {self._plan.traced_puts} PUTs", measure)

    def _proposals(self, backups: Path) -> None:
        if not self._plan.proposals:
            self.figures.missing["proposals"] = "not in this plan"
            return
        measures = {proposals.OURS: proposals.measure_ours}
        if (reason := proposals.why_pysyncobj_is_missing()) is not None:
            self.figures.missing[proposals.PYSYNCOBJ] = reason
        else:
            measures[proposals.PYSYNCOBJ] = proposals.measure_pysyncobj
        for number in range(self._plan.rounds):
            for name, measure in measures.items():
                self._step(f"{name}, round {number + 1}", partial(measure, self._plan.seconds))

    def _state(self, backups: Path) -> None:
        plan = self._plan
        if not self._has_wrk("state"):
            return
        for keys in plan.keys:

            def measure(figures: Figures, directory: Path, keys: int = keys) -> None:
                state.measure_state(plan.state_nodes, keys, plan.state_lasts_s, figures, backups, directory)

            self._step(f"{keys:,} keys", measure)

    def _failover(self, backups: Path) -> None:
        kills = self._plan.kills
        self._step(f"kill the leader, {kills} times", partial(failover.measure_failover, kills))

    def _growth(self, backups: Path) -> None:
        series = self._plan.series
        if series is None:
            self.figures.missing["growth"] = "not in this plan"
        elif self._has_wrk("growth"):
            ends_s = perf_counter() + self._plan.growth_limit_s
            for point in growth.points(series):
                if perf_counter() > ends_s:
                    reason = f"its turn came later than {self._plan.growth_limit_s:.0f} s after the first"
                    self.figures.missing[f"growth: {point}"] = reason
                    continue

                def measure(figures: Figures, directory: Path, point: growth.Point = point) -> None:
                    growth.measure_growth(point, self._plan.seconds, figures, backups, directory)

                self._step(f"growth: {point}", measure)

    def _has_wrk(self, part: str) -> bool:
        if (reason := wrk.why_missing()) is not None:
            self.figures.missing[part] = reason
        return reason is None

    def _step(self, what: str, measure: Callable[[Figures, Path], None]) -> None:
        print(f"measuring {what}", file=sys.stderr, flush=True)
        with self._directory_of_its_own() as directory:
            try:
                measure(self.figures, directory)
            except (BenchmarkError, OSError) as error:
                self.figures.failed[what] = str(error)
                print(f"  failed: {error}", file=sys.stderr, flush=True)

    @contextmanager
    def _directory_of_its_own(self) -> Iterator[Path]:
        with TemporaryDirectory(dir=self._directory, prefix="step-", ignore_cleanup_errors=True) as directory:
            yield Path(directory)
