"""The clients of a load: one task and one connection each, one request at a time."""

from collections.abc import Iterator
from http import HTTPStatus
from math import inf
from time import perf_counter

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.load.connection import BrokenExchangeError, Connections, LoadConnection
from raftkv_trio.client.load.load import PUT, SUCCESS, Load, Requests
from raftkv_trio.client.load.tally import Tally, sentence_of
from raftkv_trio.client.load.targets import Targets
from raftkv_trio.errors import RaftKVError
from raftkv_trio.world import reason_of

#: Before a server that could not be reached, or broke a connection, is dialled again.
_RETRY_S = 0.1
_NO_ANSWER, _NO_CONNECTION = "no answer in time", "no connection in time"
#: Statuses with which a node answers that has no leader, or has lost it.
_WITHOUT_LEADER = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
#: More are not needed to write the keys, however many clients measure.
_MAX_FILLING = 64


async def fill(load: Load, server: PeerAddress, value: bytes, tally: Tally) -> None:
    """Write all keys of the load, so that reads find them.

    Raises RaftKVError if one cannot be written. After cancellation some of them are written.
    """
    requests = Requests(load, server, value)
    connections, keys = Connections(load.trust), iter(range(load.keys))
    async with trio.open_nursery() as nursery:
        for _ in range(min(load.clients, load.keys, _MAX_FILLING)):
            nursery.start_soon(_write_keys, load, server, connections, requests, keys, tally)


async def _write_keys(
    load: Load,
    server: PeerAddress,
    connections: Connections,
    requests: Requests,
    keys: Iterator[int],
    tally: Tally,
) -> None:
    try:
        with trio.fail_after(load.timeout_s) as scope:
            async with connections.open(server) as connection:
                for key in keys:
                    scope.deadline = trio.current_time() + load.timeout_s
                    status = await connection.exchange(*requests.put(key))
                    if status != SUCCESS[PUT]:
                        said = sentence_of(connection.refusal)
                        reason = f"{status}: {said}" if said else f"{status}"
                        raise RaftKVError(
                            f"there are no keys to read, since {server.url} answers PUT with status {reason}"
                        )
                    tally.filled += 1
    except (OSError, BrokenExchangeError, trio.TooSlowError) as error:
        raise RaftKVError(f"{server.url} does not take the keys: {reason_of(error)}") from error


async def run_clients(load: Load, targets: Targets, value: bytes, tally: Tally) -> None:
    """Run the clients for the time of the load, spread over the targets; they add to the tally.

    All of them write the same `value`.

    Ends at most one timeout after that time. Errors of servers are counted. Cancellation ends the run at
    once; the tally has everything until then.
    """
    tally.begin(perf_counter())
    ends_s = perf_counter() + load.duration_s
    connections = Connections(load.trust)
    try:
        async with trio.open_nursery() as following:
            following.start_soon(targets.follow_leader)
            async with trio.open_nursery() as nursery:
                for number in range(load.clients):
                    client = _Client(load, targets, number, connections, value, tally, ends_s=ends_s)
                    nursery.start_soon(client.run)
            following.cancel_scope.cancel()
    finally:
        tally.end(perf_counter())


class _Client:
    def __init__(
        self,
        load: Load,
        targets: Targets,
        number: int,
        connections: Connections,
        value: bytes,
        tally: Tally,
        ends_s: float,
    ) -> None:
        self._load = load
        self._connections = connections
        self._targets = targets
        self._number = number
        self._server = targets.server_of(number)
        self._value = value
        self._requests = Requests(load, self._server, value)
        self._tally = tally
        self._ends_s = ends_s

    async def run(self) -> None:
        """Make requests until the run ends, on a new connection after each error of one."""
        timeout_s = self._load.timeout_s
        while (left_s := self._ends_s - perf_counter()) > 0:
            self._turn_to_target()
            try:
                with trio.fail_after(min(left_s, timeout_s)) as dialling:
                    async with self._connections.open(self._server) as connection:
                        dialling.deadline = inf
                        await self._ask_over(connection)
            except trio.TooSlowError:
                if left_s >= timeout_s:  # otherwise it was the run that ended
                    self._tally.unreached[_NO_CONNECTION] += 1
                    self._targets.doubt()
            except OSError as error:
                self._tally.unreached[reason_of(error)] += 1
                self._targets.doubt()
                await trio.sleep(min(_RETRY_S, left_s))

    def _turn_to_target(self) -> None:
        if (server := self._targets.server_of(self._number)) is not self._server:
            self._server = server
            self._requests = Requests(self._load, server, self._value)

    async def _ask_over(self, connection: LoadConnection) -> None:
        """Make requests over one connection until it ends, the run does, or the load goes elsewhere."""
        operation = ""
        with trio.CancelScope() as scope:  # one for all requests: its deadline is moved
            while (
                perf_counter() < self._ends_s
                and connection.keeps_alive
                and self._targets.server_of(self._number) is self._server
            ):
                operation, request = self._requests.draw()
                scope.deadline = trio.current_time() + self._load.timeout_s
                began_s = perf_counter()
                try:
                    status = await connection.exchange(*request)
                except BrokenExchangeError as error:
                    self._tally.outcomes[operation].failures[str(error)] += 1
                    break
                self._tally.answered(operation, status, began_s, perf_counter(), connection.refusal)
                if status in _WITHOUT_LEADER:
                    self._targets.doubt()
            else:
                return
            self._targets.doubt()
            await trio.sleep(_RETRY_S)
        if scope.cancelled_caught:
            self._tally.outcomes[operation].failures[_NO_ANSWER] += 1
            self._targets.doubt()
