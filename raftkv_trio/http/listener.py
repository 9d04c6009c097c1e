"""The accept loop: takes clients' connections, has each served by a task, and ends them at a shutdown.

A connection that fails ends alone; Hypercorn's own `serve` ends if an exception escapes a connection's task.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

import trio

from raftkv_trio.addresses import host_of
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.http.app_exchange import AppServer
from raftkv_trio.http.client_connection import Connection, Http2
from raftkv_trio.http.messages import Refusal, Service, encode_refusal
from raftkv_trio.http.places import Places
from raftkv_trio.lingering import linger
from raftkv_trio.pace import Paces
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.stream import TlsStream, Turns
from raftkv_trio.world import TrioClock, keep_accepting, open_tcp_listeners

logger = logging.getLogger(__name__)

#: How long requests in progress may go on after a stop has begun; those that still wait end after `WAIT_S`.
GRACE_S, WAIT_S = 1.2, 0.8
#: What a port is for.
CLIENTS = "clients"
TLS_LOG_INTERVAL_S = 1.0
#: So many refusals of one host in a second, in the long run, and so many more at once.
REFUSALS_RATE, REFUSALS_BURST = 200.0, 100
#: So many turns of a host, a second's worth, are owed at most: it may have good clients too.
REFUSALS_DEBT = 200
TURNED_AWAY_S, MAX_TURNED_AWAY = 1.0, 16  # how long a client that is turned away is read from; how many are


async def serve_http(
    service: Service,
    config: RestConfig,
    listeners: list[trio.SocketListener] | None = None,
    *,
    count_refused: Callable[[HTTPStatus], None] = lambda status: None,
    end_waiting: Callable[[], None] = lambda: None,
    purpose: str = CLIENTS,
    tls: Credentials | None = None,
    http_2: Http2 | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients until cancelled; `started` gives the bound port.

    Args:
        service: what answers the requests.
        listeners: from `open_http_listeners`, closed at the end; None: opened here.
        count_refused: called with the status of each refusal that `service` does not see: of bytes that are
            no request, and of a connection for which no place is free.
        end_waiting: called `WAIT_S` after the cancellation if requests are still in progress; it makes those
            that wait for something answer, without another wait, while their clients are still connected.
        purpose: what the port is for, in the log.
        tls: of the port; None: it speaks without TLS.
        http_2: makes the connections of clients that speak HTTP/2; None: it is refused to them.

    Raises ConfigError if the address cannot be bound. Cancellation closes the listeners and idle connections
    at once; requests in progress have `GRACE_S` to end, and no connection outlives this call.
    """
    if listeners is None:
        listeners = await _listen(config)
    try:
        server = _Server(service, config, count_refused, end_waiting, tls, http_2)
        await _serve(server, listeners, purpose, task_status)
    finally:
        _close(listeners)


async def serve_http_temporarily(
    service: Service,
    config: RestConfig,
    listeners: list[trio.SocketListener],
    purpose: str = CLIENTS,
    tls: Credentials | None = None,
) -> None:
    """Serve clients until cancelled, as `serve_http` does, but leave the listeners open for the next call."""
    server = _Server(service, config, tls=tls)
    await _serve(server, listeners, purpose, trio.TASK_STATUS_IGNORED, closes=False)


async def _serve(
    server: "_Server",
    listeners: list[trio.SocketListener],
    purpose: str,
    task_status: trio.TaskStatus[int],
    *,
    closes: bool = True,
) -> None:
    async with trio.open_nursery() as nursery:
        connections = await nursery.start(server.hold_connections)
        try:
            for listener in listeners:
                accept = partial(
                    keep_accepting,
                    listener.accept,
                    server.serve_connection,
                    connections,
                    TrioClock(),
                    f"port for {purpose}",
                )
                nursery.start_soon(accept)
            nursery.start_soon(server.end_idle)
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.sleep_forever()
        finally:
            if closes:  # before the last requests end, so that new clients go elsewhere at once
                _close(listeners)
            server.stop()


def _close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


@asynccontextmanager
async def open_http_listeners(
    config: RestConfig, fields: str = "`host` or `port`", purpose: str = CLIENTS
) -> AsyncIterator[list[trio.SocketListener]]:
    """Bind the address; clients that connect before `serve_http` wait. Raises ConfigError if it is taken.

    The listeners are closed at the end of the context, also if it is cancelled.

    Args:
        fields: what to change if the address is taken.
        purpose: what the port is for, in the error.
    """
    listeners = await _listen(config, fields, purpose)
    try:
        yield listeners
    finally:
        _close(listeners)


async def _listen(
    config: RestConfig, fields: str = "`host` or `port`", purpose: str = CLIENTS
) -> list[trio.SocketListener]:
    try:
        return await open_tcp_listeners(config.host, config.port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen for {purpose} on {config.host}, port {config.port}: {reason};"
            f" choose another {fields}"
        ) from error


