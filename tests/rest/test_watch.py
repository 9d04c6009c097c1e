"""`GET /-/watch` and the wait for one key: what a client of HTTP/1.1 is told of changes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trio
import trio.testing

from raftkv_trio.config import WatchConfig
from raftkv_trio.http import Request
from raftkv_trio.kv import Compact, Delete, Put, Txn, encode_command
from tests.rest.serving import PATIENCE_S, Served, open_client, open_server


class Event(NamedTuple):
    """An event of a stream, as a browser would give it to a page; `data` is None if only its id was told."""

    id: str | None
    kind: str
    data: Any


class Stream:
    """A stream of Server-Sent Events, in the chunks of HTTP/1.1."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def head(self) -> bytes:
        """The head of the response."""
        return await self._until(b"\r\n\r\n")

    async def next(self) -> Event | None:
        """The next event or comment, each a chunk; None at the end."""
        size = int(await self._until(b"\r\n"), 16)
        chunk = (await self._take(size + 2))[:-2].decode()
        if not size:
            return None
        assert chunk.endswith("\n\n")
        fields = {name: value.strip() for name, _, value in map(_partition, chunk.splitlines()[:-1])}
        data = json.loads(fields["data"]) if "data" in fields else None
        return Event(fields.get("id"), fields.get("event", "message"), data)

    async def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._receive()
        found, _, self._received = self._received.partition(end)
        return found

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._receive()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def _receive(self) -> None:
        with trio.fail_after(PATIENCE_S):
            data = await self._stream.receive_some()
        assert data, "the server closed"
        self._received += data


def _partition(line: str) -> tuple[str, str, str]:
    return line.partition(":")


