"""The end of a connection whose client goes on sending."""

import socket

import trio
import trio.testing

from raftkv_trio.lingering import LINGER_BYTES, PIECE_BYTES, linger
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.world import TrioClock


async def test_what_is_dropped_has_the_pace_of_refusals() -> None:
    """A client that comes again and again with megabytes that nobody wants has few of them read."""
    pace = Pace(TrioClock(), rate=0.001, burst=10)
    dropped = 0
    for _ in range(3):
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        stream = TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        client = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        sent = 0
        async with client, trio.open_nursery() as nursery:

            async def send(client: trio.SocketStream) -> None:
                nonlocal sent
                while sent < LINGER_BYTES:
                    await client.send_all(bytes(PIECE_BYTES))
                    sent += PIECE_BYTES

            nursery.start_soon(send, client)
            await linger(stream, lambda: pace)
            assert await client.receive_some() == b""  # and nothing was reset before
            nursery.cancel_scope.cancel()
        stream.close()
        dropped += sent
    # Ten pieces, and what the system holds of each connection.
    assert dropped < 10 * PIECE_BYTES + 3 * 16 * PIECE_BYTES
