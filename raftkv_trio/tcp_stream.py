"""A TCP connection, to a peer or to a client, that waits only if it has to.

Trio's `SocketStream` passes through the scheduler for each send, also if the system takes all bytes at once,
as it nearly always does. For a small request, or a frame of one entry, that is a good part of the whole work.
"""

import errno
import os
import select
from typing import NamedTuple

import trio

#: The other end is gone, or this end is closed: nothing but to close it makes sense any more.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
#: A larger send always passes through the scheduler, so that no loop of sends keeps other tasks waiting.
AT_ONCE_BYTES = 64 * 1024
_HAS_ENDED: int | None = getattr(select, "POLLRDHUP", None)


class Peer(NamedTuple):
    """Who is at the other end of a connection.

    Attributes:
        address: empty if it is gone, or has none, as a socket within this machine.
        name: the common name of its certificate, which was verified; None: it has shown none.
    """

    address: str = ""
    name: str | None = None


class TcpStream(trio.abc.HalfCloseableStream):
    """A connected socket, for one task at a time that receives and one that sends.

    Unlike other streams of Trio, a send that has no need to wait has no checkpoint.

    Args:
        stream: takes over its socket.
    """

    def __init__(self, stream: "trio.SocketStream | TcpStream") -> None:
        self.socket: trio.socket.SocketType = stream.socket
        self._fd = stream.socket.fileno()

    def peer(self) -> Peer:
        """Who is at the other end; with TLS, after the handshake."""
        try:
            name = self.socket.getpeername()
        except OSError:
            return Peer()
        return Peer(str(name[0])) if isinstance(name, tuple) else Peer()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as the system takes at once, perhaps nothing; returns how many bytes those were."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _resource_error(error) from error

    def has_ended(self) -> bool:
        """Whether the other end is known to send nothing more, after what may be received still.

        Never true before that is received where the system cannot tell (Linux can).
        """
        if _HAS_ENDED is None:
            return False
        poll = select.poll()
        poll.register(self._fd, _HAS_ENDED)
        return bool(poll.poll(0))

    def receive_now(self, max_bytes: int) -> bytes | None:
        """What has arrived, none at the end of what the other end sends; None if nothing has arrived."""
        try:
            return os.read(self._fd, max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _resource_error(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Cancellation, which only a wait notices, leaves a part of it sent."""
        sent = self.send_now(data)
        if len(data) > AT_ONCE_BYTES:
            await trio.lowlevel.checkpoint()
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                await trio.lowlevel.wait_writable(self._fd)
                rest = rest[self.send_now(rest) :]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the system takes more."""
        await trio.lowlevel.wait_writable(self._fd)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, at least one; none at the end of what the other end sends.

        Cancellation loses nothing.
        """
        size = max_bytes or AT_ONCE_BYTES
        # Without this, an end that never pauses could not be cancelled.
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.receive_now(size)
        if data is not None:
            # An end that always has something to say must not keep the other tasks waiting.
            await trio.lowlevel.cancel_shielded_checkpoint()
        while data is None:  # also later: the system may call a socket readable by mistake
            await trio.lowlevel.wait_readable(self._fd)
            data = self.receive_now(size)
        return data

    async def send_eof(self) -> None:
        """Tell the other end that nothing more comes; it may still send."""
        try:
            self.socket.shutdown(trio.socket.SHUT_WR)
        except OSError as error:
            raise _resource_error(error) from error
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it at once; whoever waits for it gets ClosedResourceError."""
        self._fd = -1
        self.socket.close()

    async def aclose(self) -> None:
        """Do what `close` does, also if cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()


class TcpListener(trio.abc.Listener[TcpStream]):
    """Hands out connections as `TcpStream`; takes over the socket of Trio's listener."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.socket = listener.socket
        self._listener = listener

    async def accept(self) -> TcpStream:
        """Wait for a connection. Raises OSError if no file descriptor is free. Cancellation loses none."""
        return TcpStream(await self._listener.accept())

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


def _resource_error(error: OSError) -> Exception:
    if error.errno == errno.EBADF:
        return trio.ClosedResourceError("the stream is closed")
    return trio.BrokenResourceError(f"the connection is broken: {error}")
