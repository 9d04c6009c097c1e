"""The bytes of one client's connection, on a plain socket.

Trio's `SocketStream` passes through the scheduler for each send, also if the system takes all bytes at once,
as it nearly always does. Here a task waits only if it has to, which saves a quarter of a small request.
"""

import os

import trio

#: The other end is gone, or this end is closed already.
Gone = (OSError, trio.ClosedResourceError)


class PlainTransport:
    """An accepted connection, for one task that receives and one that sends.

    Its methods raise `Gone` if the connection is broken; then nothing but `close` makes sense any more.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()

    @property
    def socket(self) -> trio.socket.SocketType:
        """What it stands on, to be asked for addresses."""
        return self._stream.socket

    async def receive(self, max_bytes: int) -> bytes:
        """The next bytes, at least one; none at the end of what the client sends.

        Cancellation loses nothing.
        """
        # Without this, a client that never pauses could not be cancelled.
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.receive_now(max_bytes)
        if data is not None:
            # A client that always has something to read must not keep the other tasks waiting.
            await trio.lowlevel.cancel_shielded_checkpoint()
        while data is None:  # also later: the system may call a socket readable by mistake
            await trio.lowlevel.wait_readable(self._fd)
            data = self.receive_now(max_bytes)
        return data

    def receive_now(self, max_bytes: int) -> bytes | None:
        """What has arrived, none at the end of what the client sends; None if nothing has arrived."""
        try:
            return os.read(self._fd, max_bytes)
        except BlockingIOError:
            return None

    def send_now(self, data: bytes | memoryview) -> int:
        """Send as much as the system takes at once, perhaps nothing; returns how many bytes those were."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    async def send(self, data: memoryview) -> None:
        """Send all of it. Cancellation leaves a part of it sent."""
        while data:
            sent = self.send_now(data)
            data = data[sent:]
            if data:
                await trio.lowlevel.wait_writable(self._fd)

    def send_eof(self) -> None:
        """Tell the client that nothing more comes."""
        self._stream.socket.shutdown(trio.socket.SHUT_WR)

    def close(self) -> None:
        """Close it at once."""
        self._fd = -1
        self._stream.socket.close()
