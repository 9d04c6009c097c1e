"""How a node tells the supervisor that it serves: it writes a line to a pipe.

An environment variable has the number of the pipe's file descriptor. A program that does not know the
variable is not disturbed: the supervisor then sees the end of the pipe without a line, at the latest when the
program ends.
"""

import os
import stat
from collections.abc import Mapping

import trio

VARIABLE = "RAFTKV_TRIO_READY_FD"


def tell_ready(environment: Mapping[str, str]) -> None:
    """Tell the supervisor, if this process has one, that this process serves."""
    number = environment.get(VARIABLE, "")
    if not number.isdecimal():
        return
    try:
        if stat.S_ISFIFO(os.fstat(int(number)).st_mode):  # otherwise the variable was inherited
            with open(int(number), "wb") as pipe:
                pipe.write(b"\n")
    except OSError:
        pass  # the supervisor has closed the pipe


async def wait_told(fd: int) -> bool:
    """Wait for the line, or the end of the pipe; returns whether the line came.

    Closes `fd`, also if cancelled.
    """
    async with trio.lowlevel.FdStream(fd) as pipe:
        return bool(await pipe.receive_some(1))
