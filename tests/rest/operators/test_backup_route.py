"""`GET /-/backup`: how many backups a node sends at once."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from raftkv_trio.rest.operators.backup_route import MAX_BACKUPS
from tests.rest.serving import PATIENCE_S, Served, Wire

VALUE_BYTES = 1_500_000  # more than the sockets of both ends hold
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def open_lazy_client(served: Served, method: bytes) -> AsyncIterator[Wire]:
    """A client that has read the first bytes of a backup, and reads no more."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await opened.connect(("127.0.0.1", served.port))
        wire = Wire(trio.SocketStream(opened))
        await wire.send(method, b" /-/backup", HEAD)
        with trio.fail_after(PATIENCE_S):
            assert (await wire.stream.receive_some(12)) == b"HTTP/1.1 200"
        yield wire


@pytest.fixture
async def filled(served: Served) -> Served:
    answer = await served.ask(b"PUT /1", b"Content-Length: %d" % VALUE_BYTES, content=b"v" * VALUE_BYTES)
    assert answer.status == 204
    return served


async def test_a_fifth_backup_is_refused(filled: Served) -> None:
    """Four clients that hardly read get a backup each, a fifth gets 429; keys are served as before."""
    async with AsyncExitStack() as clients:
        for _ in range(MAX_BACKUPS):
            await clients.enter_async_context(open_lazy_client(filled, b"GET"))
        answer = await filled.ask(b"GET /-/backup")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert b"4 backups already" in answer.content
        assert (await filled.ask(b"GET /1")).status == 200


@pytest.mark.parametrize(
    "field",
    [
        b"Sec-Fetch-Site: cross-site",
        b"Sec-Fetch-Site: same-site",
        b"Origin: http://evil.example",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    ],
)
async def test_a_page_of_another_site_has_no_backup(served: Served, field: bytes) -> None:
    """It could take all places, each with a snapshot. A browser that does not say whose page is refused."""
    before = served.node.status().snapshot_index
    for request in (b"GET /-/backup", b"HEAD /-/backup?x", b"GET /-/%62ackup"):
        answer = await served.ask(request, field)
        assert (answer.status, answer.headers["Content-Type"]) == (403, "application/problem+json")
        assert request.startswith(b"HEAD") or b"raftkv-trio backup" in answer.content
    assert served.node.status().snapshot_index == before
    own = (b"Sec-Fetch-Site: none", b"User-Agent: Mozilla/5.0")
    assert (await served.ask(b"HEAD /-/backup", *own)).status == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_backup_that_ends_makes_room(filled: Served, method: bytes) -> None:
    """A place is free again when the client is gone, after a whole backup, and after HEAD."""
    for _ in range(MAX_BACKUPS):
        async with open_lazy_client(filled, method):
            pass
    await ask_until_not_429(filled, b"HEAD /-/backup")
    for _ in range(MAX_BACKUPS + 1):
        await ask_until_not_429(filled, b"GET /-/backup")


async def ask_until_not_429(served: Served, request_line: bytes) -> None:
    """Ask until the server has noticed that the client before is gone."""
    with trio.fail_after(PATIENCE_S):
        while (await served.ask(request_line)).status == 429:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
