"""Commands that a command runs: no signal is lost while one starts."""

import os
import signal
from typing import Any

import pytest
import trio

from raftkv_trio.cli.keys.children import Children


async def test_a_signal_while_a_command_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed on as soon as the process is known, which may run already."""
    children = Children()
    start = trio.lowlevel.open_process

    async def start_under_a_signal(*arguments: Any, **options: Any) -> trio.Process:
        process = await start(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        await children.signalled.wait()
        return process

    monkeypatch.setattr(trio.lowlevel, "open_process", start_under_a_signal)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(children.follow_signals)
            assert await children.run(["sleep", "600"], {}) == 128 + signal.SIGTERM
            await children.wait_over()
            nursery.cancel_scope.cancel()
