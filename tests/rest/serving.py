"""A real node behind the real REST server, and a client that sends exactly the bytes it is given."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar, TypeVarTuple

import httpx
import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig, RestConfig, WatchConfig
from raftkv_trio.http import serve_http
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node, run_node
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.rest import RestService, make_service
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.world import ThreadWorker, TrioClock, World

PATIENCE_S = 30.0  # for what must happen soon, on however slow a machine
LOCAL = PeerAddress("127.0.0.1", 0)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ALONE = {1: PeerAddress("127.0.0.1", 1)}  # never dialled: a node has no connection to itself


class WireResponse(NamedTuple):
    """A response as it was on the wire."""

    status: int
    headers: httpx.Headers
    content: bytes


class Wire:
    """One connection to a server."""

    def __init__(self, stream: trio.SocketStream | TcpStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *parts: bytes) -> None:
        await self.stream.send_all(b"".join(parts))

    async def ask(self, request_line: bytes, *fields: bytes, content: bytes = b"") -> WireResponse:
        """Send a request to HTTP/1.1, with Host, and return its answer."""
        head = b"\r\n".join([request_line + b" HTTP/1.1", b"Host: localhost", *fields])
        await self.send(head, b"\r\n\r\n", content)
        return await self.answer(request_line.partition(b" ")[0])

    async def answer(self, method: bytes = b"GET") -> WireResponse:
        """The next response, also an interim one; its end is where its Content-Length says."""
        head = await self._take_until(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        version, status, _ = status_line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = httpx.Headers(
            [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        )
        is_bodiless = int(status) < 200 or status in (b"204", b"304") or method == b"HEAD"
        content = b"" if is_bodiless else await self._take(int(headers["Content-Length"]))
        check_fields(int(status), headers)
        return WireResponse(int(status), headers, content)

    async def rest(self) -> bytes:
        """Everything until the server closes, which it must; a reset counts as that."""
        try:
            while data := await self._receive():
                self._received += data
        except trio.BrokenResourceError:
            pass  # nothing comes after it
        received, self._received = self._received, b""
        return received

    async def _take_until(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._receive_more()
        taken, _, self._received = self._received.partition(end)
        return taken

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._receive_more()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def _receive_more(self) -> None:
        data = await self._receive()
        if not data:
            raise EOFError(f"the server closed after {self._received!r}")
        self._received += data

    async def _receive(self) -> bytes:
        with trio.fail_after(PATIENCE_S):
            return bytes(await self.stream.receive_some(64 * 1024))


class Gate:
    """Open, or closed until it is opened again."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self.open()

    def close(self) -> None:
        self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()

    async def wait(self) -> None:
        await self._opened.wait()


class HeldDisk(ThreadWorker):
    """A disk that does nothing while its gate is closed, so that what is proposed stays undecided."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await self.gate.wait()
        return await super().run(fn, *args)


class HeldClock(TrioClock):
    """A clock that ticks no more while its gate is closed, so that no election comes; it may be put on."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s

    def real_now(self) -> float:
        return super().real_now() + self.ahead_s

    async def sleep_until(self, deadline: float) -> None:
        await super().sleep_until(deadline - self.ahead_s)
        await self.gate.wait()


class Served(NamedTuple):
    """A node that serves at the REST port `port`, until `stop`; `parts` are what it is made of."""

    node: Node
    parts: NodeParts
    store: Store
    disk: HeldDisk
    clock: HeldClock
    port: int
    stop: Callable[[], None]
    replicated: ReplicatedStore
    stop_watches: Callable[[], None]
    service: RestService

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Wire(stream)

    async def ask(self, request_line: bytes, *fields: bytes, content: bytes = b"") -> WireResponse:
        """One request on a connection of its own."""
        async with self.connect() as wire:
            return await wire.ask(request_line, *fields, content=content)


