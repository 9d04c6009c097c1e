"""Our client on Trio, with our server, and with grpcio's."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from raftkv_trio.grpc import (
    CallLost,
    CallNotExecuted,
    Channel,
    ClientStream,
    Code,
    Limits,
    RpcError,
    frames,
    open_channel,
)
from raftkv_trio.grpc.frames import ErrorCode
from raftkv_trio.grpc.rpc import PEER_ADDRESS
from raftkv_trio.tcp_stream import TcpStream
from tests.grpc.serving import NO_GRPCIO, Served, open_echo


async def connect(port: int) -> TcpStream:
    return TcpStream(await trio.open_tcp_stream("127.0.0.1", port))


@asynccontextmanager
async def open_pair(limits: Limits | None = None) -> AsyncIterator[tuple[Channel, Served]]:
    async with open_echo(limits) as served, open_channel(await connect(served.port), "localhost") as channel:
        yield channel, served


@contextmanager
def status(code: Code, text: str) -> Iterator[None]:
    """Expect this status."""
    with pytest.raises(RpcError) as caught:
        yield
    assert (caught.value.code, caught.value.text) == (code, text)


async def test_unary_calls() -> None:
    """Messages of every size come back, and metadata arrives, with the client's address."""
    async with open_pair() as (channel, served):
        for size in (0, 1, 16379, 16380, 65535, 2 * 1024 * 1024):
            assert await channel.call("/test.Echo/Echo", b"x" * size) == b"x" * size
        assert len(await channel.call("/test.Echo/Big", b"20000000")) == 20_000_000
        await channel.call("/test.Echo/Echo", b"", {"hasleader": "true"})
        assert served.service.seen == {"hasleader": "true", PEER_ADDRESS: "127.0.0.1"}