@asynccontextmanager
async def watch(served: Served, query: str, **fields: str) -> AsyncIterator[Stream]:
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as connection:
        lines = [f"GET /-/watch?{query} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        await connection.send_all("\r\n".join([*lines, "", ""]).encode())
        stream = Stream(connection)
        head = await stream.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        assert b"Content-Type: text/event-stream" in head
        yield stream


async def run(served: Served, *operations: Put | Delete) -> int:
    """Run a txn, and return its revision."""
    proposal = served.node.submit(encode_command(Txn((), operations, ())))
    applied: Any = await proposal.wait()
    return int(applied.result.revision)


async def test_changes_of_a_prefix(tmp_path: Path) -> None:
    """Each revision is one event with all its changes; what is no text is in base64."""
    async with open_server(tmp_path) as served, watch(served, "prefix=/a&prev_kv=true") as stream:
        assert await stream.next() == Event("1", "message", None)
        first = await run(served, Put(b"/a", b"1"), Put(b"/b", b"2"), Put(b"/a/\xff", b"\xff\0"))
        event = await stream.next()
        assert event is not None
        assert (event.id, event.kind, event.data["revision"]) == (str(first), "message", first)
        same = {"create_revision": first, "mod_revision": first, "version": 1}
        assert event.data["changes"] == [
            {"type": "put", "key": "/a", "value": "1", **same},
            {"type": "put", "key_base64": "L2Ev/w==", "value_base64": "/wA=", **same},
        ]
        second = await run(served, Delete(b"/a"))
        event = await stream.next()
        assert event is not None
        assert event.id == str(second)
        assert event.data["changes"] == [
            {"type": "delete", "key": "/a", "previous": {"value": "1", **same}},
        ]


async def test_resumed_by_its_last_id(tmp_path: Path) -> None:
    """A client that comes again with the last id it was told misses nothing, also before the first event."""
    async with open_server(tmp_path) as served:
        async with watch(served, "key=/k") as stream:
            event = await stream.next()
        seen: list[str] = []
        for number in range(4):
            await run(served, Put(b"/k", b"%d" % number), Put(b"/other", b""))
            await run(served, Put(b"/other", b""))
            assert event is not None
            assert event.id is not None
            async with watch(served, "key=/k&rev=1", **{"Last-Event-ID": event.id}) as stream:
                assert await stream.next() == Event(event.id, "message", None)
                event = await stream.next()
                assert event is not None
                seen += [change["value"] for change in event.data["changes"]]
        assert seen == ["0", "1", "2", "3"]


async def test_from_the_past_and_a_range(tmp_path: Path) -> None:
    """`rev` names the first revision; a range has an end that does not belong to it."""
    async with open_server(tmp_path) as served:
        for key in (b"/a", b"/b", b"/c", b"/d"):
            await run(served, Put(key, b""))
        async with watch(served, "key=/b&range_end=/d&rev=2") as stream:
            events = [await stream.next() for _ in range(3)]
            assert [event and event.id for event in events] == ["1", "3", "4"]
        async with watch(served, "prefix=&rev=5") as stream:
            events = [await stream.next() for _ in range(2)]
            assert [event and event.id for event in events] == ["4", "5"]


async def test_what_is_compacted(tmp_path: Path) -> None:
    """Who begins in what is compacted gets 410 with the revision from which on there is something."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        for number in range(5):
            await run(served, Put(b"/k", b"%d" % number))
        await served.node.submit(encode_command(Compact(4))).wait()
        for fields in ({}, {"Last-Event-ID": "2"}):
            answer = await client.get("/-/watch?key=/k&rev=3", headers=fields)
            assert answer.status_code == 410
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["compacted_revision"] == 4
        async with watch(served, "key=/k&rev=4") as stream:
            events = [await stream.next() for _ in range(4)]
            assert [event and event.id for event in events] == ["3", "4", "5", "6"]


async def test_a_quiet_stream_is_kept_alive(tmp_path: Path) -> None:
    """It is told the revision up to which there was nothing for it, from where it may go on."""
    config = WatchConfig(keep_alive_s=0.02)
    async with open_server(tmp_path, watch=config) as served, watch(served, "key=/k") as stream:
        assert await stream.next() == Event("1", "message", None)
        revision = await run(served, Put(b"/other", b""))
        while (event := await stream.next()) != Event(str(revision), "message", None):
            assert event in (Event("1", "message", None), Event(None, "message", None))


async def test_a_stream_ends_with_the_server(tmp_path: Path) -> None:
    """Its last event says why, and its content is complete."""
    async with open_server(tmp_path) as served, watch(served, "key=/k") as stream:
        await stream.next()
        served.stop_watches()
        assert await stream.next() == Event(None, "error", {"reason": "the server is stopping"})
        assert await stream.next() is None


@pytest.mark.parametrize(
    "query",
    [
        "",
        "key=/a&prefix=/a",
        "prefix=/a&range_end=/b",
        "key=/b&range_end=/a",
        "key=/a&key=/b",
        "key=/a&rev=0",
        "key=/a&rev=x",
        "key=/a&nonsense=1",
        "key=/a&prev_kv=maybe",
    ],
)
async def test_refused(tmp_path: Path, query: str) -> None:
    """What is no watch is refused with a problem document, and so is another method."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        answer = await client.get(f"/-/watch?{query}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
        assert (await client.get("/-/watch?key=/a", headers={"Last-Event-ID": "x"})).status_code == 400
        assert (await client.get("/-/watch?key=/a", headers={"Origin": "http://other"})).status_code == 403
        refused = await client.post("/-/watch?key=/a")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")


# ---------------------------------------------------------------- the wait for one key


async def test_a_wait_ends_with_the_change(tmp_path: Path) -> None:
    """A GET of what has not changed waits, and is answered with the new value, or that the key is gone."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        revision = await run(served, Put(b"/k", b"1"))
        fields = {"Prefer": "wait=60", "If-None-Match": f'"{revision}"'}
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.get("/k", headers=fields))

        for operation, status in ((Put(b"/k", b"2"), 200), (Delete(b"/k"), 404)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                while not served.replicated.watches.load.watchers:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                await run(served, Put(b"/other", b""))
                await run(served, operation)
            assert answers[-1].status_code == status
            assert answers[-1].headers["Preference-Applied"] == "wait"
            fields["If-None-Match"] = answers[-1].headers.get("ETag", "")
        assert answers[0].content == b"2"


async def test_a_change_before_the_wait_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not missed, though the answers that were held back are sent in between."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        revision = await run(served, Put(b"/k", b"1"))
        will_wait = Request.will_wait

        async def change(request: Request) -> None:
            await will_wait(request)
            await run(served, Put(b"/k", b"2"))

        monkeypatch.setattr(Request, "will_wait", change)
        fields = {"Prefer": "wait=600", "If-None-Match": f'"{revision}"', "Cache-Control": "max-stale"}
        with trio.fail_after(PATIENCE_S):
            answer = await client.get("/k", headers=fields)
        assert (answer.status_code, answer.content) == (200, b"2")


async def test_when_nothing_is_waited_for(tmp_path: Path) -> None:
    """At once is answered: another tag, no tag, no preference, a malformed one; 304 when the time is up."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        revision = await run(served, Put(b"/k", b"1"))
        tag, wait = f'"{revision}"', "wait=600"
        with trio.fail_after(PATIENCE_S):
            for fields, status in (
                ({"If-None-Match": '"1"', "Prefer": wait}, 200),
                ({"Prefer": wait}, 200),
                ({"If-None-Match": tag}, 304),
                ({"If-None-Match": tag, "Prefer": "wait"}, 304),
                ({"If-None-Match": tag, "Prefer": "wait=soon, respond-async"}, 304),
                ({"If-None-Match": tag, "Prefer": "wait=0"}, 304),
            ):
                answer = await client.get("/k", headers=fields)
                assert (answer.status_code, "Preference-Applied" in answer.headers) == (status, False)
            late = await client.get("/k", headers={"If-None-Match": tag, "Prefer": "respond-async, wait=1"})
            assert (late.status_code, late.headers["Preference-Applied"]) == (304, "wait")
            assert (await client.get("/none", headers={"Prefer": wait})).status_code == 404


async def test_no_wait_before_there_is_a_history(tmp_path: Path) -> None:
    """While a member is of a release without one, the preference is ignored, and nothing fails."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        served.store.set_level(1)
        revision = await run(served, Put(b"/k", b"1"))
        fields = {"If-None-Match": f'"{revision}"', "Prefer": "wait=600"}
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.get("/k", headers=fields))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            while not (answers or served.replicated.watches.load.watchers):  # noqa: ASYNC110
                await trio.sleep(0.001)
            await run(served, Put(b"/k", b"2"))
        assert answers[0].status_code == 304
        assert "Preference-Applied" not in answers[0].headers


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    """Its watcher is forgotten, also if nothing happens that it would be sent."""
    async with open_server(tmp_path) as served:
        async with watch(served, "key=/k") as stream:
            await stream.next()
            assert served.replicated.watches.load.watchers == 1
        with trio.fail_after(PATIENCE_S):
            while served.replicated.watches.load.streams:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert served.store.observer is None


async def test_a_stream_that_a_compaction_overtakes(tmp_path: Path) -> None:
    """Its last event says so: its client has not read what was compacted."""
    config = WatchConfig(max_stream_bytes=64 * 1024)
    async with open_server(tmp_path, watch=config) as served, watch(served, "key=/k") as stream:
        await stream.next()
        hub = served.replicated.watches
        while not hub.unsynced:  # until the sockets and the queue are full
            await run(served, Put(b"/k", b"v" * 100_000))
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            await run(served, Put(b"/k", b"last"))
        await served.node.submit(encode_command(Compact(served.store.revision))).wait()
        seen = []
        while (event := await stream.next()) is not None:
            seen.append(event)
        *changes, error = seen
        compacted = {"reason": "compacted", "compacted_revision": served.store.revision}
        assert error == Event(None, "error", compacted)
        ids = [int(event.id or 0) for event in changes]
        assert ids == list(range(2, 2 + len(ids)))
        assert ids[-1] < served.store.revision
