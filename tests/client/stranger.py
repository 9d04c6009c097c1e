"""A server that sends what a test gives it, whatever it is asked."""

import json
from collections.abc import Mapping

import trio

from raftkv_trio.addresses import PeerAddress


class Stranger:
    """A server on a free port. `answers` are the bytes that it sends, by path, `asked` its requests.

    Attributes:
        authorizations: what the requests have in the field Authorization.
    """

    def __init__(self, listener: trio.SocketListener, answers: Mapping[str, bytes]) -> None:
        self.address = PeerAddress("127.0.0.1", listener.socket.getsockname()[1])
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self._answers = answers

    async def handle(self, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        method, path, _ = request.decode().split(" ", 2)
        self.asked.append(f"{method} {path}")
        lines = request.decode().split("\r\n")
        self.authorizations += [line[15:] for line in lines if line.lower().startswith("authorization: ")]
        try:
            await stream.send_all(self._answers[path])
        except trio.BrokenResourceError:
            pass  # the client closes the connection when it has read enough


async def open_stranger(nursery: trio.Nursery, answers: Mapping[str, bytes]) -> Stranger:
    """Serve in `nursery` until that is cancelled."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Stranger(listener, answers)
    nursery.start_soon(trio.serve_listeners, server.handle, [listener])
    return server


def response(value: object, status: str = "200 OK") -> bytes:
    """An HTTP response with this JSON document."""
    content = json.dumps(value).encode()
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(content), content)