class _Server:
    """All connections, and the one boundary at which their errors stop."""

    def __init__(
        self,
        service: Service,
        config: RestConfig,
        count_refused: Callable[[HTTPStatus], None] = lambda status: None,
        end_waiting: Callable[[], None] = lambda: None,
        tls: Credentials | None = None,
        http_2: Http2 | None = None,
    ) -> None:
        self._service = service
        self._http_2 = http_2
        self._tls = tls
        self._turns = Turns()  # of TLS handshakes
        self._failed_handshakes = LimitedLog(
            logger, trio.current_time, TLS_LOG_INTERVAL_S, "a client's TLS handshake failed: "
        )
        self._app = AppServer(service.app, is_tls=tls is not None)
        self._count_refused = count_refused
        self._end_waiting = end_waiting
        self._config = config
        self._places: Places[Connection] = Places(config.max_connections, trio.current_time)
        self._refusals = Paces(TrioClock(), REFUSALS_RATE, REFUSALS_BURST, REFUSALS_DEBT)
        self._turned_away = 0  # that are not closed yet
        self._grace = trio.CancelScope(shield=True)
        self._stopping = trio.Event()

    async def hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Hold the nursery of the connections open: until `stop`, and shielded for `GRACE_S` after it."""
        with self._grace:
            async with trio.open_nursery() as last_call:
                async with trio.open_nursery() as connections:
                    task_status.started(connections)
                    await self._stopping.wait()
                    last_call.start_soon(self._call_last)
                last_call.cancel_scope.cancel()

    async def end_idle(self) -> None:
        """End connections that were idle for `idle_timeout_s`, or up to a second longer; until cancelled.

        One task for all of them: a deadline of each one's own would have to be set anew in each request.
        """
        timeout_s = self._config.idle_timeout_s
        while True:
            await trio.sleep(min(1.0, timeout_s / 10))
            for connection in self._places.idle_since(trio.current_time() - timeout_s):
                connection.idle_for_long()

    async def _call_last(self) -> None:
        # A request that would be cut off with its connection leaves the client without the one thing that it
        # must know: whether its write may have happened.
        await trio.sleep(WAIT_S)
        self._end_waiting()

    def stop(self) -> None:
        """Take no more requests; called after the last connection was accepted. It waits for nothing."""
        self._stopping.set()
        self._grace.deadline = trio.current_time() + GRACE_S
        for connection in self._places.all():
            connection.stop()

    def _stream(self, accepted: trio.SocketStream) -> TcpStream:
        if self._tls is None:
            return TcpStream(accepted)
        contexts = self._tls.contexts
        context = contexts.server if self._http_2 is None else contexts.server_http_2
        return TlsStream(accepted, context, self._turns, server_side=True)

    async def serve_connection(self, accepted: trio.SocketStream) -> None:
        """Serve one client; an error here concerns this client alone."""
        stream = self._stream(accepted)
        address = _client_address(stream)
        connection = Connection(
            self._service,
            self._app,
            self._config,
            self._count_refused,
            self._places.idle_now,
            partial(self._refusals.of, host_of(address)),
            stream,
            self._failed_handshakes.note,
            self._http_2,
        )
        if not self._places.take(connection, address, shakes_hands=self._tls is not None):
            self._count_refused(HTTPStatus.SERVICE_UNAVAILABLE)
            await self._turn_away(stream, address)
            return
        try:
            if self._stopping.is_set():  # it was accepted at the very moment of the stop
                connection.stop()
            await connection.run()
        except* OSError as group:
            logger.debug("a client's connection failed: %s", group.exceptions[0])
        except* Exception:
            logger.exception("unexpected error on a client's connection")
        finally:
            self._places.leave(connection)

    async def _turn_away(self, stream: TcpStream, address: str) -> None:
        refusal = Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"Too many connections: this node serves {self._config.max_connections} clients, and one host"
            " nine tenths of these at most; close some, ask another node, or retry later",
        )
        self._turned_away += 1
        try:
            with trio.move_on_after(TURNED_AWAY_S):
                if self._turned_away <= MAX_TURNED_AWAY or not isinstance(stream, TlsStream):
                    await stream.send_all(b"".join(encode_refusal(refusal)))
                if self._turned_away <= MAX_TURNED_AWAY:
                    await linger(stream, partial(self._refusals.of, host_of(address)))
        except trio.BrokenResourceError:
            pass  # the client is gone already
        finally:
            self._turned_away -= 1
            await trio.aclose_forcefully(stream)


def _client_address(stream: TcpStream) -> str:
    """From which address a client has connected; empty if it is gone again."""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""
