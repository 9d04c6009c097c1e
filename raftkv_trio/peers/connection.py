"""What all connections between nodes share: how a frame is read, and which errors end a connection alone."""

import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.framing import FrameDecoder

#: How much is read from a connection at once.
RECEIVE_BYTES = 256 * 1024
#: What the network does to a connection. It ends the connection, never the node.
CONNECTION_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class StreamEnded(PeerProtocolError):
    """The other end has closed the connection, and a frame was expected."""


async def receive_payload(stream: trio.abc.Stream, decoder: FrameDecoder) -> bytes:
    """The next frame's payload.

    Raises StreamEnded if the stream ends first, PeerProtocolError for bytes that are no frame, and what a
    stream raises.

    After a cancellation, the bytes that have arrived stay in `decoder`.
    """
    while True:
        for payload in decoder:
            return payload
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise StreamEnded("the peer closed the connection")
        decoder.feed(data)