async def test_errors() -> None:
    """Code and text of the status, whatever characters it has."""
    async with open_pair() as (channel, _):
        for text in ("etcdserver: key not found", "100 % \n grün €", ""):
            with status(Code.NOT_FOUND, text):
                await channel.call("/test.Echo/Fail", text.encode())
        with status(Code.UNIMPLEMENTED, "unknown method No for service test.Echo"):
            await channel.call("/test.Echo/No", b"")
        with status(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (2097153 vs. 2097152)"):
            await channel.call("/test.Echo/Echo", bytes(2 * 1024 * 1024 + 1))
        assert await channel.call("/test.Echo/Echo", b"still") == b"still"


async def test_many_calls_at_once() -> None:
    """More than the server takes at once wait for a place; each gets its own answer."""
    async with open_pair(Limits(max_streams=50)) as (channel, served):
        answers = list[int]()

        async def call(number: int) -> None:
            assert await channel.call("/test.Echo/Wait", b"%d" % number) == b"%d" % number
            answers.append(number)

        await channel.call("/test.Echo/Echo", b"")  # after which the server's settings are known
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(call, number)
            await served.service.wait_until(lambda: len(served.service.begun) == 50)
            assert channel.calls == 50
            served.service.gate.set()
        assert sorted(answers) == list(range(300))


async def send_for_ever(stream: ClientStream) -> None:
    """Send until the call has ended, which a sender is told by a receive."""
    while not stream._call.has_ended:
        await stream.send(bytes(1000))


async def test_a_sender_that_waits_costs_nothing() -> None:
    """While the server takes no message, no task runs; other calls on the connection change nothing."""
    async with open_pair() as (channel, served), trio.open_nursery() as nursery, AsyncExitStack() as calls:
        for _ in range(3):
            stream = await calls.enter_async_context(channel.stream("/test.Echo/Hang"))
            nursery.start_soon(send_for_ever, stream)
        with trio.fail_after(10):
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(served.service.begun) == 3
        nursery.cancel_scope.cancel()


async def test_a_sender_that_waits_is_woken_by_the_end_of_its_call() -> None:
    """The server ends the call, and the connection goes on."""
    async with open_pair() as (channel, served), trio.open_nursery() as nursery:
        nursery.start_soon(channel.call, "/test.Echo/Wait", b"")
        async with channel.stream("/test.Echo/Hang") as stream:
            with trio.fail_after(10):
                async with trio.open_nursery() as sending:
                    sending.start_soon(send_for_ever, stream)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    served.connections[0].stop()  # streams end; the unary call goes on
        assert not channel.ended.is_set()
        served.service.gate.set()


async def test_streams() -> None:
    """Messages pass in both directions, in their order, larger and more than all windows."""
    messages = [b"%d" % number * (number % 50 + 1) for number in range(3000)] + [b"x" * 1_000_000] * 3

    async with open_pair() as (channel, _), channel.stream("/test.Echo/Chat") as stream:

        async def send() -> None:
            for message in messages:
                await stream.send(message)
            stream.end()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert [message async for message in stream] == messages


async def test_a_stream_that_ends_with_an_error() -> None:
    """The messages before it arrive first."""
    async with open_pair() as (channel, _), channel.stream("/test.Echo/Count") as stream:
        await stream.send(b"7")
        for _ in range(7):
            assert await anext(stream) == b"c" * 1024
        with status(Code.OUT_OF_RANGE, "seven"):
            await anext(stream)


async def test_a_stream_that_nobody_reads_holds_up_nothing() -> None:
    """The server's handler waits; other calls go on; and so does the stream when it is read again."""
    async with open_pair() as (channel, _), channel.stream("/test.Echo/Count") as stream:
        await stream.send(b"20000")
        await anext(stream)
        assert len(await channel.call("/test.Echo/Big", b"3000000")) == 3_000_000
        count = 1
        async for _ in stream:
            count += 1
        assert count == 20_000


async def test_cancellation_reaches_the_handler() -> None:
    """A deadline of the caller, and a block that is left."""
    async with open_pair() as (channel, served):
        service = served.service
        with trio.move_on_after(0.1) as scope:
            await channel.call("/test.Echo/Wait", b"")
        assert scope.cancelled_caught
        await service.wait_until(lambda: service.cancelled == ["Wait"])
        async with channel.stream("/test.Echo/Hang") as stream:
            assert await anext(stream) == b"first"
        await service.wait_until(lambda: service.cancelled == ["Wait", "Hang"])
        assert channel.calls == 0
        assert await channel.call("/test.Echo/Echo", b"x") == b"x"


async def test_the_server_keeps_the_deadline_too() -> None:
    """It ends the call by its own clock, if the client does not reset it."""
    async with open_pair() as (channel, served):
        for name in ("Wait", "Hang"):
            with status(Code.DEADLINE_EXCEEDED, "context deadline exceeded"):
                async with channel.stream(f"/test.Echo/{name}", {"grpc-timeout": "100m"}) as stream:
                    await stream.send(b"")
                    while await anext(stream):
                        pass
        assert served.service.cancelled == ["Wait", "Hang"]
        assert await channel.call("/test.Echo/Echo", b"x", {"grpc-timeout": "1H"}) == b"x"


async def test_a_deadline_ends_with_its_call() -> None:
    """The next call, which the same task serves, has none."""
    async with open_pair() as (channel, served), trio.open_nursery() as nursery:
        await channel.call("/test.Echo/Echo", b"", {"grpc-timeout": "50m"})

        async def call() -> None:
            assert await channel.call("/test.Echo/Wait", b"x") == b"x"

        nursery.start_soon(call)
        await served.service.wait_until(lambda: served.service.begun == ["Wait"])
        await trio.sleep(0.15)
        served.service.gate.set()


async def test_a_stop_of_the_server() -> None:
    """What is in progress is answered, streams are UNAVAILABLE, and new calls do not leave."""
    async with open_pair() as (channel, served), trio.open_nursery() as nursery:
        service = served.service

        async def call() -> None:
            assert await channel.call("/test.Echo/Wait", b"done") == b"done"

        nursery.start_soon(call)
        await service.wait_until(lambda: "Wait" in service.begun)
        async with channel.stream("/test.Echo/Hang") as stream:
            await anext(stream)
            served.connections[0].stop()
            with status(Code.UNAVAILABLE, "the server is stopping"):
                await anext(stream)
        assert not channel.takes_calls
        with pytest.raises(CallNotExecuted):
            await channel.call("/test.Echo/Echo", b"")
        service.gate.set()
        with trio.fail_after(5):
            await channel.ended.wait()


async def test_a_server_that_goes_away() -> None:
    """Calls in progress are lost, and may have happened; later ones are certainly not executed."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with open_channel(await connect(port), "localhost") as channel:
        accepted = await listeners[0].accept()

        async def call() -> None:
            with pytest.raises(CallLost):
                await channel.call("/test.Echo/Echo", b"")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            await accepted.aclose()
        await channel.ended.wait()
        with pytest.raises(CallNotExecuted):
            await channel.call("/test.Echo/Echo", b"")
    await listeners[0].aclose()


async def test_a_call_that_waits_for_a_place_when_the_server_goes_away() -> None:
    """It was never sent, other than the one that has the place."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with open_channel(await connect(port), "localhost") as channel, trio.open_nursery() as nursery:
        accepted = await listeners[0].accept()
        await accepted.send_all(frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}))
        await trio.testing.wait_all_tasks_blocked(0.01)

        async def call(error: type[Exception]) -> None:
            with pytest.raises(error), trio.fail_after(5):
                await channel.call("/test.Echo/Echo", b"")

        nursery.start_soon(call, CallLost)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(call, CallNotExecuted)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await accepted.aclose()
    await listeners[0].aclose()


