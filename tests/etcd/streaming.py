"""Commands that run on and on: what they print is waited for, and a signal ends them."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.cli.program import PROGRAM, environment_with
from tests.etcd.servers import HOST, ApiServer

PATIENCE_S = 60.0


class Streaming:
    """A command that runs.

    Attributes:
        output, errors: what it has printed so far.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.output = b""
        self.errors = b""
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, args=arguments)
            for arguments in ((process.stdout, "output"), (process.stderr, "errors"))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, source: object, name: str) -> None:
        while data := os.read(source.fileno(), 65536):  # type: ignore[attr-defined]
            with self._changed:
                setattr(self, name, getattr(self, name) + data)
                self._changed.notify_all()

    def wait(self, condition: Callable[["Streaming"], object]) -> None:
        """Return when `condition`, which looks at the outputs, is true."""
        with self._changed:
            found = self._changed.wait_for(lambda: condition(self), PATIENCE_S)
        assert found, (self.output, self.errors)

    def say(self, line: str) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_exit(self) -> int:
        """Its exit code; all that it has printed is there then."""
        code = self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it; its exit code."""
        self.process.send_signal(number)
        return self.wait_exit()


@contextmanager
def streaming(command: Sequence[str | bytes], environment: Mapping[str, str]) -> Iterator[Streaming]:
    """Run a command, in a process group of its own without a terminal; killed at the end."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        running = Streaming(process)
        try:
            yield running
        finally:
            process.kill()
            running.wait_exit()


@contextmanager
def streaming_ours(server: ApiServer, *arguments: str | bytes) -> Iterator[Streaming]:
    """One of our commands."""
    words = 2 if arguments[0] == "lease" else 1
    endpoints = ["--endpoints", f"{HOST}:{server.port}"]
    command = [*PROGRAM, *arguments[:words], *endpoints, *arguments[words:]]
    with streaming(command, environment_with(None)) as running:
        yield running


@contextmanager
def streaming_etcdctl(server: ApiServer, *arguments: str | bytes) -> Iterator[Streaming]:
    """One of etcdctl's."""
    command = ["etcdctl", "--endpoints", f"{HOST}:{server.port}", *arguments]
    with streaming(command, {**os.environ, "ETCDCTL_API": "3"}) as running:
        yield running
