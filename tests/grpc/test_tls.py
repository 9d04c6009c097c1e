"""gRPC over TLS, at a port that speaks HTTP/1.1 too: grpcio wants to be told that it is HTTP/2 (ALPN)."""

import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from raftkv_trio.config import RestConfig
from raftkv_trio.grpc import GrpcConnection, Limits, open_channel
from raftkv_trio.http import Request, Response, serve_http
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream
from raftkv_trio.tls.contexts import Files
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.stream import TlsStream, Turns
from tests.grpc.serving import NO_GRPCIO, EchoService
from tests.http.services import ScriptedService, octets
from tests.tls.certificates import Authority
from tests.tls.configs import client_tls

BIG = b"x" * 2_000_000


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def hello(request: Request) -> Response:
    return octets(b"hello")


@asynccontextmanager
async def serving(ca: Authority, service: EchoService, *, secured: bool = True) -> AsyncIterator[int]:
    """A port of both protocols."""

    def http_2(
        stream: TcpStream, first: bytes, idle: Callable[[bool], None], refusals: Callable[[], Pace]
    ) -> GrpcConnection:
        return GrpcConnection(
            stream, first, service.methods(), Limits(), lambda _, is_idle: idle(is_idle), refusals=refusals
        )

    credentials = (
        await Credentials.load(Files.of_clients(client_tls(ca.node(1))), "the port") if secured else None
    )
    serve = partial(serve_http, ScriptedService(hello), RestConfig(port=0), tls=credentials, http_2=http_2)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def test_grpcio(ca: Authority) -> None:
    """Small and large messages, with TLS; and HTTP/1.1 at the same port."""
    grpc = pytest.importorskip("grpc", reason=NO_GRPCIO)
    async with serving(ca, EchoService()) as port:
        credentials = grpc.ssl_channel_credentials(ca.certificate.read_bytes())
        channel = grpc.secure_channel(f"localhost:{port}", credentials)
        try:
            echo = channel.unary_unary("/test.Echo/Echo")
            for message in (b"", b"x", BIG):
                assert await trio.to_thread.run_sync(echo, message) == message
        finally:
            channel.close()
        context = ssl.create_default_context(cafile=ca.certificate)
        async with httpx.AsyncClient(verify=context) as client:
            response = await client.get(f"https://localhost:{port}/")
        assert (response.status_code, response.content) == (HTTPStatus.OK, b"hello")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_goes_over_to_http_1_1(ca: Authority) -> None:
    """It offers both protocols, and learns from its first request, content and all, that only one will do."""
    async with serving(ca, EchoService()) as port:
        curl = ["curl", "--silent", "--show-error", "--cacert", str(ca.certificate), "--data", "{}"]
        said = await trio.run_process([*curl, f"https://localhost:{port}/"], capture_stdout=True)
    assert said.stdout == b"hello"


async def test_our_client(ca: Authority) -> None:
    """Unary calls and a stream, over TLS of our own."""
    context = ssl.create_default_context(cafile=ca.certificate)
    context.set_alpn_protocols(["h2"])
    async with serving(ca, EchoService()) as port:
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        stream = TlsStream(tcp, context, Turns(), server_side=False, dialled_host="localhost")
        await stream.handshake()
        async with open_channel(stream, "localhost", scheme="https") as channel:
            for message in (b"", b"x", BIG):
                assert await channel.call("/test.Echo/Echo", message) == message
            async with channel.stream("/test.Echo/Count") as counted:
                await counted.send(b"1000")
                assert [len(message) async for message in counted] == [1024] * 1000


async def test_both_protocols_without_tls(ca: Authority) -> None:
    """The first bytes decide."""
    async with serving(ca, EchoService(), secured=False) as port:
        stream = TcpStream(await trio.open_tcp_stream("127.0.0.1", port))
        async with open_channel(stream, "localhost") as channel:
            assert await channel.call("/test.Echo/Echo", BIG) == BIG
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).content == b"hello"


async def test_a_stop_of_the_port(ca: Authority) -> None:
    """Calls in progress get their answers; what is left when the grace is over is told UNAVAILABLE."""
    service = EchoService()
    async with trio.open_nursery() as nursery:
        stopped = trio.Event()

        async def serve(*, task_status: trio.TaskStatus[int]) -> None:
            with trio.CancelScope() as scope:
                async with serving(ca, service, secured=False) as port:
                    task_status.started(port)
                    await stopped.wait()
                    scope.cancel()

        port = await nursery.start(serve)
        stream = TcpStream(await trio.open_tcp_stream("127.0.0.1", port))
        async with open_channel(stream, "localhost") as channel:

            async def call() -> None:
                assert await channel.call("/test.Echo/Wait", b"answered") == b"answered"

            async with trio.open_nursery() as calls:
                calls.start_soon(call)
                await service.wait_until(lambda: service.begun == ["Wait"])
                stopped.set()
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert not channel.takes_calls
                service.gate.set()
            with trio.fail_after(5):
                await channel.ended.wait()
