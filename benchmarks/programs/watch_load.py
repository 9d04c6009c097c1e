"""Watches of single keys, on some connections, while the keys are put at a rate: prints JSON.

    python -m benchmarks.programs.watch_load PORT WATCHERS KEYS STREAMS PUTS_A_SECOND SECONDS [PID]

Each watch must be told each put of its key once and in order. The time of a delivery is from before the put
is sent until the watch's response is read. With the server's PID it also tells what a watch costs in memory.

With a rate of 0 each put waits until all watches were told of the one before. Then nothing is batched, and
the processor's time for a put, with its deliveries, hardly depends on what else the machine does.
"""

import json
import sys
from contextlib import AsyncExitStack
from os import sysconf
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

from raftkv_trio.grpc import Channel, ClientStream, open_channel
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.tcp_stream import TcpStream

PATIENCE_S = 60.0
_WATCH, _PUT = "/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/Put"
_PAD = b"v" * 100


def key_of(number: int) -> bytes:
    """The name of a key."""
    return b"/watched/%d" % number


class Watched:
    """What has been put, and what the watches have been told.

    Attributes:
        created: how many watches there are.
        times: how long deliveries took, in seconds.
        put_times: the same of the puts themselves.
        errors: how many events were missing, repeated or out of order.
    """

    def __init__(self, keys: int, watchers: int) -> None:
        self.created = 0
        self.times: list[float] = []
        self.put_times: list[float] = []
        self.errors = 0
        self.put = [0] * keys  # how often
        self._sent: dict[tuple[int, int], float] = {}
        self._next = [0] * watchers  # of each watch: the number of the next put
        self.changed = trio.Event()

    def sends(self, key: int) -> bytes:
        """A key is about to be put; its value."""
        number = self.put[key]
        self._sent[key, number] = perf_counter()
        self.put[key] += 1
        return b"%d %b" % (number, _PAD)

    def told(self, response: rpc_pb2.WatchResponse, first_watcher: int) -> None:
        """What a stream was told, whose first watch has this number."""
        if response.created:
            self.created += 1
        now, watcher = perf_counter(), first_watcher + response.watch_id
        for event in response.events:
            key, number = watcher % len(self.put), int(event.kv.value.partition(b" ")[0])
            self.errors += event.kv.key != key_of(key) or number != self._next[watcher]
            self._next[watcher] = number + 1
            self.times.append(now - self._sent[key, number])
        self.changed.set()

    def watches_of(self, key: int) -> int:
        """How many watches a key has."""
        return len(range(key, len(self._next), len(self.put)))

    @property
    def is_complete(self) -> bool:
        """Whether all was told."""
        return all(told == self.put[watcher % len(self.put)] for watcher, told in enumerate(self._next))


async def main(
    port: int, watchers: int, keys: int, streams: int, rate: int, seconds: float, pid: int | None
) -> None:
    """Watch, put, and print what was seen."""
    watched = Watched(keys, watchers)
    per_stream = watchers // streams
    async with AsyncExitStack() as stack:
        putting = await _connect(stack, port)
        for number in range(keys):  # a first value, so that the memory of keys counts for nothing
            request = rpc_pb2.PutRequest(key=key_of(number), value=_PAD)
            await putting.call(_PUT, request.SerializeToString())
        before = _rss(pid)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for number in range(streams):
            channel = await _connect(stack, port)
            stream = await stack.enter_async_context(channel.stream(_WATCH))
            nursery.start_soon(_receive, stream, watched, number * per_stream)
            nursery.start_soon(_create, stream, number * per_stream, per_stream, keys)
        await _until(watched, lambda: watched.created == watchers)
        after = _rss(pid)
        begun, cpu_s = perf_counter(), _cpu_s(pid)
        if rate:
            await _put_all(putting, watched, rate, seconds)
        else:
            await _put_one_by_one(putting, watched, seconds)
        await _until(watched, lambda: watched.is_complete)
        took_s, cpu_s = perf_counter() - begun, _cpu_s(pid) - cpu_s
        nursery.cancel_scope.cancel()
    times, put_times = sorted(watched.times), sorted(watched.put_times)
    figures: dict[str, Any] = {
        "events": len(times),
        "errors": watched.errors,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[len(times) * 99 // 100],
        "put_p50_ms": 1000 * put_times[len(put_times) // 2],
        "bytes_per_watch": (after - before) / watchers,
        "server_cpu": cpu_s / took_s,
        "server_cpu_ms_per_put": 1000 * cpu_s / sum(watched.put),
        "puts_per_s": sum(watched.put) / took_s,
        "puts": sum(watched.put),
    }
    print(json.dumps(figures))


async def _connect(stack: AsyncExitStack, port: int) -> Channel:
    stream = TcpStream(await trio.open_tcp_stream("127.0.0.1", port))
    return await stack.enter_async_context(open_channel(stream, "127.0.0.1"))


async def _create(stream: ClientStream, first: int, count: int, keys: int) -> None:
    for number in range(first, first + count):
        create = rpc_pb2.WatchCreateRequest(key=key_of(number % keys))
        await stream.send(rpc_pb2.WatchRequest(create_request=create).SerializeToString())


async def _receive(stream: ClientStream, watched: Watched, first: int) -> None:
    async for message in stream:
        watched.told(rpc_pb2.WatchResponse.FromString(message), first)


async def _put_all(channel: Channel, watched: Watched, rate: int, seconds: float) -> None:
    """Put the keys in turn, each at its time, if the put before of the same key is answered."""
    begun, keys = perf_counter(), len(watched.put)

    async def put(key: int) -> None:
        for number in range(key, int(rate * seconds), keys):
            await trio.sleep(max(0.0, begun + number / rate - perf_counter()))
            await _put(channel, watched, key)

    async with trio.open_nursery() as nursery:
        for key in range(keys):
            nursery.start_soon(put, key)


async def _put_one_by_one(channel: Channel, watched: Watched, seconds: float) -> None:
    """Put the keys in turn, each as soon as all watches were told of the put before."""
    begun, number = perf_counter(), 0
    while perf_counter() < begun + seconds:
        key = number % len(watched.put)
        number += 1
        told = len(watched.times) + watched.watches_of(key)
        await _put(channel, watched, key)
        await _until(watched, lambda told=told: len(watched.times) >= told)


async def _put(channel: Channel, watched: Watched, key: int) -> None:
    request = rpc_pb2.PutRequest(key=key_of(key), value=watched.sends(key))
    sent = perf_counter()
    await channel.call(_PUT, request.SerializeToString())
    watched.put_times.append(perf_counter() - sent)


async def _until(watched: Watched, condition: Any) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            watched.changed = trio.Event()
            await watched.changed.wait()


def _rss(pid: int | None) -> int:
    if pid is None:
        return 0
    return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def _cpu_s(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    port, watchers, keys, streams, rate, seconds, *pid = sys.argv[1:]
    trio.run(
        main,
        int(port),
        int(watchers),
        int(keys),
        int(streams),
        int(rate),
        float(seconds),
        int(pid[0]) if pid else None,
    )
