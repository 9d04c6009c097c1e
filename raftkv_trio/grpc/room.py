"""Room for what a client is to read: how much may wait on a connection, and who waits until it is less.

- A streaming handler waits while too much of its own stream, or of the connection, waits to be read.
- A unary response is queued whole. It waits for room if it finds others there; if too many wait like it, its
  call ends with RESOURCE_EXHAUSTED. Other calls go on.
- What is not asked for here, such as answers to PINGs, is bounded too: beyond `max_queue_bytes`, or beyond
  `max_all_queue_bytes` on all connections, the connection ends.
"""

from collections.abc import Callable

import trio

from raftkv_trio.grpc.limits import Limits
from raftkv_trio.grpc.rpc import Code, RpcError, too_large_to_send
from raftkv_trio.grpc.server_end import Call, Load, ServerEnd

#: How much of a streaming call may wait for the client before its handler waits too.
SEND_AHEAD_BYTES = 64 * 1024
#: So much may always wait, uncounted.
SMALL_BYTES = 64 * 1024
TOO_MANY_WAIT = "grpc: too many bytes of responses wait to be read; read them, and retry"


class Room:
    """The room of one connection.

    Args:
        end: whose output it is about.
        load: of all connections of the server.
    """

    def __init__(self, end: ServerEnd, limits: Limits, load: Load) -> None:
        self._end = end
        self._limits = limits
        self._load = load
        self._counted_bytes = 0  # of this connection, in the load's count
        # Streaming handlers that wait until the socket has taken more. For its own window each waits alone:
        # one that grows by a byte must not cost a look at each stream.
        self._streams = trio.lowlevel.ParkingLot()
        self._turn = trio.Lock()  # of unary responses that wait
        self._responses = trio.lowlevel.ParkingLot()  # the first of these
        self._waiting_bytes = 0  # of all of these

    @property
    def is_left(self) -> bool:
        """Whether so little waits for the socket that another call may begin."""
        return self._end.output_bytes <= self._limits.soft_queue_bytes

    def is_left_for(self, call: Call) -> bool:
        """Whether a stream may send one more message."""
        return (
            call.unsent_bytes < SEND_AHEAD_BYTES and self._end.output_bytes <= self._limits.soft_queue_bytes
        )

    # ------------------------------------------------------------ who waits

    async def for_message(
        self, call: Call, of_stream: trio.lowlevel.ParkingLot, flush: Callable[[], None]
    ) -> None:
        """Wait until a stream may send one more message.

        Args:
            of_stream: unparked when less of the stream waits.
        """
        while not self.is_left_for(call):
            if self._end.output:
                flush()
            await (of_stream if call.unsent_bytes >= SEND_AHEAD_BYTES else self._streams).park()

    async def for_response(self, size: int) -> None:
        """Wait until a unary response of so many bytes may be queued.

        Raises RpcError if it is too large to be queued at all, or if too many bytes wait already.
        Cancellation leaves nothing behind.
        """
        limits, load = self._limits, self._load
        if size > limits.max_response_bytes:
            raise too_large_to_send(size, limits.max_response_bytes)
        held = self._end.queued_bytes + self._waiting_bytes + size
        if held > limits.soft_queue_bytes and load.queued_bytes + size > limits.max_all_queue_bytes:
            raise RpcError(Code.RESOURCE_EXHAUSTED, TOO_MANY_WAIT)
        if self._fits(size):
            return
        if self._waiting_bytes + size > limits.max_response_bytes:
            raise RpcError(Code.RESOURCE_EXHAUSTED, TOO_MANY_WAIT)
        self._waiting_bytes += size
        self.count()
        try:
            async with self._turn:
                while not self._fits(size):
                    await self._responses.park()
        finally:
            self._waiting_bytes -= size

    def _fits(self, size: int) -> bool:
        return self._end.queued_bytes + size <= self._limits.max_response_bytes

    # ------------------------------------------------------------ what waits

    def note_sent(self) -> None:
        """The socket has taken what waited for it: wake those that wait for that."""
        if self._counted_bytes:
            self.count()
        if self._streams and self.is_left:
            self._streams.unpark_all()
        if self._waiting_bytes:
            self._responses.unpark_all()

    def note_sent_at_once(self) -> None:
        """The same, when the connection has been quiet: nobody waits on it."""
        if self._counted_bytes:
            self.count()

    def note_reset(self) -> None:
        """A client may have reset a call whose response waited for a window."""
        if self._waiting_bytes:
            self._responses.unpark_all()

    def count(self) -> bool:
        """Count what waits; False if it is too much."""
        end, limits, load = self._end, self._limits, self._load
        if self._waiting_bytes:
            self._responses.unpark_all()
        queued = end.output_bytes + end.unsent_bytes
        held = queued + self._waiting_bytes
        if held <= SMALL_BYTES and not self._counted_bytes:
            return True
        load.queued_bytes += held - self._counted_bytes
        self._counted_bytes = held
        return queued <= limits.max_queue_bytes and (
            queued <= limits.soft_queue_bytes or load.queued_bytes <= limits.max_all_queue_bytes
        )

    def give_back(self) -> None:
        """The connection is over: nothing of it counts any more."""
        self._load.queued_bytes -= self._counted_bytes
        self._counted_bytes = 0
