"""Signals before a component takes them over (`signals.py`). This module imports nothing that takes time."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def end_at_once_on_signals() -> None:
    """From now on SIGINT and SIGTERM end the process with exit code 130 or 143, and `serve` outlives SIGHUP.

    Nothing is cleaned up: this is for a process that has not begun anything. Signals that the parent process
    had ignored stay ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    if sys.argv[1:2] == ["serve"] and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _pass)


def raise_keyboard_interrupt() -> None:
    """From now on SIGINT raises KeyboardInterrupt again, so that a command can clean up."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # An exception could end up in the middle of any import, and show as a traceback.
    os._exit(128 + number)


def _pass(number: int, frame: FrameType | None) -> None:
    pass
