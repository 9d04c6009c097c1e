"""The output of a local cluster: the lines of its processes, each with the process's name before it."""

import errno
import logging
from collections.abc import Sequence

import trio

from raftkv_trio.logs import write_all

logger = logging.getLogger(__name__)

_COLORS = (36, 33, 32, 35, 34, 31)  # ANSI foregrounds: cyan, yellow, green, magenta, blue, red


class Console:
    """Writes whole lines of several processes to one file descriptor, each with a name before it.

    What the system refuses to write, for want of room on a disk, is dropped with a warning.

    Attributes:
        lost: set when the reader of the output has closed it.
    """

    def __init__(self, fd: int, names: Sequence[str], *, color: bool) -> None:
        self.lost = trio.Event()
        self._fd = fd
        self._lost_lines = 0  # since lines were last written
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
            await trio.to_thread.run_sync(
                write_all, self._fd, data, limiter=self._limiter, abandon_on_cancel=True
            )
        except OSError as error:
            # The pipe's reader, or the terminal, is gone.
            if error.errno in (errno.EPIPE, errno.EIO, errno.EBADF):
                self.lost.set()
                return
            if not self._lost_lines:
                logger.warning("cannot write the output: %s; lines are dropped", error.strerror)
            self._lost_lines += len(lines)
        else:
            if self._lost_lines:
                logger.warning("the output is written again; %d lines were dropped", self._lost_lines)
                self._lost_lines = 0

    async def say(self, sentence: str) -> None:
        """Write one line of the supervisor itself; see `write`."""
        await self.write("local", [sentence.encode()])
