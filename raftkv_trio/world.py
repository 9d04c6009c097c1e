"""What a node reaches the world through, besides its disk (`storage/disk.py`): network, time, and a worker.

Each port is small and has a real form here; the simulated forms live in `raftkv_trio.testing`.
"""

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from random import Random, SystemRandom
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple

import outcome
import trio

from raftkv_trio.foreign_text import LimitedLog
from raftkv_trio.tcp_stream import TcpListener, TcpStream

logger = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
StreamT = TypeVar("StreamT", bound=trio.abc.Stream)

ACCEPT_RETRY_S = 0.1
ACCEPT_LOG_INTERVAL_S = 10.0
#: How many connections may wait to be accepted, as far as the system allows it. At the port for peers there
#: are fewer, since under a flood all of them come before the next member, and are accepted at a bounded rate
#: (`peers/entrance.py`): a member must not have given up by then.
MAX_BACKLOG, PEERS_BACKLOG = 65535, 256


class Listener(Protocol):
    """A bound address that hands out one stream per connection."""

    async def accept(self) -> trio.abc.Stream:
        """Wait for a connection. Cancellation loses none: it stays in the backlog."""
        ...

    async def aclose(self) -> None:
        """Stop listening; connections that were handed out stay."""
        ...


class Network(Protocol):
    """Streams between addresses `(host, port)`."""

    async def listen(self, host: str, port: int) -> Listener:
        """Bind; raises OSError where the address is taken or not ours."""
        ...

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream; raises OSError. Cancellation leaves no socket behind."""
        ...


class Clock(Protocol):
    """A node's own monotonic clock, in seconds from an arbitrary start."""

    def now(self) -> float:
        """The time, in seconds."""
        ...

    def real_now(self) -> float:
        """Seconds from another arbitrary start, also those in which the machine was suspended."""
        return self.now()

    async def sleep_until(self, deadline: float) -> None:
        """Sleep until `now` is `deadline` or later; returns after a checkpoint if it has passed."""
        ...


class Worker(Protocol):
    """Where synchronous disk work runs: one call at a time, in order, never abandoned half-way."""

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `fn(*args)`, and return or raise what it does; `functools.partial` for keyword arguments.

        Cancellation while another call runs makes no call. A call that has begun runs to its end.
        """
        ...


# Counts the time in which the machine is suspended. So does CLOCK_MONOTONIC on macOS, where `time.monotonic`
# reads another clock; on Linux it does not.
_REAL_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
#: How long the other end's system may acknowledge nothing, or have no room for what waits to be sent, before
#: a connection counts as broken.
UNACKNOWLEDGED_S = 5.0
#: What makes TCP notice that, on systems that have the option. TCP alone would retry for minutes, less and
#: less often, so that a peer would seem cut off long after the network has healed. And on an idle connection
#: it sends nothing, so that it would never find out that the other end's host has died. With these options it
#: probes after 2 s, and then every second.
_TCP_OPTIONS = {
    "TCP_USER_TIMEOUT": int(1000 * UNACKNOWLEDGED_S),
    "TCP_KEEPIDLE": 2,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": 3,
}


async def open_tcp_listeners(host: str, port: int, backlog: int = MAX_BACKLOG) -> list[trio.SocketListener]:
    """Trio's listeners, but `::` takes connections over IPv4 too, as its users expect. Raises OSError.

    Args:
        backlog: how many connections may wait to be accepted; the system may allow fewer.
    """
    if host != "::" or not socket.has_dualstack_ipv6():
        return await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    bound = trio.socket.from_stdlib_socket(
        socket.create_server(("::", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
    )
    return [trio.SocketListener(bound)]


class TcpNetwork(Network):
    """TCP with TCP_NODELAY, as Trio's high-level sockets have it.

    On Linux a connection breaks, at both ends, if the network drops everything for 5 s, also an idle one. A
    process that is paused or busy breaks no idle connection, since its system acknowledges for it. But if it
    reads nothing for 5 s while more is sent than its system has room for, the connection breaks too; a
    snapshot's connection waits longer. And Trio lets at most about 16 KiB wait unsent in the kernel of this
    host, where nothing can overtake them.
    """

    async def listen(self, host: str, port: int) -> Listener:
        listeners = await open_tcp_listeners(host, port, PEERS_BACKLOG)
        for spare in listeners[1:]:
            await spare.aclose()
        _break_when_unacknowledged(listeners[0].socket)  # accepted connections inherit its options
        return TcpListener(listeners[0])

    async def connect(self, host: str, port: int) -> TcpStream:
        stream = await trio.open_tcp_stream(host, port)
        _break_when_unacknowledged(stream.socket)
        return TcpStream(stream)


async def keep_accepting(
    accept: Callable[[], Awaitable[StreamT]],
    serve: Callable[[StreamT], Awaitable[None]],
    connections: trio.Nursery,
    clock: Clock,
    port: str,
) -> NoReturn:
    """Accept connections until cancelled; the task of each, in `connections`, closes its stream.

    An error of `accept` ends nothing: most likely no file descriptor is free, and some will be closed. The
    connections wait in the backlog meanwhile.

    Args:
        port: what is listened at, for the log.
    """
    trouble = LimitedLog(
        logger, clock.now, ACCEPT_LOG_INTERVAL_S, f"cannot accept a connection to the {port}: "
    )
    while True:
        try:
            stream = await accept()
        except OSError as error:
            trouble.note(reason_of(error))
            await clock.sleep_until(clock.now() + ACCEPT_RETRY_S)
        else:
            connections.start_soon(serve, stream)


def wait_longer(stream: trio.abc.Stream, seconds: float) -> None:
    """Let a TCP connection break after this time instead of `UNACKNOWLEDGED_S`."""
    if isinstance(stream, TcpStream):
        _set_tcp_option(stream.socket, "TCP_USER_TIMEOUT", int(1000 * seconds))


def _break_when_unacknowledged(tcp_socket: trio.socket.SocketType) -> None:
    with suppress(OSError):  # as below
        tcp_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        _set_tcp_option(tcp_socket, name, value)


def _set_tcp_option(tcp_socket: trio.socket.SocketType, name: str, value: int) -> None:
    if (option := getattr(socket, name, None)) is not None:
        # Python may have been built for an option that this kernel lacks (gVisor, WSL 1), and macOS sets none
        # on a connection that the peer has reset. The options only make a node notice a dead host sooner.
        with suppress(OSError):
            tcp_socket.setsockopt(socket.IPPROTO_TCP, option, value)


class TrioClock(Clock):
    """The clock of the Trio run: real time, or a MockClock's."""

    def now(self) -> float:
        return trio.current_time()

    def real_now(self) -> float:
        # Trio's clock stops while the machine is suspended, on Linux and macOS.
        return time.clock_gettime(_REAL_CLOCK) if _REAL_CLOCK is not None else time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        await trio.sleep_until(deadline)


