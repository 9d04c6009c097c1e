"""What stands between a node and its peers: it passes on what they say to it, or holds it."""

import math

import trio


class Proxy:
    """Passes on what comes to one port to another; while it is `held`, nothing more gets there.

    Attributes:
        large_bytes: a connection that has said so much so far is held, until `let_large_pass`; small messages
            on others pass.
        has_large: set once there is such a connection.
        passed: how many bytes each connection has said that were passed on, in the order of their beginning.
    """

    def __init__(self, port: int, to_port: int) -> None:
        self._port = port
        self._to_port = to_port
        self._passing = trio.Event()
        self._passing.set()
        self.large_bytes = math.inf
        self.has_large = trio.Event()
        self._large_may_pass = trio.Event()
        self.passed: list[int] = []

    def let_large_pass(self) -> None:
        self._large_may_pass.set()

    def hold(self) -> None:
        self._passing = trio.Event()

    def release(self) -> None:
        """Pass on what was held, and all that comes."""
        self._passing.set()

    async def run(self, *, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        await trio.serve_tcp(self._serve, self._port, host="127.0.0.1", task_status=task_status)

    async def _serve(self, near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._to_port)
        except OSError:
            return  # the node is down: so is the connection to it
        async with far, trio.open_nursery() as nursery:
            number = len(self.passed)
            self.passed.append(0)
            nursery.start_soon(self._pass, near, far, nursery.cancel_scope, number)
            nursery.start_soon(self._pass, far, near, nursery.cancel_scope)

    async def _pass(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        both: trio.CancelScope,
        number: int | None = None,
    ) -> None:
        try:
            async for data in source:
                await self._passing.wait()
                if number is not None:
                    await self._count(number, len(data))
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass  # one end is gone: the other is told by its own
        both.cancel()

    async def _count(self, number: int, size_bytes: int) -> None:
        if self.passed[number] + size_bytes > self.large_bytes:
            self.has_large.set()
            await self._large_may_pass.wait()
        self.passed[number] += size_bytes
