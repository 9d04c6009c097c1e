"""A small gRPC service behind a real socket, and what it has seen."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import trio

from raftkv_trio.grpc import Code, GrpcConnection, Limits, Load, Metadata, Method, RpcError, Send
from raftkv_trio.tcp_stream import TcpStream

NO_GRPCIO = "grpcio is not installed: it may have no wheel for this Python version"


class Raw:
    """A message that is its bytes; no bytes that begin with `!` are one."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def SerializeToString(self) -> bytes:
        return self.content

    @classmethod
    def FromString(cls, data: bytes, /) -> Self:
        if data[:1] == b"!":
            raise ValueError("it begins with !")
        return cls(data)


class EchoService:
    """Methods for tests, all of the service `test.Echo`.

    Attributes:
        begun: the names of the methods that were called.
        cancelled: the same of those that were cancelled.
        seen: the metadata of the last call.
        changed: set, and replaced, at each change of these.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.seen: Metadata = {}
        self.changed = trio.Event()
        self.gate = trio.Event()

    def methods(self) -> dict[str, Method]:
        unary = {
            "Echo": self.echo,
            "Wait": self.wait,
            "Fail": self.fail,
            "Crash": self.crash,
            "Big": self.big,
        }
        streams = {
            "Chat": self.chat,
            "Count": self.count,
            "Together": self.together,
            "Collect": self.collect,
            "Hang": self.hang,
        }
        table = [Method(f"/test.Echo/{name}", Raw, Raw, handler) for name, handler in unary.items()]
        table += [
            Method(f"/test.Echo/{name}", Raw, Raw, handler, True, True) for name, handler in streams.items()
        ]
        return {method.path: method for method in table}

    def change(self) -> None:
        """Wake those that wait for one."""
        self.changed.set()
        self.changed = trio.Event()

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(10):
            while not is_so():
                await self.changed.wait()

    async def echo(self, request: Raw, metadata: Metadata) -> Raw:
        """The request."""
        self.seen = metadata
        return request

    async def wait(self, request: Raw, metadata: Metadata) -> Raw:
        """The request, once the gate is open."""
        self.begun.append("Wait")
        self.change()
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.cancelled.append("Wait")
            self.change()
            raise
        return request

    async def fail(self, request: Raw, metadata: Metadata) -> Raw:
        raise RpcError(Code.NOT_FOUND, request.content.decode())

    async def crash(self, request: Raw, metadata: Metadata) -> Raw:
        raise ZeroDivisionError("planted")

    async def big(self, request: Raw, metadata: Metadata) -> bytes:
        """So many bytes."""
        return bytes(int(request.content))

    async def chat(self, requests: AsyncIterator[Raw], metadata: Metadata, send: Send) -> None:
        """Each request, as it comes."""
        async for request in requests:
            await send(request)

    async def count(self, requests: AsyncIterator[Raw], metadata: Metadata, send: Send) -> None:
        """So many messages of a kilobyte; fails after them if there were seven."""
        count = int((await anext(requests)).content)
        for _ in range(count):
            await send(Raw(b"c" * 1024))
        if count == 7:
            raise RpcError(Code.OUT_OF_RANGE, "seven")

    async def together(self, requests: AsyncIterator[Raw], metadata: Metadata, send: Send) -> None:
        """For each request so many messages of a byte, which may leave together."""
        async for request in requests:
            for left in reversed(range(int(request.content))):
                await send(Raw(b"t"), more=left > 0)

    async def collect(self, requests: AsyncIterator[Raw], metadata: Metadata, send: Send) -> None:
        """All requests in one message."""
        await send(Raw(b"".join([request.content async for request in requests])))

    async def hang(self, requests: AsyncIterator[Raw], metadata: Metadata, send: Send) -> None:
        """One message, and then nothing until the client goes away."""
        self.begun.append("Hang")
        self.change()
        await send(Raw(b"first"))
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.append("Hang")
            self.change()


class Served(NamedTuple):
    """A service at `port`."""

    port: int
    service: EchoService
    connections: list[GrpcConnection]  # those that are open
    nursery: trio.Nursery  # of the connections


@asynccontextmanager
async def open_echo(limits: Limits | None = None) -> AsyncIterator[Served]:
    """Serve until the end of the context."""
    service, load, connections = EchoService(), Load(), list[GrpcConnection]()

    async def serve(stream: trio.SocketStream) -> None:
        connection = GrpcConnection(TcpStream(stream), b"", service.methods(), limits or Limits(), load=load)
        connections.append(connection)
        await connection.run()
        connections.remove(connection)
        service.change()

    async with trio.open_nursery() as nursery:
        listeners: list[Any] = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield Served(port, service, connections, nursery)
        nursery.cancel_scope.cancel()
    assert (load.request_bytes, load.queued_bytes, load.parked_tasks) == (0, 0, 0)