async def test_a_call_on_a_connection_that_is_broken_already() -> None:
    """The system takes none of its bytes, so it is certainly not executed."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.setblocking(False)
    channel = Channel(TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours))), "localhost")

    async def call() -> None:
        with pytest.raises(CallNotExecuted):
            await channel.call("/test.Echo/Echo", b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        await channel.run()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (frames.reset(1, ErrorCode.REFUSED_STREAM), CallNotExecuted),
        (frames.reset(1, ErrorCode.CANCEL), CallLost),
        (frames.reset(1, ErrorCode.NO_ERROR), CallLost),
        (frames.go_away(0, ErrorCode.NO_ERROR), CallNotExecuted),
        (frames.go_away(1, ErrorCode.NO_ERROR), CallLost),
        (frames.frame(frames.DATA, 0, 1, b"x"), CallLost),  # before a head
        (frames.frame(frames.DATA, 0, 3, b"x"), CallLost),  # of a stream that was not opened
        (frames.frame(frames.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), CallLost),  # bad HPACK
        (frames.frame(frames.HEADERS, 5, 1, b"\x88"), RpcError),  # HTTP without gRPC
        (frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), CallLost),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", CallLost),
        (b"", CallLost),
    ],
)
async def test_what_a_lost_call_may_have_done(answer: bytes, error: type[Exception]) -> None:
    """A refused call and one above the last of GOAWAY are certainly not executed; the others may be."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with open_channel(await connect(port), "localhost") as channel:
        accepted = await listeners[0].accept()

        async def answer_so() -> None:
            await accepted.receive_some()
            await accepted.send_all(frames.settings({}) + answer)
            await accepted.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_so)
            with pytest.raises(error), trio.fail_after(5):
                await channel.call("/test.Echo/Echo", b"")
        await accepted.aclose()
    await listeners[0].aclose()


# ---------------------------------------------------------------- grpcio as the server


def call_back(behaviour: Callable[..., Any], kind: str) -> Any:
    grpc = pytest.importorskip("grpc", reason=NO_GRPCIO)
    return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)


@contextmanager
def serving_with_grpcio() -> Iterator[int]:
    """grpcio's server with the methods that the tests call; gives the port."""
    grpc = pytest.importorskip(
        "grpc", reason="grpcio is not installed: it has no wheel for this Python version"
    )

    def fail(request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, request.decode())
        raise AssertionError("abort raises")

    handlers = {
        "Echo": call_back(lambda request, context: request, "unary_unary"),
        "Fail": call_back(fail, "unary_unary"),
        "Chat": call_back(lambda requests, context: requests, "stream_stream"),
    }
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


async def test_with_grpcio_as_the_server() -> None:
    """Unary calls of every size, errors, and a stream."""
    with serving_with_grpcio() as port:
        async with open_channel(await connect(port), f"127.0.0.1:{port}") as channel:
            for size in (0, 1, 16379, 16380, 65535, 5_000_000):
                assert await channel.call("/test.Echo/Echo", b"x" * size) == b"x" * size
            with status(Code.NOT_FOUND, "100 % grün"):
                await channel.call("/test.Echo/Fail", "100 % grün".encode())
            with pytest.raises(RpcError) as caught:
                await channel.call("/test.Echo/No", b"")
            assert caught.value.code == Code.UNIMPLEMENTED
            async with channel.stream("/test.Echo/Chat") as stream:
                for number in range(100):
                    await stream.send(b"%d" % number * 1000)
                    assert await anext(stream) == b"%d" % number * 1000
                stream.end()
                assert [message async for message in stream] == []
            async with trio.open_nursery() as nursery:

                async def echo(number: int) -> None:
                    assert await channel.call("/test.Echo/Echo", b"%d" % number) == b"%d" % number

                for number in range(300):
                    nursery.start_soon(echo, number)
