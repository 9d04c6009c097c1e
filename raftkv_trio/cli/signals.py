"""Run a component until a signal stops it."""

import logging
import os
import signal
from collections.abc import Awaitable, Callable

import trio

from raftkv_trio.logs import flush_log

logger = logging.getLogger(__name__)

_FLUSH_S = 0.1


def run_until_signal(
    component: Callable[[trio.Event], Awaitable[int]],
    signals: tuple[signal.Signals, ...],
    *,
    second_cancels: bool,
) -> int:
    """Run a component. The first signal sets its event; the second cancels it, or ends the process at once.

    Args:
        component: takes the event, and returns an exit code.
        second_cancels: whether the second signal cancels the component; otherwise it ends the process. After
            a second signal that cancels, the signals have their default actions, so that a third always ends
            the process.

    Returns:
        The exit code of the component, or 128 plus the number of the second signal.
    """
    forced: signal.Signals | None = None

    async def watch(stop: trio.Event, scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        nonlocal forced
        with trio.open_signal_receiver(*signals) as received:
            task_status.started()
            async for _ in received:
                break
            stop.set()
            async for number in received:
                forced = signal.Signals(number)
                if not second_cancels:
                    logger.warning("a second %s: no clean stop", forced.name)
                    flush_log(_FLUSH_S)
                    os._exit(128 + number)
                break
        scope.cancel()

    async def run() -> int:
        stop = trio.Event()
        code = 0
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, stop, nursery.cancel_scope)
            code = await component(stop)
            nursery.cancel_scope.cancel()
        return code

    code = trio.run(run)
    return code if forced is None else 128 + forced