@asynccontextmanager
async def open_server(
    directory: Path,
    config: RestConfig | None = None,
    *,
    node_id: int = 1,
    members: Mapping[int, PeerAddress] = ALONE,
    listen: PeerAddress = LOCAL,
    max_pending_proposals: int = 1000,
    join: bool = False,
    watch: WatchConfig | None = None,
) -> AsyncIterator[Served]:
    """A node of `members` and its REST server, on a port that the system chooses; cancelled at the end."""
    config = config or RestConfig(port=0)
    node_config = NodeConfig(
        node_id=node_id,
        members=members,
        data_dir=directory,
        listen=listen,
        max_pending_proposals=max_pending_proposals,
        join=join,
        segment_bytes=1024 * 1024,  # made anew for each test
    )
    store, disk, clock = Store(), HeldDisk(), HeldClock()
    world = World(worker=disk, clock=clock)
    made: list[NodeParts] = []
    async with trio.open_nursery() as node_nursery:
        node = await node_nursery.start(partial(run_node, node_config, store, world=world, watch=made.append))
        replicated = ReplicatedStore(node, store, config, watch)
        watches_scope = trio.CancelScope()
        node_nursery.start_soon(_run_watches, replicated, watches_scope)
        service = make_service(replicated, config, watch=watch)
        serve = partial(serve_http, service, config, count_refused=service.requests.refused)
        async with open_stoppable(serve) as (port, stop):
            try:
                yield Served(
                    node, made[0], store, disk, clock, port, stop, replicated, watches_scope.cancel, service
                )
            finally:
                disk.gate.open()  # a node that ends has something to write
        node_nursery.cancel_scope.cancel()


async def _run_watches(replicated: ReplicatedStore, scope: trio.CancelScope) -> None:
    with scope:
        await replicated.watches.run()


@asynccontextmanager
async def open_stoppable(
    serve: Callable[..., Awaitable[None]],
) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """Run a server until the end of the context, or until the function is called that comes with its port."""
    scope = trio.CancelScope()  # not the nursery's, which is the test's too

    async def run(*, task_status: trio.TaskStatus[int]) -> None:
        with scope:
            await serve(task_status=task_status)

    async with trio.open_nursery() as nursery:
        yield await nursery.start(run), scope.cancel
        scope.cancel()


@asynccontextmanager
async def open_cluster(
    directory: Path, ports: Sequence[int], config: RestConfig | None = None
) -> AsyncIterator[list[Served]]:
    """Nodes 1, 2 ... on these peer ports, the leader first, with a leader that all of them know."""
    members = {node_id: PeerAddress("127.0.0.1", port) for node_id, port in enumerate(ports, start=1)}
    async with AsyncExitStack() as stack:
        nodes = []
        for node_id, listen in members.items():
            server = open_server(
                directory / str(node_id), config, node_id=node_id, members=members, listen=listen
            )
            nodes.append(await stack.enter_async_context(server))
        with trio.fail_after(PATIENCE_S):
            for served in nodes:
                await served.node.wait_readable()
        yield sorted(nodes, key=lambda served: served.node.status().role != "leader")


@asynccontextmanager
async def open_survivor(
    directory: Path,
    ports: Sequence[int],
    config: RestConfig,
    *,
    leads: bool,
    before_the_stop: Callable[[Served, Served], Awaitable[None]] | None = None,
) -> AsyncIterator[Served]:
    """One of two nodes, the leader or not, after the other has stopped; its clock is held before that.

    Args:
        before_the_stop: is called with both nodes, the leader first.
    """
    members = {node_id: PeerAddress("127.0.0.1", port) for node_id, port in enumerate(ports, start=1)}
    one, two = (
        open_server(directory / str(node_id), config, node_id=node_id, members=members, listen=address)
        for node_id, address in members.items()
    )
    async with one as survivor:
        async with two as other:
            leader, follower = (survivor, other) if leads else (other, survivor)
            with trio.fail_after(PATIENCE_S):
                await follower.node.wait_readable()
                if follower.node.status().role == "leader":
                    await follower.node.transfer_leadership()
                await leader.node.wait_readable()
            assert leader.node.status().role == "leader"
            if before_the_stop is not None:
                await before_the_stop(leader, follower)
            survivor.clock.gate.close()
        yield survivor


@asynccontextmanager
async def open_client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An ordinary HTTP client that checks on every response what every response must have.

    It says that all content is JSON, as changes under `/-/` must.
    """

    async def check(response: httpx.Response) -> None:
        check_fields(response.status_code, response.headers)

    async with httpx.AsyncClient(
        base_url=served.url,
        event_hooks={"response": [check]},
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE_S,
    ) as client:
        yield client


def check_fields(status: int, headers: httpx.Headers) -> None:
    """Every final response forbids storing it and guessing its type; no other origin may read any."""
    if status >= 200:
        assert headers.get_list("Cache-Control") == ["no-store"]
        assert headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert not [name for name in headers if name.startswith("access-control-")]
