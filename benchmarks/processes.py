"""Processes that are measured: started with a log of their own, ended by their ids, asked about by /proc."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_S = 60.0
_STOP_S = 15.0
_POLL_S = 0.01


class BenchmarkError(Exception):
    """A part of a benchmark cannot be done; the text says why, in one line."""


class Daemon:
    """A process that runs until it is stopped; its output goes to a file."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self._command = [str(word) for word in command]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise BenchmarkError if it has ended."""
        if (code := self._process.poll()) is not None:
            said = last_words(self._log.read_text(errors="replace"))
            raise BenchmarkError(f"{self._command[0]} ended with exit code {code}: {said}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal it, and wait until it has ended; it is killed if it has not soon."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def processor_s(self) -> float:
        """The processor's time that it has had since it started, in all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """The memory that it occupies now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def stopping(daemons: Sequence[Daemon]) -> Iterator[None]:
    """Stop all of these at the end of the block, also those that are added to the list inside."""
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.stop(signal.SIGKILL)


@contextmanager
def ending_children() -> Iterator[None]:
    """Kill at the end of the block whatever this process has started and not ended.

    A signal may end the run between the start of a process and the block that would stop it.
    """
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
                os.waitpid(int(pid), 0)


def run_to_end(
    command: Sequence[str | Path], timeout_s: float, *, interrupt_after_s: float | None = None
) -> str:
    """The standard output of a process that ends by itself. Raises BenchmarkError if it fails.

    Args:
        interrupt_after_s: from when it handles SIGINT, after which time it gets one, as the sign to end.
    """
    words = [str(word) for word in command]
    with subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if interrupt_after_s is not None:
                _interrupt(process, interrupt_after_s)
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{words[0]} did not end within {timeout_s:.0f} s") from error
        finally:
            process.kill()
    if process.returncode:
        program = " ".join(word for word in words[1:4] if not word.startswith("/"))
        raise BenchmarkError(
            f"{program} ended with exit code {process.returncode}: {last_words(stderr or stdout)}"
        )
    return stdout


def _interrupt(process: subprocess.Popen[str], after_s: float) -> None:
    wait_until(lambda: process.poll() is not None or _handles_sigint(process.pid), "it handles no SIGINT")
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)


def _handles_sigint(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    return False


def wait_until(
    condition: Callable[[], object], what: str, daemons: Sequence[Daemon] = (), timeout_s: float = START_S
) -> None:
    """Wait for a condition. Raises BenchmarkError if a process ends meanwhile, or it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for daemon in daemons:
            daemon.check_alive()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def machine_processor_s() -> float:
    """The time for which the processors of this machine have not been idle since it started."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def last_words(text: str) -> str:
    """The last line of an output that says something, in the frame of an exception group too."""
    lines = [line.strip(" |+-") for line in text.splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "it said nothing")
