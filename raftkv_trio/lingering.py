"""The end of a client's connection: how its last response arrives although the client still sends.

A close with unread bytes resets the connection, and the client may then see the reset instead of the response
(RFC 9112, section 9.6). So the connection is closed in one direction first, and read from for a while.
"""

from collections.abc import Callable

import trio

from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import GONE, TcpStream

LINGER_S = 1.0
LINGER_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 64 * 1024


async def linger(stream: TcpStream, refusals: Callable[[], Pace] | None) -> None:
    """Let the client read what was sent: drop what it still sends, until it stops or has had its time.

    Each 64 KiB take a turn. Else a client that is cut off, and comes again at once with megabytes of what
    nobody wants, has this node read all the time. Cancellation leaves the stream open, to be closed.

    Args:
        refusals: the pace at which the client's host is refused something; None: at any.
    """
    try:
        with trio.move_on_after(LINGER_S):
            await stream.send_eof()
            received = 0
            while received < LINGER_BYTES and (data := await stream.receive_some(PIECE_BYTES)):
                received += len(data)
                if refusals is not None and not refusals().take_turn():
                    await refusals().wait_turn()
    except GONE:
        pass  # whom there is nothing more to tell
