"""Serves the app with Hypercorn's connection handler in an accept loop of our own.

Hypercorn's `serve` ends when an exception escapes a connection's task. Here such an error is logged and ends
that connection alone.
"""

import logging
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import ConfigError

logger = logging.getLogger(__name__)

GRACE_S = 1.0


async def serve_rest(
    app: QuartTrio, config: RestConfig, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Accept connections until cancelled; `started` gives the port that is bound.

    Raises ConfigError where the address cannot be bound. Cancellation ends every connection.
    """
    try:
        listeners = await trio.open_tcp_listeners(config.port, host=config.host)
    except OSError as error:
        raise ConfigError(
            f"cannot listen for clients at {config.host}:{config.port}: {error.strerror or error}"
        ) from error
    hypercorn = Config()
    hypercorn.graceful_timeout = GRACE_S
    hypercorn.include_server_header = False
    context = WorkerContext(None)
    handler = partial(_serve_connection, ASGIWrapper(app), hypercorn, context)
    bound: int = listeners[0].socket.getsockname()[1]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handler, listeners)
            task_status.started(bound)
    finally:
        with trio.CancelScope(shield=True):
            await context.terminated.set()


async def _serve_connection(
    app: ASGIWrapper, config: Config, context: WorkerContext, stream: trio.SocketStream
) -> None:
    try:
        await TCPServer(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
    except* Exception as group:
        for error in group.exceptions:
            logger.error("a client's connection failed in a way it should not: %r", error)
