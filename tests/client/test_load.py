"""The parts of a load: its times, its connections, and what it counts when servers fail."""

import random
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.load.clients import fill, run_clients
from raftkv_trio.client.load.connection import BrokenExchangeError, LoadConnection
from raftkv_trio.client.load.latencies import Latencies
from raftkv_trio.client.load.load import GET, PUT, Load, Requests
from raftkv_trio.client.load.report import BOUNDS_S, as_text
from raftkv_trio.client.load.tally import Tally
from raftkv_trio.client.load.targets import Targets
from raftkv_trio.client.login import Login
from raftkv_trio.client.members import Members, why_no_leader
from raftkv_trio.errors import RaftKVError, leaves
from raftkv_trio.tcp_stream import TcpStream
from tests.client.stranger import open_stranger


def load_of(
    operation: str,
    *,
    clients: int = 2,
    keys: int = 10,
    value_bytes: int = 3,
    duration_s: float = 0.4,
    read_percent: int = 50,
    timeout_s: float = 10.0,
) -> Load:
    """A small load."""
    return Load(
        operation=operation,
        clients=clients,
        keys=keys,
        value_bytes=value_bytes,
        duration_s=duration_s,
        read_percent=read_percent,
        timeout_s=timeout_s,
    )


def test_percentiles_are_right_to_one_percent() -> None:
    """Compared with sorted lists: never too low, and at most one percent too high."""
    drawn = random.Random(1)
    for scale in (1e-5, 1e-3, 1.0):
        times = sorted(drawn.lognormvariate(0, 2) * scale for _ in range(5000))
        latencies = Latencies()
        for time in times:
            latencies.observe(time)
        for percent in (1, 50, 90, 99, 99.9, 100):
            exact = times[-(-len(times) * int(percent * 10) // 1000) - 1]
            assert exact * 0.9999999 <= (latencies.percentile(percent) or 0) <= max(exact * 1.01, 1e-6)
        assert (latencies.count, latencies.max_s) == (5000, times[-1])
        assert sum(latencies.histogram(BOUNDS_S)) == 5000


def test_times_at_the_ends() -> None:
    """Times beyond all buckets count, and without any time there is no percentile."""
    latencies = Latencies()
    assert latencies.percentile(50) is None
    for time in (0.0, 1e-9, 1e9):
        latencies.observe(time)
    assert latencies.percentile(50) == pytest.approx(1e-6)
    assert latencies.max_s == 1e9
    assert latencies.histogram([1.0]) == [2, 1]


@asynccontextmanager
async def connection_and_server() -> AsyncIterator[tuple[LoadConnection, trio.SocketStream]]:
    """A connection, and the other end of it."""
    ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
    async with ours, theirs:
        yield LoadConnection(TcpStream(ours)), theirs


async def answers(*replies: bytes) -> list[int]:
    """The statuses of the exchanges that a server answers with these bytes, until an error."""
    async with connection_and_server() as (connection, server):
        statuses = []
        for reply in replies:
            await server.send_all(reply)
            statuses.append(await connection.exchange(b"?"))
        return [*statuses, connection.keeps_alive]


async def test_responses_of_every_framing() -> None:
    """Content by length, in chunks, none; interim responses are not counted."""
    assert await answers(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ) == [200, 204, 200, 503, True]
    assert await answers(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n") == [204, False]


async def test_what_is_no_response() -> None:
    """It breaks the exchange, with a reason."""
    with pytest.raises(BrokenExchangeError, match="no HTTP response"):
        await answers(b"\x15\x03\x01\0\x02\x02\x50")
    async with connection_and_server() as (connection, server):
        await server.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        await server.send_eof()
        with pytest.raises(BrokenExchangeError, match="connection closed"):
            await connection.exchange(b"?")
        await server.aclose()
        with pytest.raises(BrokenExchangeError, match="connection broken"):
            await connection.exchange(b"?")


def test_mixed_draws_both() -> None:
    """In the share that was asked for, on all keys."""
    load = load_of("mixed", read_percent=25)
    requests = Requests(load, PeerAddress("::1", 9121), load.new_value())
    drawn = [(operation, b"".join(pieces)) for operation, pieces in (requests.draw() for _ in range(1000))]
    reads = [request for operation, request in drawn if operation == GET]
    assert 150 < len(reads) < 350
    assert len(set(reads)) == 10
    assert all(request.startswith(b"PUT /bench/") for operation, request in drawn if operation == PUT)
    assert b"\r\nHost: [::1]:9121\r\n" in b"".join(requests.put(0))


def test_who_asks_is_in_each_request() -> None:
    """But not without TLS, if the endpoints had it."""
    for needs_tls in (False, True):
        login = Login(user="ann", password="50%", needs_tls=needs_tls)
        load = replace(load_of(PUT), login=login)
        request = b"".join(Requests(load, PeerAddress("::1", 9121), b"123").put(0))
        assert (b"\r\nAuthorization: Basic YW5uOjUwJQ==\r\n" in request) == (not needs_tls)
        assert request.endswith(b"\r\n\r\n123")


async def test_failures_are_counted() -> None:
    """A server that is not there, one that never answers, one that closes, and one that refuses."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    silent = PeerAddress("127.0.0.1", listener.socket.getsockname()[1])
    load = load_of(GET, keys=1, timeout_s=0.15)

    tally = Tally.of(load)
    with trio.fail_after(30):
        await run_clients(load, Targets([silent]), b"", tally)
    assert tally.outcomes[GET].errors["no answer in time"] >= 2
    await listener.aclose()

    tally = Tally.of(load)
    await run_clients(load, Targets([silent]), b"", tally)
    assert tally.unreached["Connection refused"] >= 2
    assert (tally.succeeded, tally.elapsed_s >= 0.4) == (0, True)

    for reply, failure in (
        (b"", "connection closed"),
        (b"HTTP/1.0 404 No\r\nContent-Length: 0\r\n\r\n", "404"),
    ):
        async with trio.open_nursery() as nursery:
            server = await open_stranger(nursery, {"/bench/0": reply})
            tally = Tally.of(load)
            await run_clients(load, Targets([server.address]), b"", tally)
            nursery.cancel_scope.cancel()
        assert tally.outcomes[GET].errors[failure] >= 2
    assert "get: " in as_text(load, Targets([silent]), tally)


async def test_connections_that_are_not_made() -> None:
    """A host that lets connections wait is told apart from a server that does not answer."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(3)]
    with ExitStack() as closing:
        for each in (listener, *waiting):
            closing.enter_context(each)
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        load = load_of(GET, keys=1, timeout_s=0.15)
        tally = Tally.of(load)
        await run_clients(load, Targets([PeerAddress("127.0.0.1", listener.getsockname()[1])]), b"", tally)
    assert tally.unreached["no connection in time"] >= 2
    assert (tally.failed, tally.outcomes[GET].errors) == (tally.unreached.total(), {})


def test_why_there_is_no_leader_to_load() -> None:
    """Nobody leads, or nobody who was asked knows where the leader serves clients."""
    assert why_no_leader(Members(None, [])).startswith("no leader is known; see `raftkv-trio status`")
    assert why_no_leader(Members(3, [{"id": 3, "client_url": None}])).startswith("node 3 leads, but ")
    malformed = Members(3, [{"id": 3, "client_url": "a\n"}])
    assert why_no_leader(malformed) == "node 3 leads, and announces a malformed client URL: a\\n"


async def test_all_clients_write_one_value() -> None:
    """Large values are in memory once, however many clients write them, and no request copies them."""
    load = load_of(PUT, clients=50, value_bytes=1_000_000, duration_s=0.2)
    requests = Requests(load, PeerAddress("::1", 9121), value := load.new_value())
    assert all(requests.put(key)[-1] is value for key in range(3))
    tracemalloc.start()
    try:
        await run_clients(load, Targets([PeerAddress("127.0.0.1", 1)]), value, Tally.of(load))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * load.value_bytes


def test_the_longest_time_without_a_success() -> None:
    """From the begin of the run to its end; responses that are no success do not end it."""
    tally = Tally.of(load_of("mixed"))
    tally.begin(100.0)
    for operation, status, ended_s in (
        (GET, 200, 101.0),
        (PUT, 503, 103.0),
        (PUT, 204, 104.5),
        (GET, 200, 105),
    ):
        tally.answered(operation, status, ended_s - 0.1, ended_s, b"")
    assert tally.longest_stall_s == 3.5
    tally.end(109.0)
    assert tally.longest_stall_s == 4.0
    text = as_text(load_of("mixed", clients=1, keys=1), Targets([PeerAddress("::1", 9121)]), tally)
    assert "\nlongest time without a success: 4.00 s\n" in text
    assert "\nput: 1 time status 503\n" in text
    assert ": 1 client, values of 3 bytes, 1 key, 9.0 s\n" in text


async def test_keys_that_cannot_be_written() -> None:
    """Nothing is read then: the error says what the server answers."""
    load = load_of(GET, keys=5, value_bytes=0)
    async with trio.open_nursery() as nursery:
        reply = b"HTTP/1.1 507 Full\r\nContent-Length: 8\r\n\r\nno\x1b room"
        server = await open_stranger(nursery, {f"/bench/{key}": reply for key in range(5)})
        tally = Tally.of(load)
        with pytest.raises(ExceptionGroup) as raised:
            await fill(load, server.address, b"", tally)
        nursery.cancel_scope.cancel()
    said = {str(leaf) for leaf in leaves(raised.value) if isinstance(leaf, RaftKVError)}
    url = server.address.url
    assert said == {f"there are no keys to read, since {url} answers PUT with status 507: no\\x1b room"}
