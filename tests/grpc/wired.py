"""A server's end of one connection, and a client that says what it likes."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from raftkv_trio.grpc import GrpcConnection, Limits, Load, frames
from raftkv_trio.grpc.frames import END_STREAM, HEADERS, PREFACE, settings
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream
from tests.grpc.serving import EchoService

BEGIN = PREFACE + settings({})
WIDE = PREFACE + settings({frames.INITIAL_WINDOW_SIZE: 2**30}) + frames.window_update(0, 2**30)
FOREVER_S = 60.0
SOON_S = 0.2


def limits(**changes: float) -> Limits:
    """Nothing has a deadline but what is changed."""
    patient = {"header_timeout_s": FOREVER_S, "body_timeout_s": FOREVER_S, "send_timeout_s": FOREVER_S}
    return Limits(**{**patient, **changes})  # type: ignore[arg-type]


class Wire:
    """A client that says what it likes, and what it hears."""

    def __init__(self, stream: trio.SocketStream, service: EchoService) -> None:
        self.stream = stream
        self.service = service
        self.idle: list[bool] = []
        self.connection: GrpcConnection
        self.ended = trio.Event()
        self._frames = frames.FrameBuffer()
        self._heard: list[frames.Frame] = []

    async def say(self, *pieces: bytes) -> None:
        await self.stream.send_all(b"".join(pieces))

    async def trickle(self, beginning: bytes, piece: bytes) -> None:
        """Say a piece now and then, until the connection ends."""
        try:
            await self.say(beginning)
            while True:
                await trio.sleep(SOON_S / 3)
                await self.say(piece)
        except trio.BrokenResourceError:
            pass  # it has ended

    async def hear(self, kind: int) -> frames.Frame:
        """The next frame of a kind; those before it are dropped."""
        with trio.fail_after(10):
            while True:
                while self._heard:
                    if (frame := self._heard.pop(0))[0] == kind:
                        return frame
                received = await self.stream.receive_some()
                assert received, "the connection has ended"
                self._heard += self._frames.split(bytes(received))

    async def hear_end_of_call(self) -> tuple[int, bytes]:
        """The next call that ends with a status: its stream, and the block with the status."""
        while True:
            _, flags, stream_id, block = await self.hear(HEADERS)
            if flags & END_STREAM:
                return stream_id, block

    async def hear_end(self) -> list[frames.Frame]:
        """All that comes until the connection ends."""
        with trio.fail_after(10):
            try:
                while received := await self.stream.receive_some():
                    self._heard += self._frames.split(bytes(received))
            except trio.BrokenResourceError:
                pass  # what was on its way is lost
        return self._heard


@asynccontextmanager
async def wired(
    limits: Limits,
    *,
    buffer_bytes: int | None = None,
    pace: Pace | None = None,
    first_bytes: bytes = b"",
    load: Load | None = None,
) -> AsyncIterator[Wire]:
    """A connection that is served; at its end it is over, and nothing is kept."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        if buffer_bytes is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in ends)
    wire = Wire(theirs, EchoService())
    load = load or Load()
    connection = GrpcConnection(
        TcpStream(ours),
        first_bytes,
        wire.service.methods(),
        limits,
        lambda connection, is_idle: wire.idle.append(is_idle),
        load=load,
        refusals=None if pace is None else lambda: pace,
    )
    wire.connection = connection

    async def run() -> None:
        await connection.run()
        wire.ended.set()

    async with theirs, trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield wire
        nursery.cancel_scope.cancel()
    assert (load.request_bytes, load.queued_bytes, load.parked_tasks) == (0, 0, 0)