_Call = tuple[Callable[[], Any], trio.lowlevel.Task, trio.lowlevel.TrioToken]


class ThreadWorker(Worker):
    """One thread, so that disk work keeps its order and never holds up the event loop.

    It does what `trio.to_thread.run_sync` does with a limiter of one, but the thread is there already and
    waits: 140 us there and back instead of 260 on the machine of the benchmarks, which each write pays on the
    leader and on its followers. The thread lives as long as this object.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._is_started = False
        self._turn = trio.Lock()

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        # One call at a time is in the queue, so that whoever waits for a turn can be cancelled.
        if self._turn.locked():
            await self._turn.acquire()
        else:
            self._turn.acquire_nowait()
        try:
            self._start()
            call = partial(fn, *args)
            self._calls.put((call, trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()))
            # Not even a cancellation ends this wait: a disk call cannot be given up half-way.
            result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        finally:
            self._turn.release()
        return result

    def _start(self) -> None:
        if not self._is_started:
            # A daemon: a program that ends does not wait for a thread that waits for calls.
            threading.Thread(target=_work, args=(self._calls,), name="disk work", daemon=True).start()
            self._is_started = True
            weakref.finalize(self, self._calls.put, None)


def _work(calls: "SimpleQueue[_Call | None]") -> None:
    """The thread of a ThreadWorker."""
    while (call := calls.get()) is not None:
        fn, task, token = call
        result = outcome.capture(fn)
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)
        del call, fn, task, token, result  # while it waits, the thread keeps nothing alive


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All of it; real where not given.

    Attributes:
        random: of elections, backoff, and ids.
        worker: writes the log.
        bulk_worker: does all that takes long beside it.
        highest_level: the highest feature level (`payload/levels.py`) that the node takes part in; None: that
            of the program. Simulations give a node a lower one, as if it ran an older version.
    """

    network: Network = field(default_factory=TcpNetwork)
    clock: Clock = field(default_factory=TrioClock)
    random: Random = field(default_factory=SystemRandom)
    worker: Worker = field(default_factory=ThreadWorker)
    bulk_worker: Worker = field(default_factory=ThreadWorker)
    highest_level: int | None = None


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, OSError):
        cause = error.__cause__
        if isinstance(cause, BaseExceptionGroup):  # trio tried several addresses
            return reason_of(cause.exceptions[0])
        if error.errno and not isinstance(error, socket.gaierror):  # whose numbers are of another kind
            return os.strerror(error.errno)
        return error.strerror or str(error)
    return str(error) or type(error).__name__
