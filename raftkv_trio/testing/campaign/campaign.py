"""Runs many seeds in several processes: the verdicts in order, their sum, and the search for planted bugs."""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple, TypeVar

from raftkv_trio.testing.campaign.levels import LEVELS
from raftkv_trio.testing.campaign.seeds import Verdict
from raftkv_trio.testing.planted import PLANTED

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def run_seed(level: int, seed: int) -> Verdict:
    """Draw a seed's schedule and run it."""
    return LEVELS[level].run(LEVELS[level].draw(seed))


def run_seeds(level: int, seeds: Iterable[int], jobs: int) -> Generator[Verdict, None, None]:
    """Yield the verdicts on these seeds in order; processes run ahead of the caller."""
    arguments = ((level, seed) for seed in seeds)
    if jobs == 1:
        return (_run_seed(argument) for argument in arguments)
    return _in_processes(_run_seed, arguments, jobs, renewed=False)


class Finding(NamedTuple):
    """The result of the search for a planted bug.

    Attributes:
        level: the level that was run.
        seeds: number of seeds until the bug was found, or of all seeds if it was not.
        failure: the first violated invariant, or the class of the error; None: not found.
    """

    name: str
    level: int
    seeds: int
    failure: str | None

    @property
    def is_found(self) -> bool:
        """Whether a check found the bug; an error because the mutation no longer fits the code is no find."""
        return self.failure is not None and self.failure not in _MISFITS


_MISFITS = {error.__name__ for error in (AttributeError, ImportError, NameError, TypeError, ValueError)}


def find_planted(
    level: int, names: Iterable[str], max_seeds: int, jobs: int
) -> Generator[Finding, None, None]:
    """Search for each of these bugs in a process of its own, with the seeds from 0 on.

    A bug that needs a higher level is searched at that level.
    """
    return _in_processes(_find_planted, ((level, name, max_seeds) for name in names), jobs, renewed=True)


class Tally:
    """The sum of many verdicts.

    Attributes:
        faults: number of faults of each kind, by name.
        operations: number of operations by outcome.
    """

    def __init__(self) -> None:
        self.seeds = self.events = 0
        self.simulated_s = 0.0
        self.faults: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self._hash = blake2b(digest_size=16)

    def add(self, verdict: Verdict) -> None:
        """Add one verdict; the order of verdicts counts for `digest`."""
        self.seeds += 1
        self.events += verdict.events
        self.simulated_s += verdict.simulated_s
        self.faults += verdict.faults
        self.operations += verdict.operations
        self._hash.update(f"{verdict.schedule.seed} {verdict.digest}\n".encode())

    @property
    def digest(self) -> str:
        """32 hexadecimal digits: equal for equal traces of the same seeds in the same order."""
        return self._hash.hexdigest()


def _run_seed(argument: tuple[int, int]) -> Verdict:
    return run_seed(*argument)


def _find_planted(argument: tuple[int, str, int]) -> Finding:
    asked_level, name, max_seeds = argument
    level = max(asked_level, PLANTED[name].level)
    try:
        with PLANTED[name].plant():
            for seed in range(max_seeds):
                failure = run_seed(level, seed).failure
                if failure is not None:
                    return Finding(name, level, seed + 1, failure)
    except AttributeError as error:  # what the bug replaces no longer exists
        return Finding(name, level, 0, type(error).__name__)
    return Finding(name, level, max_seeds, None)


def _in_processes(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], jobs: int, *, renewed: bool
) -> Generator[Result, None, None]:
    """Yield results in the order of the arguments; `renewed`: each from a process that ran nothing else.

    When the generator is closed, or anything is raised in it, the processes end at once, whatever they run.
    """
    remaining = iter(arguments)
    pending: deque[Future[Result]] = deque()
    not_ours = set(multiprocessing.active_children())
    # Spawned, not forked: each process starts with a hash seed of its own, and without our threads.
    executor = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1 if renewed else None
    )

    def submit(count: int) -> None:
        for argument in islice(remaining, count):
            with _sigint_blocked():
                pending.append(executor.submit(function, argument))

    try:
        submit(8 * jobs)
        while pending:
            yield pending.popleft().result()
            submit(1)
    except BaseException:
        with _sigint_blocked():  # a second Ctrl-C must not leave processes behind
            for process in set(multiprocessing.active_children()) - not_ours:
                # A seed may take a minute, and the executor would wait for each that it has handed out.
                process.kill()
            executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which a terminal sends to all of them; their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
