"""Refusals: a host is told so many a second, and whatever it asks for meanwhile, others are served."""

from contextlib import AsyncExitStack
from http import HTTPStatus

import pytest
import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.http import Request, Response, listener, plain
from raftkv_trio.http.listener import REFUSALS_BURST, REFUSALS_RATE
from raftkv_trio.pace import Pace, Paces
from raftkv_trio.world import TrioClock
from tests.http.services import HEAD, Opened, ScriptedService, get, octets, open_service
from tests.rest.serving import Wire

#: Refusals that have to wait, each for its turn.
WAITING = 200
REFUSED = get(b"/refused")
MALFORMED = b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"


async def answer(request: Request) -> Response:
    if request.target == b"/refused":
        return plain(HTTPStatus.FORBIDDEN, "no")
    if request.target == b"/missing":
        return plain(HTTPStatus.NOT_FOUND, "nothing here")
    return octets(b"yes")


async def come_often(opened: Opened, answered_at: list[float]) -> None:
    """Be refused on several connections at once, and again and again on each."""

    async def come() -> None:
        async with opened.connect() as wire:
            await wire.send(REFUSED * ((REFUSALS_BURST + WAITING) // 10))
            for _ in range((REFUSALS_BURST + WAITING) // 10):
                assert (await wire.answer()).status == 403
                answered_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(come)


async def test_a_host_that_is_refused_waits_and_no_other_does() -> None:
    """Its own requests that may be answered do not wait either, on another connection."""
    answered_at: list[float] = []
    async with open_service(ScriptedService(answer)) as opened:
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_often, opened, answered_at)
            stream = await trio.open_tcp_stream("127.0.0.1", opened.port, local_address="127.0.0.2")
            async with stream, opened.connect() as own:
                for _ in range(5):
                    assert (await own.ask(b"GET /good")).status == 200
                    assert (await own.ask(b"GET /missing")).status == 404
                    assert (await Wire(stream).ask(b"GET /refused")).status == 403
                others_done_at = trio.current_time()
    assert len(answered_at) == REFUSALS_BURST + WAITING
    assert answered_at[-1] - began_at >= 0.9 * WAITING / REFUSALS_RATE
    assert others_done_at < answered_at[-1]


@pytest.mark.parametrize("request_bytes", [MALFORMED, b"GET /refused" + HEAD + b"Connection: close\r\n\r\n"])
async def test_new_connections_do_not_help(request_bytes: bytes) -> None:
    """Neither for what is no request, nor for what a service refuses."""
    async with open_service(ScriptedService(answer)) as opened:
        began_at = trio.current_time()
        for _ in range(REFUSALS_BURST + WAITING):
            async with opened.connect() as wire:
                await wire.send(request_bytes)
                assert (await wire.answer()).status in (400, 403)
        assert trio.current_time() - began_at >= 0.9 * WAITING / REFUSALS_RATE


async def test_a_host_that_has_had_all_its_turns_waits_with_new_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of these is read meanwhile. Its connections that are of use go on, and no other host waits."""
    monkeypatch.setattr(listener, "REFUSALS_RATE", 0.001)
    monkeypatch.setattr(listener, "REFUSALS_BURST", 0)
    service = ScriptedService(answer)
    async with open_service(service) as opened, opened.connect() as known:
        assert (await known.ask(b"GET /good")).status == 200
        async with opened.connect() as refused:
            assert (await refused.ask(b"GET /refused")).status == 403
        async with opened.connect() as new:
            await new.send(get(b"/new"))
            stream = await trio.open_tcp_stream("127.0.0.1", opened.port, local_address="127.0.0.2")
            async with stream:
                assert (await Wire(stream).ask(b"GET /good")).status == 200
            for _ in range(20):
                assert (await known.ask(b"GET /good")).status == 200
            assert b"/new" not in service.begun


async def test_connections_that_have_ended_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has had all its turns takes none for a connection whose client has gone."""
    pace = Pace(TrioClock(), rate=10, burst=0)
    monkeypatch.setattr(Paces, "of", lambda paces, host: pace)
    service = ScriptedService(answer)
    async with open_service(service) as opened:
        for _ in range(200):
            if pace._paid_at - trio.current_time() < 0.5:
                pace.charge(10)
            async with opened.connect() as gone:
                await gone.send(get(b"/gone"))
        async with opened.connect() as new:
            assert (await new.ask(b"GET /good")).status == 200
        assert service.begun.count(b"/gone") < 50


async def test_content_that_was_read_has_its_price() -> None:
    """A refusal after 16 KiB of content costs five turns."""

    async def read_and_refuse(request: Request) -> Response:
        while await request.part() is not None:
            pass
        return plain(HTTPStatus.BAD_REQUEST, "no")

    count, size = 80, 16 * 1024
    turns = 5 * (count - 1) - REFUSALS_BURST
    async with open_service(ScriptedService(read_and_refuse)) as opened, opened.connect() as wire:
        began_at = trio.current_time()
        for _ in range(count):
            await wire.send(b"PUT /" + HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
            assert (await wire.answer()).status == 400
        assert trio.current_time() - began_at >= 0.9 * turns / REFUSALS_RATE


async def test_what_was_answered_before_does_not_wait() -> None:
    """Answers that are ready leave before a refusal behind them has its turn."""
    async with open_service(ScriptedService(answer)) as opened, opened.connect() as wire:
        await wire.send(REFUSED * (REFUSALS_BURST + WAITING))
        await wire.send(get(b"/good"))
        async with opened.connect() as other:
            await other.send(get(b"/good"), REFUSED, get(b"/good"))
            assert [(await other.answer()).status for _ in range(3)] == [200, 403, 200]
        for _ in range(REFUSALS_BURST + WAITING):
            assert (await wire.answer()).status == 403
        assert (await wire.answer()).status == 200


async def test_refusals_that_wait_take_no_place_from_others() -> None:
    """A connection whose refusal waits gives way to a new one."""
    config = RestConfig(port=0, max_connections=10)
    async with open_service(ScriptedService(answer), config) as opened, AsyncExitStack() as stack:
        refused = [await stack.enter_async_context(opened.connect()) for _ in range(9)]
        for wire in refused:  # of one host, which has no more places
            await wire.send(REFUSED * 100)
        for _ in range(10):  # all are under way
            assert (await refused[-1].answer()).status == 403
        async with opened.connect() as late:
            assert (await late.ask(b"GET /good")).status == 200
