"""The ceiling of a Python server: Trio, httptools, and an answer that is always the same."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ask import ask
from benchmarks.contestants.contestant import Running
from benchmarks.ports import free_ports
from benchmarks.processes import Daemon, stopping, wait_until


class Echo:
    """A server that does nothing; it is asked as ours is."""

    name = "echo (Trio, httptools)"
    api = "rest"

    def why_missing(self) -> str | None:
        """Never: it needs only what we need."""
        return None

    @contextmanager
    def started(self, directory: Path) -> Iterator[Running]:
        """As `Contestant.started`."""
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        daemon = Daemon(
            [sys.executable, "-m", "benchmarks.programs.echo_server", str(port)], directory / "echo.log"
        )
        with stopping([daemon]):
            wait_until(lambda: ask(url, "GET", "/"), "the echo server does not answer", [daemon])
            yield Running(url, daemon, [daemon])

    def fill_request(self, key: int, value: bytes) -> None:
        """It keeps no keys."""
        return None
