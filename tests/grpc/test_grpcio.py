"""The reference implementation of gRPC, grpcio, as the client of ours."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import pytest
import trio

from raftkv_trio.grpc.limits import Limits
from tests.grpc.serving import NO_GRPCIO, Served, open_echo

grpc = pytest.importorskip("grpc", reason=NO_GRPCIO)

T = TypeVar("T")


class Client(NamedTuple):
    """grpcio's client, in a thread of its own for each call, since it blocks."""

    served: Served
    channel: Any

    async def do(self, call: Callable[[Any], T]) -> T:
        return await trio.to_thread.run_sync(call, self.channel)

    async def unary(self, name: str, request: bytes, **more: Any) -> bytes:
        def call(channel: Any) -> bytes:
            response: bytes = channel.unary_unary(f"/test.Echo/{name}")(request, **more)
            return response

        return await self.do(call)

    async def error(self, name: str, request: bytes, **more: Any) -> tuple[str, str]:
        """Code and text with which a call ends."""
        with pytest.raises(grpc.RpcError) as caught:
            await self.unary(name, request, **more)
        return caught.value.code().name, caught.value.details()


@asynccontextmanager
async def open_client(limits: Limits | None = None, **options: int) -> AsyncIterator[Client]:
    async with open_echo(limits) as served:
        settings = [(f"grpc.{name}", value) for name, value in options.items()]
        channel = grpc.insecure_channel(f"127.0.0.1:{served.port}", settings)
        try:
            yield Client(served, channel)
        finally:
            channel.close()


async def test_unary_calls() -> None:
    """Empty, small and large messages come back, also larger ones than all windows."""
    async with open_client(max_receive_message_length=-1) as client:
        for size in (0, 1, 16379, 16380, 65535, 2 * 1024 * 1024):
            assert await client.unary("Echo", b"x" * size) == b"x" * size
        assert len(await client.unary("Big", b"%d" % 20_000_000)) == 20_000_000


async def test_metadata_reaches_the_handler() -> None:
    """Fields of the client arrive by name; those of HTTP and gRPC itself do not."""
    async with open_client() as client:
        await client.unary("Echo", b"", metadata=(("hasleader", "true"), ("a", "1"), ("a", "2")), timeout=60)
        seen = client.served.service.seen
        assert (seen["hasleader"], seen["a"]) == ("true", "1,2")
        assert not {"te", "content-type", "grpc-timeout", ":path"} & set(seen)


async def test_errors_of_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """Code and text arrive as the handler raised them, whatever the text has; a bug is told and logged."""
    caplog.set_level(logging.ERROR)
    async with open_client() as client:
        for text in ("etcdserver: key not found", "100 % \n grün €", ""):
            assert await client.error("Fail", text.encode()) == ("NOT_FOUND", text)
        assert not caplog.records
        code, text = await client.error("Crash", b"")
        assert (code, "bug" in text) == ("UNKNOWN", True)
        assert "/test.Echo/Crash" in caplog.text
        assert await client.unary("Echo", b"still") == b"still"


@pytest.mark.parametrize(
    ("path", "request_bytes", "code", "text"),
    [
        ("/test.Echo/No", b"", "UNIMPLEMENTED", "unknown method No for service test.Echo"),
        ("/no.Service/Echo", b"", "UNIMPLEMENTED", "unknown service no.Service"),
        ("/test.Echo/Echo/", b"", "UNIMPLEMENTED", "unknown service test.Echo/Echo"),
        ("Echo", b"", "RESOURCE_EXHAUSTED", 'malformed method name: "Echo"'),
        ("/test.Echo/Echo", b"!", "INTERNAL", "grpc: error unmarshalling request: it begins with !"),
        (
            "/test.Echo/Echo",
            bytes(2 * 1024 * 1024 + 1),
            "RESOURCE_EXHAUSTED",
            "grpc: received message larger than max (2097153 vs. 2097152)",
        ),
    ],
)
async def test_calls_that_no_handler_sees(path: str, request_bytes: bytes, code: str, text: str) -> None:
    """They are refused in grpc-go's words, as etcd's clients know them."""
    async with open_client() as client:
        with pytest.raises(grpc.RpcError) as caught:
            await client.do(lambda channel: channel.unary_unary(path)(request_bytes))
        assert (caught.value.code().name, caught.value.details()) == (code, text)


async def test_compressed_messages_are_refused() -> None:
    """No decompressor is there, and the code says so."""
    async with open_client() as client:
        code, text = await client.error("Echo", b"x" * 1000, compression=grpc.Compression.Gzip)
        assert (code, text) == (
            "UNIMPLEMENTED",
            'grpc: Decompressor is not installed for grpc-encoding "gzip"',
        )


async def test_streams() -> None:
    """Messages pass in both directions, in their order, larger and more than all windows."""
    messages = [b"%d" % number * (number % 50 + 1) for number in range(3000)] + [b"x" * 1_000_000]
    async with open_client() as client:
        chat = await client.do(lambda c: list(c.stream_stream("/test.Echo/Chat")(iter(messages))))
        assert chat == messages
        collected = await client.do(lambda c: c.stream_unary("/test.Echo/Collect")(iter(messages[:2000])))
        assert collected == b"".join(messages[:2000])
        counted = await client.do(lambda c: list(c.unary_stream("/test.Echo/Count")(b"500")))
        assert (len(counted), set(counted)) == (500, {b"c" * 1024})
        assert await client.do(lambda c: list(c.unary_stream("/test.Echo/Count")(b"0"))) == []


