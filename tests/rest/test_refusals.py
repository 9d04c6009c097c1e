"""What is refused or unknown: its status, its sentence, and whether it may have happened."""

from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio import errors
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from raftkv_trio.kv import Txn, encode_txn
from raftkv_trio.rest.status_codes import status_of
from tests.rest.serving import Served, WireResponse, open_client, open_server

TWO = {1: PeerAddress("127.0.0.1", 1), 2: PeerAddress("127.0.0.1", 2)}
HASTY = RestConfig(port=0, request_timeout_s=0.2)


def check_try_later(status: int, headers: httpx.Headers) -> None:
    assert (status, headers["Retry-After"]) in ((429, "1"), (503, "1"))


async def test_no_leader(tmp_path: Path) -> None:
    """Without a quorum reads and writes are 503 within the request timeout, and name the missing nodes."""
    async with (
        open_server(tmp_path / "data", HASTY, members=TWO) as served,
        open_client(served) as client,
    ):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            refused = await client.request(method, "/key")
            check_try_later(refused.status_code, refused.headers)
        assert "node 2: Connection refused" in (await client.get("/key")).text
        assert "certainly not applied" in (await client.put("/key", content=b"v")).text
        ready = await client.get("/-/ready")
        check_try_later(ready.status_code, ready.headers)
        assert "node 2: Connection refused" in ready.json()["detail"]
        assert len(served.store) == 0


async def test_unknown_outcome(tmp_path: Path) -> None:
    """A write that was sent but not confirmed in time is 504, and may happen: here it does."""
    async with open_server(tmp_path / "data", HASTY) as served, open_client(served) as client:
        await served.node.wait_readable()  # it leads
        served.disk.gate.close()
        unknown = await client.put("/key", content=b"new")
        assert unknown.status_code == 504
        assert "it may or may not be applied" in unknown.text
        assert "Retry-After" not in unknown.headers
        served.disk.gate.open()
        await served.node.propose(encode_txn(Txn()))  # what was proposed before it is decided then
        assert (await client.get("/key", headers={"Cache-Control": "max-stale"})).content == b"new"


async def test_overload(tmp_path: Path) -> None:
    """Writes beyond what may be pending are 429 at once, while reads go on."""
    server = open_server(tmp_path / "data", max_pending_proposals=3)
    async with server as served, open_client(served) as client:
        await client.put("/key", content=b"v")
        statuses: list[int] = []

        async def put(number: int) -> None:
            answer = await client.put(f"/{number}/", content=b"v")
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                check_try_later(429, answer.headers)
                if len(statuses) == 5:
                    assert (await client.get("/key", headers={"Cache-Control": "max-stale"})).content == b"v"
                    served.disk.gate.open()

        served.disk.gate.close()
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(put, number)
        assert statuses == [429] * 5 + [204] * 3
        assert len(served.store) == 4


async def put_chunked(served: Served, content: bytes) -> WireResponse:
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    return await served.ask(b"PUT /chunked", b"Transfer-Encoding: chunked", content=chunk)


async def test_too_large(tmp_path: Path) -> None:
    """A value over the limit is 413: unread if its length is announced, else at the limit."""
    config = RestConfig(port=0, max_value_bytes=1000)
    async with open_server(tmp_path / "data", config) as served:
        for size, status in ((1000, 204), (1001, 413)):
            told = await served.ask(b"PUT /told", b"Content-Length: %d" % size, content=b"v" * size)
            chunked = await put_chunked(served, b"v" * size)
            assert (told.status, chunked.status) == (status, status)
        unread = await served.ask(b"PUT /unread", b"Content-Length: 18446744073709551615")
        assert (unread.status, unread.content) == (
            413,
            b"A value has at most 1000 bytes (--max-value-size)\n",
        )
        skipped = await served.ask(b"GET /told", b"Content-Length: 1001", content=b"v" * 1001)
        assert skipped.status == 413
        assert {record.key for record in served.store.range(b"")} == {b"/told", b"/chunked"}


async def test_values_being_received(tmp_path: Path) -> None:
    """Values beyond what may be received at once are 429, unread if their length is announced."""
    config = RestConfig(port=0, max_value_bytes=1000, max_receiving_bytes=1500)
    async with open_server(tmp_path / "data", config) as served, served.connect() as slow:
        await slow.send(b"PUT /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"s" * 999)
        while True:  # until these bytes have arrived
            unread = await served.ask(b"PUT /told", b"Content-Length: 502")
            if unread.status == 429:
                break
        check_try_later(unread.status, unread.headers)
        assert (await put_chunked(served, b"v" * 502)).status == 429
        assert (await put_chunked(served, b"v" * 501)).status == 204
        await slow.send(b"s")
        assert (await slow.answer()).status == 204
        assert (await put_chunked(served, b"v" * 1000)).status == 204


async def test_a_client_that_goes_away_frees_its_room(tmp_path: Path) -> None:
    """What was received of a value counts no more when its client is gone, and is not written."""
    config = RestConfig(port=0, max_value_bytes=1000, max_receiving_bytes=1000)
    async with open_server(tmp_path / "data", config) as served:
        for _ in range(5):
            async with served.connect() as wire:
                await wire.send(
                    b"PUT /cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"c" * 900
                )
                await wire.stream.send_eof()
                assert (await wire.answer()).status == 400
            whole = await served.ask(b"PUT /whole", b"Content-Length: 1000", content=b"w" * 1000)
            assert whole.status == 204
        assert served.store.get(b"/cut") is None


OF_SERVERS = [kind for kind in errors.ProposalError.__subclasses__() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", [*OF_SERVERS, errors.MalformedRequest])
def test_every_refusal_has_a_status(kind: type[errors.RaftKVError]) -> None:
    """However a proposal or a read can end without a result, a client is told a status that is no bug's."""
    status = status_of(kind("why"))
    assert status is not None
    assert status != 500
    assert status_of(errors.StorageError("why")) is None
    assert (status_of(errors.DiskFull("full")), status_of(errors.SlowRequest("slow"))) == (507, 408)
