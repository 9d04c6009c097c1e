"""A real process that serves clients over TLS, and a thousand connections that make no handshake."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import trio

from raftkv_trio.cli.open_files import make_room_for_clients
from raftkv_trio.tls.stream import TlsStream, Turns
from tests.cli.program import serving_alone
from tests.rest.serving import Wire
from tests.tls.certificates import Authority

CROWD = 1000
PLACES = 300
PATIENCE_S = 60.0
TRICKLE_S = 0.5


def hello() -> bytes:
    """How a client begins its handshake."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return sent.read()


class Crowd:
    """Connections that are silent, that send their first message byte by byte, or that speak no TLS.

    Attributes:
        ended: how many connections the server has closed.
    """

    def __init__(self, port: int) -> None:
        self.ended = 0
        self._port = port
        self._hello = hello()

    async def connect(self, begins: str) -> None:
        """Connect, and stay until dropped."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            try:
                if begins == "plain":
                    await stream.send_all(b"GET /key HTTP/1.1\r\nHost: localhost\r\n\r\n")
                for position in range(len(self._hello) - 1 if begins == "dribbling" else 0):
                    await stream.send_all(self._hello[position : position + 1])
                    await trio.sleep(TRICKLE_S)
                while await stream.receive_some(1000):
                    pass
            except trio.BrokenResourceError:
                pass  # dropped
        self.ended += 1

    async def wait_ended(self, count: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while self.ended < count:  # noqa: ASYNC110 - each of many connections counts
                await trio.sleep(0.01)


@asynccontextmanager
async def client(port: int, context: ssl.SSLContext) -> AsyncIterator[Wire]:
    """A good client's connection."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    async with TlsStream(tcp, context, Turns(), server_side=False, dialled_host="127.0.0.1") as stream:
        with trio.fail_after(PATIENCE_S):
            await stream.handshake()
        yield Wire(stream)


async def test_a_crowd_without_handshakes(ca: Authority, tmp_path: Path) -> None:
    """It takes all places, from one host, and neither an idle client's connection nor a new client's."""
    make_room_for_clients(CROWD + 100)
    pair, context = ca.node(1), ssl.create_default_context(cafile=ca.certificate)
    files = ("--cert-file", pair.certificate, "--key-file", pair.key, "--data-dir", "data")
    bounds = ("--max-connections", str(PLACES), "--header-timeout", "600", "--idle-timeout", "600")
    with serving_alone(*files, *bounds, directory=tmp_path) as node:
        await trio.to_thread.run_sync(node.wait_said, "serves clients")
        crowd = Crowd(node.port)
        async with trio.open_nursery() as nursery, client(node.port, context) as kept:
            assert (await kept.ask(b"PUT /key", b"Content-Length: 1", content=b"1")).status == 204
            for _, begins in zip(range(CROWD), cycle(["silent", "dribbling", "plain"]), strict=False):
                nursery.start_soon(crowd.connect, begins)
            await crowd.wait_ended(CROWD - PLACES)
            assert (await kept.ask(b"GET /key")).content == b"1"
            for _ in range(20):
                async with client(node.port, context) as new:
                    assert (await new.ask(b"GET /key")).content == b"1"
            assert crowd.ended < CROWD  # the places are taken all the time
            nursery.cancel_scope.cancel()
