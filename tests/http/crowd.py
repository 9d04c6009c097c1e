"""A crowd of clients that are idle or slow, and a good one among them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from statistics import quantiles
from typing import NamedTuple

import httpx
import trio

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
BIG = b"b" * 1_000_000
TRICKLE_S = 0.5
DEADLINE_S = 60


class Latencies(NamedTuple):
    """Of a good client's requests, in seconds."""

    median_s: float
    p95_s: float


async def be_idle(port: int, connected: trio.Semaphore) -> None:
    """Say nothing, and come back when dropped."""
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            connected.release()
            await _hang_on(stream)


async def be_slow(port: int, connected: trio.Semaphore, beginning: bytes, trickle: bytes) -> None:
    """Begin a request, go on byte by byte, read nothing, and come back when dropped."""
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            connected.release()
            try:
                await stream.send_all(beginning)
                while trickle:
                    await stream.send_all(trickle)
                    await trio.sleep(TRICKLE_S)
                await trio.sleep(DEADLINE_S)
            except trio.BrokenResourceError:
                pass  # dropped


SLOW = [
    (b"GET /", b"x"),
    (b"GET /key" + HEAD, b"X: y\r\n"),
    (b"PUT /slow" + HEAD + b"Content-Length: 1000000\r\n\r\n" + BIG[:100_000], b"x"),
    (b"PUT /slow" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ((b"GET /big" + HEAD + b"\r\n") * 100, b""),
]


@asynccontextmanager
async def crowd(port: int, idle: int, slow: int) -> AsyncIterator[None]:
    """So many idle and slow clients, each of which has connected."""
    connected = trio.Semaphore(0)
    async with trio.open_nursery() as nursery:
        for _ in range(idle):
            nursery.start_soon(be_idle, port, connected)
        for _, (beginning, trickle) in zip(range(slow), cycle(SLOW), strict=False):
            nursery.start_soon(be_slow, port, connected, beginning, trickle)
        with trio.fail_after(DEADLINE_S):
            for _ in range(idle + slow):
                await connected.acquire()
        yield
        nursery.cancel_scope.cancel()


async def upload_and_stall(port: int, answered: Callable[[bytes], None]) -> None:
    """Send most of a value, and wait for what comes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            await stream.send_all(b"PUT /stalled" + HEAD + b"Content-Length: 1500000\r\n\r\n" + BIG)
            answered(bytes(await stream.receive_some(1000)))
        except trio.BrokenResourceError:
            answered(b"")  # refused, and reset


async def be_good(url: str, requests: int) -> Latencies:
    """Write and read in turn, checking each answer."""
    taken = []
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:
        assert (await client.put("/big", content=BIG)).status_code == 204
        for number in range(requests):
            value, begun_at = b"%d" % number, time.perf_counter()
            assert (await client.put("/good", content=value)).status_code == 204
            assert (await client.get("/good")).content == value
            taken.append(time.perf_counter() - begun_at)
    cuts = quantiles(taken, n=20)
    return Latencies(cuts[9], cuts[18])


async def _hang_on(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(1000):
            pass
    except trio.BrokenResourceError:
        pass  # dropped
