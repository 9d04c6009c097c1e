"""What an ASGI app answers, on the wire: framing, fields, and apps that break their word."""

from typing import Any

import pytest
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from tests.http.services import HEAD, Opened, ScriptedService, get, open_service

Fields = list[tuple[bytes, bytes]]


async def start(send: ASGISendCallable, status: int, fields: Fields) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields, "trailers": False})


async def give(send: ASGISendCallable, content: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


def app_that_answers(status: int, fields: Fields, *parts: bytes) -> ASGIFramework:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await start(send, status, fields)
        for part in parts:
            await give(send, part, more=True)
        await give(send, b"")

    return app


def open_app(app: ASGIFramework) -> Any:
    return open_service(ScriptedService(app=app))


async def exchange(opened: Opened, *sent: bytes) -> bytes:
    """All that a connection receives until the server closes."""
    async with opened.connect() as wire:
        await wire.send(*sent)
        return await wire.rest()


LAST = b"GET /" + HEAD + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize("given", [(b"abc",), (b"abcdefg",), (b"a" * 40_000, b"a")])
async def test_wrong_lengths(given: tuple[bytes, ...], caplog: pytest.LogCaptureFixture) -> None:
    """Content that is longer or shorter than announced ends the connection, so that nothing is misread."""
    announced = b"5" if len(given) == 1 else b"40000"
    app = app_that_answers(200, [(b"content-length", announced)], *given)
    async with open_app(app) as opened:
        received = await exchange(opened, get(b"/1"), get(b"/2"))
    head, _, content = received.partition(b"\r\n\r\n")
    assert received.count(b"HTTP/1.1 ") <= 1
    assert head == b"" or len(content) <= int(announced)
    assert "announced" in caplog.text


async def test_right_lengths() -> None:
    """Content of the announced length leaves the connection open."""
    app = app_that_answers(200, [(b"content-length", b"5")], b"abc", b"de")
    async with open_app(app) as opened, opened.connect() as wire:
        for _ in range(2):
            await wire.send(get(b"/"))
            assert (await wire.answer()).content == b"abcde"


async def test_unknown_lengths() -> None:
    """Content of unknown length is chunked, or ends with the connection in HTTP/1.0."""
    async with open_app(app_that_answers(200, [], b"abc", b"d" * 40_000)) as opened:
        head, _, content = (await exchange(opened, LAST)).partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert content == b"3\r\nabc\r\n9c40\r\n" + b"d" * 40_000 + b"\r\n0\r\n\r\n"
        head, _, content = (await exchange(opened, b"GET / HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert content == b"abc" + b"d" * 40_000


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_no_content(method: bytes, status: int) -> None:
    """What must not have content has none, whatever the app gives."""
    async with open_app(app_that_answers(status, [], b"abc")) as opened, opened.connect() as wire:
        for _ in range(2):
            await wire.send(method + b" /" + HEAD + b"\r\n")
            assert (await wire.answer(method)).status == status


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"\x00"])
async def test_a_field_that_is_none(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A line break in a field of the app's reaches no client."""
    async with open_app(app_that_answers(200, [(b"x", value)])) as opened:
        received = await exchange(opened, get(b"/"))
    assert received.startswith(b"HTTP/1.1 500 ")
    assert value not in received
    assert "a field that is none" in caplog.text


async def test_no_invitation_comes_late() -> None:
    """Once the response has begun, no 100 comes in the middle of it."""

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await start(send, 200, [(b"content-length", b"40004")])
        await give(send, b"a" * 40_000, more=True)
        event = await receive()
        assert event["type"] == "http.request"
        await give(send, event["body"])

    async with open_app(app) as opened, opened.connect() as wire:
        await wire.send(b"PUT /" + HEAD + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        await wire.send(b"last")
        answer = await wire.answer()
        assert (answer.status, answer.content) == (200, b"a" * 40_000 + b"last")
