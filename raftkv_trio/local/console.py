"""The output of a local cluster: the lines of its processes, each with the process's name before it."""

import os
from collections.abc import Sequence

import trio

_COLORS = (36, 33, 32, 35, 34, 31)  # ANSI foregrounds: cyan, yellow, green, magenta, blue, red


class Console:
    """Writes whole lines of several processes to one file descriptor, each with a name before it.

    Attributes:
        lost: set when the reader of the output has closed it.
    """

    def __init__(self, fd: int, names: Sequence[str], *, color: bool) -> None:
        self.lost = trio.Event()
        self._fd = fd
        self._limiter = trio.CapacityLimiter(1)
        width = max(map(len, names))
        self._prefixes: dict[str, bytes] = {}
        for position, name in enumerate(names):
            prefix = f"{name:<{width}} |"
            if color:
                prefix = f"\x1b[{_COLORS[position % len(_COLORS)]}m{prefix}\x1b[0m"
            self._prefixes[name] = f"{prefix} ".encode()

    async def write(self, name: str, lines: Sequence[bytes]) -> None:
        """Write lines, given without their newlines. They are dropped if the reader is `lost`.

        Cancellation abandons the thread that writes; a part of the lines may be written.
        """
        prefix = self._prefixes[name]
        data = b"".join(b"%b%b\n" % (prefix, line) for line in lines)
        try:
            # In a thread: a terminal that takes no output (Ctrl-S) must not hold up the supervisor.
            await trio.to_thread.run_sync(self._write, data, limiter=self._limiter, abandon_on_cancel=True)
        except OSError:
            self.lost.set()

    async def say(self, sentence: str) -> None:
        """Write one line of the supervisor itself; see `write`."""
        await self.write("local", [sentence.encode()])

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
