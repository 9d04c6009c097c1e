"""What stands between a client and a server, and cuts connections."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import chain, repeat
from math import inf
from typing import Any

import trio

CHUNK_BYTES = 4096


class CuttingProxy:
    """Passes on what is said; a connection is cut when the server has said so much on it.

    Attributes:
        port: where it listens.
        cuts: how many connections were cut.
        refuses: whether new connections are closed at once.
    """

    def __init__(self, to_port: int, bytes_each: Iterable[int]) -> None:
        self.port = 0
        self.cuts = 0
        self.refuses = False
        self._to_port = to_port
        self._bytes_each = chain(bytes_each, repeat(inf))
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Cut all connections now."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, near: trio.SocketStream) -> None:
        if self.refuses:
            await near.aclose()
            return
        far = await trio.open_tcp_stream("127.0.0.1", self._to_port)
        async with far, trio.open_nursery() as nursery:
            self._scopes.add(nursery.cancel_scope)
            nursery.start_soon(self._pass, near, far, nursery.cancel_scope, inf)
            nursery.start_soon(self._pass, far, near, nursery.cancel_scope, next(self._bytes_each))
        self._scopes.discard(nursery.cancel_scope)

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope, most: float
    ) -> None:
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                if len(data) > most:
                    await sink.send_all(data[: int(most)])
                    self.cuts += 1
                    break
                most -= len(data)
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass  # one end is gone: the other is told by its own
        both.cancel()


@asynccontextmanager
async def open_cutting_proxy(to_port: int, bytes_each: Iterable[int] = ()) -> AsyncIterator[CuttingProxy]:
    """Listen for the block.

    Args:
        bytes_each: how much the server may say on the first connection, the second one and so on; those
            beyond are not cut by themselves.
    """
    proxy = CuttingProxy(to_port, bytes_each)
    async with trio.open_nursery() as nursery:
        listeners: list[Any] = await nursery.start(trio.serve_tcp, proxy.serve, 0)
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
