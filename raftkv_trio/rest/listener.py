"""Serves the app: an accept loop of our own, in which a connection that fails ends alone.

Hypercorn's own `serve` ends when an exception escapes a connection's task.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from time import time

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.rest.app import RestApp
from raftkv_trio.rest.connection import Connection

logger = logging.getLogger(__name__)

GRACE_S = 1.0
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\nToo many connections\n"
)


async def serve_rest(
    app: RestApp,
    config: RestConfig,
    listeners: list[trio.SocketListener] | None = None,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients until cancelled; `started` gives the port that is bound.

    Args:
        listeners: of `open_rest_listeners`; opened here where not given.

    Raises ConfigError where the address cannot be bound. Cancellation closes the listeners and idle
    connections at once; requests under way have `GRACE_S` to end, and no connection outlives this call.
    """
    if listeners is None:
        listeners = await _listen(config)
    server = _Server(app, config)
    async with trio.open_nursery() as nursery:
        connections = await nursery.start(server.hold_connections)
        try:
            accept = partial(
                trio.serve_listeners, server.serve_connection, listeners, handler_nursery=connections
            )
            nursery.start_soon(accept)
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.sleep_forever()
        finally:
            await server.stop()


async def serve_meanwhile(app: RestApp, config: RestConfig, listeners: list[trio.SocketListener]) -> None:
    """Serve clients until cancelled, as `serve_rest` does, but leave the listeners to whoever serves next."""
    copies = [trio.SocketListener(listener.socket.dup()) for listener in listeners]
    try:
        await serve_rest(app, config, copies)
    finally:
        for copy in copies:
            copy.socket.close()


@asynccontextmanager
async def open_rest_listeners(config: RestConfig) -> AsyncIterator[list[trio.SocketListener]]:
    """Hold the address, bound; clients that come before `serve_rest` wait. Raises ConfigError."""
    listeners = await _listen(config)
    try:
        yield listeners
    finally:
        for listener in listeners:
            await trio.aclose_forcefully(listener)


async def _listen(config: RestConfig) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(config.port, host=config.host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen for clients on {config.host}, port {config.port}: {reason};"
            " choose another --host or --port"
        ) from error


class _Server:
    """The connections, and the one boundary at which their errors stop."""

    def __init__(self, app: RestApp, config: RestConfig) -> None:
        self._app = ASGIWrapper(app)
        self._requests = app.requests
        self._config = config
        self._hypercorn = _HypercornConfig()
        self._hypercorn.errorlog = logger
        self._hypercorn.keep_alive_max_requests = 2**63
        self._hypercorn.h11_max_incomplete_size = config.max_header_bytes
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._grace = trio.CancelScope(shield=True)
        self._stopping = trio.Event()

    async def hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Be the connections' nursery, shielded until `stop` and for `GRACE_S` after it."""
        with self._grace:
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await self._stopping.wait()

    async def stop(self) -> None:
        """Take no more requests, once no more connections come. It waits for nothing."""
        self._stopping.set()
        self._grace.deadline = trio.current_time() + GRACE_S
        await self._context.terminated.set()
        for connection in self._connections:
            connection.stop()

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Serve one client; what fails here has failed for this client alone."""
        if len(self._connections) >= self._config.max_connections:
            self._requests.refused(HTTPStatus.SERVICE_UNAVAILABLE)
            await _turn_away(stream)
            return
        connection = Connection(
            self._app, self._config, self._hypercorn, self._context, self._requests, stream
        )
        self._connections.add(connection)
        try:
            await connection.run()
        except* OSError as group:
            logger.debug("a client's connection failed: %s", group.exceptions[0])
        except* Exception:
            logger.exception("a client's connection failed in a way that it should not")
        finally:
            self._connections.discard(connection)


class _HypercornConfig(Config):
    """With the fields that every response has."""

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        return [(b"cache-control", b"no-store"), (b"date", _http_date(int(time())))]


@lru_cache(maxsize=1)
def _http_date(unix_s: int) -> bytes:
    return formatdate(unix_s, usegmt=True).encode()


async def _turn_away(stream: trio.SocketStream) -> None:
    try:
        with trio.move_on_after(1):
            await stream.send_all(_TURNED_AWAY)
    except trio.BrokenResourceError:
        pass  # gone already
    finally:
        await trio.aclose_forcefully(stream)
