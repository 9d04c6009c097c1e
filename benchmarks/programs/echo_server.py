"""An HTTP server that answers every request at once. Usage: python -m benchmarks.programs.echo_server PORT"""

import sys

import httptools
import trio

_GET = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
)
_OTHER = b"HTTP/1.1 204 No Content\r\n\r\n"


class _Connection:
    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.answers: list[bytes] = []

    def on_message_complete(self) -> None:
        self.answers.append(_GET if self.parser.get_method() == b"GET" else _OTHER)


async def _serve(stream: trio.SocketStream) -> None:
    connection = _Connection()
    try:
        async for data in stream:
            connection.parser.feed_data(data)
            if connection.answers:
                await stream.send_all(b"".join(connection.answers))
                connection.answers.clear()
    except (trio.BrokenResourceError, httptools.HttpParserError):
        pass  # the client is gone, or is none


if __name__ == "__main__":
    trio.run(trio.serve_tcp, _serve, int(sys.argv[1]))