async def test_a_stream_that_fails_after_its_messages() -> None:
    """The messages arrive, and then the status."""

    def read(channel: Any) -> tuple[int, str]:
        stream = channel.unary_stream("/test.Echo/Count")(b"7")
        got = sum(1 for _ in islice(stream, 7))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        return got, caught.value.details()

    async with open_client() as client:
        assert await client.do(read) == (7, "seven")


async def test_a_stream_that_nobody_reads_holds_up_nothing() -> None:
    """While one stream waits for its reader, others go on; and then it goes on too."""

    def read(channel: Any) -> int:
        stream = channel.unary_stream("/test.Echo/Count")(b"5000")
        next(stream)
        assert len(channel.unary_unary("/test.Echo/Big")(b"1000000")) == 1_000_000
        return 1 + sum(1 for _ in stream)

    async with open_client() as client:
        assert await client.do(read) == 5000


async def test_a_deadline_cancels_the_handler() -> None:
    """The client is told, and so is the handler, by the server's own clock or by the reset."""
    async with open_client() as client:
        service = client.served.service
        assert (await client.error("Wait", b"", timeout=0.2))[0] == "DEADLINE_EXCEEDED"
        await service.wait_until(lambda: service.cancelled == ["Wait"])
        assert await client.unary("Echo", b"x", timeout=30) == b"x"


async def test_a_cancelled_call_cancels_the_handler() -> None:
    """Both of unary calls and of streams."""
    async with open_client() as client:
        service = client.served.service
        unary = client.channel.unary_unary("/test.Echo/Wait").future(b"")
        await service.wait_until(lambda: service.begun == ["Wait"])
        unary.cancel()
        await service.wait_until(lambda: service.cancelled == ["Wait"])
        stream = client.channel.stream_stream("/test.Echo/Hang")(iter([]))
        assert await client.do(lambda _: next(stream)) == b"first"
        stream.cancel()
        await service.wait_until(lambda: service.cancelled == ["Wait", "Hang"])
        assert await client.unary("Echo", b"x") == b"x"


async def test_a_client_that_goes_away_cancels_its_handlers() -> None:
    """Its connection is closed, with calls in progress."""
    async with open_client() as client:
        service = client.served.service
        calls = [client.channel.unary_unary("/test.Echo/Wait").future(b"") for _ in range(10)]
        await service.wait_until(lambda: len(service.begun) == 10)
        client.channel.close()
        await service.wait_until(lambda: len(service.cancelled) == 10)
        assert {call.code().name for call in calls} == {"CANCELLED"}


async def test_many_calls_at_once() -> None:
    """More than the server takes at once: the client waits for a place, and each gets its own answer."""
    count = 500

    def call(channel: Any) -> list[bytes]:
        echo = channel.unary_unary("/test.Echo/Wait")
        futures = [echo.future(b"%d" % number) for number in range(count)]
        return [future.result(timeout=30) for future in futures]

    async with open_client(Limits(max_streams=100)) as client:
        service = client.served.service
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                assert await client.do(call) == [b"%d" % number for number in range(count)]

            nursery.start_soon(run)
            await service.wait_until(lambda: len(service.begun) == 100)
            service.gate.set()


async def test_threads_share_a_channel() -> None:
    """Calls of every kind side by side on one connection."""

    def work(channel: Any, failed: list[BaseException]) -> None:
        try:
            for number in range(20):
                message = b"%d" % number * 3000
                assert channel.unary_unary("/test.Echo/Echo")(message) == message
                assert list(channel.stream_stream("/test.Echo/Chat")(iter([message] * 3))) == [message] * 3
        except BaseException as error:
            failed.append(error)

    def run(channel: Any) -> list[BaseException]:
        failed: list[BaseException] = []
        threads = [threading.Thread(target=work, args=(channel, failed)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return failed

    async with open_client() as client:
        assert await client.do(run) == []
        assert len(client.served.connections) == 1


async def test_a_stop() -> None:
    """Streams end at once with UNAVAILABLE, a unary call in progress is answered, and the connection ends."""

    def open_stream(channel: Any) -> Iterator[bytes]:
        stream: Iterator[bytes] = channel.stream_stream("/test.Echo/Hang")(iter([]))
        assert next(stream) == b"first"
        return stream

    async with open_client() as client:
        service = client.served.service
        stream = await client.do(open_stream)
        unary = client.channel.unary_unary("/test.Echo/Wait").future(b"done")
        await service.wait_until(lambda: "Wait" in service.begun)
        (connection,) = client.served.connections
        connection.stop()
        with pytest.raises(grpc.RpcError) as caught:
            await client.do(lambda _: next(stream))
        assert caught.value.code().name == "UNAVAILABLE"
        service.gate.set()
        assert await client.do(lambda _: unary.result(timeout=10)) == b"done"
        await service.wait_until(lambda: not client.served.connections)


async def test_calls_that_a_shutdown_cuts_off() -> None:
    """When the grace is over they are told UNAVAILABLE, with the server's text."""
    async with open_client() as client:
        service = client.served.service
        unary = client.channel.unary_unary("/test.Echo/Wait").future(b"")
        await service.wait_until(lambda: "Wait" in service.begun)
        client.served.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            error = await client.do(lambda _: unary.exception(timeout=10))
        assert (error.code().name, error.details()) == ("UNAVAILABLE", "the server is stopping")
