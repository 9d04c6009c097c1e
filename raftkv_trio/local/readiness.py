"""How a node tells whoever started it that it serves: a line on a pipe that it was given for that.

The pipe's file descriptor is named by an environment variable. A program that knows nothing of it is not
disturbed, and whoever waits then sees the pipe's end without a line, at the latest when that program ends.
"""

import os
import stat
from collections.abc import Mapping

import trio

VARIABLE = "RAFTKV_TRIO_READY_FD"


def tell_ready(environment: Mapping[str, str]) -> None:
    """Say that this process serves, if anybody wants to know."""
    number = environment.get(VARIABLE, "")
    if not number.isdecimal():
        return
    try:
        if stat.S_ISFIFO(os.fstat(int(number)).st_mode):  # else it was meant for another process
            with open(int(number), "wb") as pipe:
                pipe.write(b"\n")
    except OSError:
        pass  # nobody wants to know any more


async def wait_told(fd: int) -> bool:
    """Return True at the first line, False at the pipe's end; closes `fd`, also when cancelled."""
    async with trio.lowlevel.FdStream(fd) as pipe:
        return bool(await pipe.receive_some(1))
