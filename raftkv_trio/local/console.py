"""The output of a local cluster: the lines of its processes, each after the process's name."""

import os
from collections.abc import Sequence

import trio

_COLORS = (36, 33, 32, 35, 34, 31)  # ANSI foregrounds: cyan, yellow, green, magenta, blue, red


class Console:
    """Whole lines of many writers on one file descriptor, each after its writer's name."""

    def __init__(self, fd: int, names: Sequence[str], *, color: bool) -> None:
        self.lost = trio.Event()  # nobody reads us any more
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
        """Write lines, given without their newlines; once the reader is `lost` they are dropped.

        Cancellation abandons the thread that writes, which may have written a part.
        """
        prefix = self._prefixes[name]
        data = b"".join(b"%b%b\n" % (prefix, line) for line in lines)
        try:
            # In a thread, since a terminal that was halted must not halt us.
            await trio.to_thread.run_sync(self._write, data, limiter=self._limiter, abandon_on_cancel=True)
        except OSError:
            self.lost.set()

    async def say(self, sentence: str) -> None:
        """Write one line of the supervisor's own; see `write`."""
        await self.write("local", [sentence.encode()])

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
