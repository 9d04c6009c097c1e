"""A client that sends what it was told to, whatever the server makes of it."""

import socket
import struct
from collections.abc import Iterable


def exchange(port: int, pieces: Iterable[bytes], deadline_s: float, *, reads: bool) -> bytes:
    """Send the pieces, and return what came back; nothing if the server ends the connection meanwhile.

    Args:
        reads: whether the client stays to read; else it resets the connection.
    """
    with socket.create_connection(("127.0.0.1", port), deadline_s) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.sendall(piece)
            if not reads:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            client.shutdown(socket.SHUT_WR)
        except OSError:
            return b""  # refused, and reset, before all was sent
        received = b""
        try:
            while data := client.recv(65536):
                received += data
        except ConnectionResetError:
            pass  # what had come before it has come
    return received
