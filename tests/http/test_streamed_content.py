"""Responses that are sent while they are made."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.http import BUG, Request, Response, SendPart, StreamedResponse, plain
from tests.http.services import HEAD, ScriptedService, get, octets, open_service
from tests.rest.serving import PATIENCE_S, Wire

Write = Callable[[SendPart], Awaitable[Response | None]]
END = b"0\r\n\r\n"


def service(write: Write) -> ScriptedService:
    """Streams at `/stream`, and answers all else at once."""

    async def answer(request: Request) -> Response | StreamedResponse:
        if request.target == b"/stream":
            return StreamedResponse(HTTPStatus.OK, {"Content-Type": "text/plain"}, write)
        return octets(b"whole")

    return ScriptedService(answer)


async def received(wire: Wire, end: bytes) -> bytes:
    """All that comes until an end."""
    data = b""
    with trio.fail_after(PATIENCE_S):
        while not data.endswith(end):
            more = await wire.stream.receive_some(64 * 1024)
            assert more, data
            data += more
    return data


async def test_each_part_leaves_at_once() -> None:
    """As a chunk of its own, the first one with the head; then the connection takes the next request."""
    may_go_on = trio.Event()

    async def write(send: SendPart) -> None:
        await send(b"first\n")
        await may_go_on.wait()
        await send(b"")  # no chunk, which would be the end
        await send(b"x" * 100_000)

    async with open_service(service(write)) as opened, opened.connect() as wire:
        await wire.send(get(b"/stream"))
        head, _, first = (await received(wire, b"first\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"content-length" not in head.lower()
        assert b"connection: close" not in head
        assert first == b"6\r\nfirst\n\r\n"
        may_go_on.set()
        assert await received(wire, END) == b"186a0\r\n" + b"x" * 100_000 + b"\r\n" + END
        assert (await wire.ask(b"GET /")).content == b"whole"


async def test_earlier_answers_leave_first() -> None:
    """A stream may take long, and what was answered before waits for none of it."""

    async def write(send: SendPart) -> None:
        await send(b"a")

    async with open_service(service(write)) as opened, opened.connect() as wire:
        await wire.send(get(b"/1"), get(b"/stream"), get(b"/2"))
        answers = await received(wire, b"whole")
        if answers.count(b"HTTP/1.1 ") < 3:
            answers += await received(wire, b"whole")
        positions = [answers.index(part) for part in (b"whole", b"1\r\na\r\n" + END)]
        assert positions == sorted(positions)
        assert answers.endswith(b"whole")


async def test_no_parts() -> None:
    """The head and the end."""

    async def write(send: SendPart) -> None:
        return None

    async with open_service(service(write)) as opened, opened.connect() as wire:
        await wire.send(get(b"/stream"))
        assert (await received(wire, END)).endswith(b"\r\n\r\n" + END)


async def test_to_http_1_0_the_end_is_the_end_of_the_connection() -> None:
    """It knows no chunks."""

    async def write(send: SendPart) -> None:
        await send(b"a")
        await send(b"b")

    async with open_service(service(write)) as opened, opened.connect() as wire:
        await wire.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, content = (await wire.rest()).partition(b"\r\n\r\n")
        assert content == b"ab"
        assert b"connection: close" in head
        assert b"Transfer-Encoding" not in head


async def test_another_response_instead() -> None:
    """As long as nothing has been sent."""

    async def write(send: SendPart) -> Response:
        return plain(HTTPStatus.NOT_FOUND, "Nothing is here")

    async with open_service(service(write)) as opened, opened.connect() as wire:
        answer = await wire.ask(b"GET /stream")
        assert (answer.status, answer.content) == (404, b"Nothing is here\n")
        assert (await wire.ask(b"GET /")).content == b"whole"


async def test_a_bug_before_the_first_part(caplog: pytest.LogCaptureFixture) -> None:
    """Is answered as every other one."""

    async def write(send: SendPart) -> None:
        raise ZeroDivisionError

    async with open_service(service(write)) as opened, opened.connect() as wire:
        answer = await wire.ask(b"GET /stream")
        assert (answer.status, answer.content) == (500, f"{BUG}\n".encode())
        assert (await wire.ask(b"GET /")).content == b"whole"
    assert "ZeroDivisionError" in caplog.text


async def test_a_bug_after_the_first_part(caplog: pytest.LogCaptureFixture) -> None:
    """The client does not take what it has for the whole."""

    async def write(send: SendPart) -> None:
        await send(b"a")
        raise ZeroDivisionError

    async with open_service(service(write)) as opened, opened.connect() as wire:
        await wire.send(get(b"/stream"))
        assert (await wire.rest()).endswith(b"\r\n\r\n1\r\na\r\n")
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_does_not_read_is_dropped() -> None:
    """Whoever writes is cancelled, and holds no more than a part."""
    sent = 0
    is_over = trio.Event()

    async def write(send: SendPart) -> None:
        nonlocal sent
        try:
            while True:
                await send(b"x" * 64 * 1024)
                sent += 1
        finally:
            is_over.set()

    config = RestConfig(port=0, send_timeout_s=0.2)
    async with open_service(service(write), config) as opened, opened.connect() as wire:
        await wire.send(get(b"/stream"))
        with trio.fail_after(PATIENCE_S):
            await is_over.wait()
    assert sent < 1000


async def test_content_while_the_response_is_sent() -> None:
    """A request may go on meanwhile; its connection closes after it, as the head says before all has come."""

    async def answer(request: Request) -> StreamedResponse:
        async def write(send: SendPart) -> None:
            while (part := await request.part()) is not None:
                await send(part.upper())

        return StreamedResponse(HTTPStatus.OK, {}, write)

    async with open_service(ScriptedService(answer)) as opened, opened.connect() as wire:
        await wire.send(b"POST /" + HEAD, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        head, _, content = (await received(wire, b"A\r\n")).partition(b"\r\n\r\n")
        assert content == b"1\r\nA\r\n"
        assert b"\r\nconnection: close" in head
        await wire.send(b"1\r\nb\r\n")
        assert await received(wire, b"B\r\n") == b"1\r\nB\r\n"
        await wire.send(END)
        assert await wire.rest() == END
