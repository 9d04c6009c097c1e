"""A real node behind the real REST server, and a client that sends exactly the bytes it is given."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import trio

from raftkv_trio.config import NodeConfig, PeerAddress, RestConfig
from raftkv_trio.kv import Store
from raftkv_trio.node import Node, run_node
from raftkv_trio.rest import make_app, serve_rest

PATIENCE_S = 30.0  # for what must happen soon, on however slow a machine
ALONE = {1: PeerAddress("127.0.0.1", 1)}  # never dialled: a node has no connection to itself


class Answer(NamedTuple):
    """A response as it was on the wire."""

    status: int
    headers: httpx.Headers
    content: bytes


class Wire:
    """One connection to a server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *parts: bytes) -> None:
        await self.stream.send_all(b"".join(parts))

    async def ask(self, request_line: bytes, *fields: bytes, content: bytes = b"") -> Answer:
        """Send a request to HTTP/1.1, with Host, and return its answer."""
        head = b"\r\n".join([request_line + b" HTTP/1.1", b"Host: test", *fields])
        await self.send(head, b"\r\n\r\n", content)
        return await self.answer(request_line.partition(b" ")[0])

    async def answer(self, method: bytes = b"GET") -> Answer:
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
        check_cache_control(int(status), headers)
        return Answer(int(status), headers, content)

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


class Served(NamedTuple):
    """A node that serves; `port` is its REST port."""

    node: Node
    store: Store
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Wire(stream)

    async def ask(self, request_line: bytes, *fields: bytes, content: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        async with self.connect() as wire:
            return await wire.ask(request_line, *fields, content=content)


@asynccontextmanager
async def open_server(
    directory: Path, config: RestConfig | None = None, members: Mapping[int, PeerAddress] = ALONE
) -> AsyncIterator[Served]:
    """Node 1 of `members` and its REST server, on ports that the system chooses; cancelled at the end."""
    config = config or RestConfig(port=0)
    listen = PeerAddress("127.0.0.1", 0)
    node_config = NodeConfig(node_id=1, members=members, data_dir=directory, listen=listen)
    store = Store()
    async with trio.open_nursery() as node_nursery:
        node = await node_nursery.start(run_node, node_config, store)
        async with trio.open_nursery() as rest_nursery:
            port = await rest_nursery.start(serve_rest, make_app(node, store, config), config)
            yield Served(node, store, port)
            rest_nursery.cancel_scope.cancel()
        node_nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An ordinary HTTP client that checks on every response what every response must have."""

    async def check(response: httpx.Response) -> None:
        check_cache_control(response.status_code, response.headers)

    async with httpx.AsyncClient(
        base_url=served.url, event_hooks={"response": [check]}, timeout=PATIENCE_S
    ) as client:
        yield client


def check_cache_control(status: int, headers: httpx.Headers) -> None:
    """Every final response of this server, whatever it says, is not to be stored."""
    assert status < 200 or headers.get_list("Cache-Control") == ["no-store"]
