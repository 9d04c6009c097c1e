"""Watches of the client: each event once and in order, on etcd and on a node, and through failures."""

from collections.abc import Iterator

import pytest
import trio

from raftkv_trio import CallRefused, Client, ConfigError, Watch, WatchCompacted, WatchEvent
from raftkv_trio.kv import TO_THE_LAST, Delete, Put
from tests.client.etcd.test_client import connected
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node

PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    start = open_etcd if request.param == "etcd" else open_node
    with start(tmp_path_factory.mktemp("server")) as running:
        yield running


async def take(watch: Watch, count: int) -> list[WatchEvent]:
    return [await anext(watch) for _ in range(count)]


async def test_events(server: ApiServer) -> None:
    """Puts and deletes from the beginning of the block on, with what they replace."""
    async with connected(server) as client:
        before = await client.put(b"a", b"0")
        async with client.watch(b"a", previous=True) as watch:
            assert watch.next_revision == before.revision + 1
            first = await client.put(b"a", b"1")
            await client.put(b"b", b"1")
            deleted = await client.delete(b"a")
            put, delete = await take(watch, 2)
            assert put.key_value == await client.get(b"a", revision=first.revision)
            assert put.previous == await client.get(b"a", revision=before.revision)
            assert (put.key, put.revision, put.is_last) == (b"a", first.revision, True)
            assert delete == (b"a", deleted.revision, None, put.key_value, True)
            assert watch.next_revision == deleted.revision + 1


async def test_ranges_and_filters(server: ApiServer) -> None:
    """A range, a prefix, all keys from one on; puts alone, or deletes alone."""
    async with connected(server) as client:
        start = (await client.put(b"a", b"")).revision
        for key in (b"b", b"c1", b"c2", b"d"):
            await client.put(key, b"")
        end = (await client.delete(b"c1")).revision

        async def keys(watch: Watch) -> list[bytes]:
            seen = []
            async with watch:
                async for event in watch:
                    if event.key == b"end":
                        break
                    seen.append(event.key)
            return seen

        await client.put(b"end", b"")
        await client.delete(b"end")
        assert await keys(client.watch(b"b", TO_THE_LAST, start_revision=start)) == [
            *(b"b", b"c1", b"c2", b"d", b"c1")
        ]
        every = client.watch(prefix=b"", start_revision=start, puts=False)
        assert await keys(every) == [b"c1"]
        async with client.watch(prefix=b"c", start_revision=start) as watch:
            assert [each.key for each in await take(watch, 3)] == [b"c1", b"c2", b"c1"]
        async with client.watch(b"b", b"d", start_revision=start, deletes=False) as watch:
            assert [each.key for each in await take(watch, 3)] == [b"b", b"c1", b"c2"]
        async with client.watch(b"c1", start_revision=end) as watch:
            assert (await anext(watch)).key_value is None


async def test_the_events_of_a_revision_are_together(server: ApiServer) -> None:
    """The last one says that it is the last; those of many revisions, larger than one message, are whole."""
    async with connected(server) as client:
        first = await client.txn(success=[Put(b"a%02d" % n, bytes(20_000)) for n in range(60)])
        second = await client.txn(success=[Put(b"a%02d" % n, bytes(20_000)) for n in range(60)])
        third = await client.txn(success=[Put(b"a", b""), Delete(b"a00", b"a99")])
        async with client.watch(prefix=b"a", start_revision=first.revision, previous=True) as watch:
            events = await take(watch, 181)
        assert [each.revision for each in events] == [
            *[first.revision] * 60,
            *[second.revision] * 60,
            *[third.revision] * 61,
        ]
        assert [at for at, each in enumerate(events) if each.is_last] == [59, 119, 180]


async def test_a_compacted_beginning(server: ApiServer) -> None:
    """The block says from where on a watch could begin."""
    async with connected(server) as client:
        first = await client.put(b"a", b"1")
        last = await client.put(b"a", b"2")
        await client.compact(last.revision)
        with pytest.raises(WatchCompacted) as compacted:
            async with client.watch(b"a", start_revision=first.revision) as watch:
                await anext(watch)
        assert compacted.value.compact_revision == last.revision
        async with client.watch(b"a", start_revision=last.revision) as watch:
            later = await client.put(b"a", b"3")
            assert (await take(watch, 2))[-1].revision == later.revision


async def test_refusals(server: ApiServer) -> None:
    """What the server refuses, and what does not even get there."""
    async with connected(server) as client:
        with pytest.raises(CallRefused, match="range is empty"):
            async with client.watch(b"b", b"a"):
                pass
        for arguments in (
            {},
            {"key": b""},
            {"key": b"a", "prefix": b"b"},
            {"key": b"a", "start_revision": -1},
        ):
            with pytest.raises(ConfigError):
                client.watch(**arguments)


async def test_a_wait_that_is_given_up_loses_nothing(server: ApiServer) -> None:
    """The next one gets the event, on the stream that was there."""
    async with connected(server) as client, client.watch(b"a") as watch:
        with trio.move_on_after(0.05) as scope:
            await anext(watch)
        assert scope.cancelled_caught
        put = await client.put(b"a", b"1")
        assert (await anext(watch)).revision == put.revision


async def test_the_deadline_of_the_beginning_is_not_that_of_the_watch(server: ApiServer) -> None:
    """A watch that has begun inside a deadline is on the same stream after it."""
    async with connected(server) as client:
        watch = client.watch(b"a")
        with trio.fail_after(1):
            await watch.__aenter__()
        stream = watch._responses._stream
        with trio.move_on_after(1.5):
            await anext(watch)
        await client.put(b"a", b"1")
        assert (await anext(watch)).key == b"a"
        assert watch._responses._stream is stream
        await watch.__aexit__(None, None, None)


async def test_a_closed_client(server: ApiServer) -> None:
    """Whoever waits is told."""
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, Client([server.url]) as client:
            watch = await client.watch(b"a").__aenter__()

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await anext(watch)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
        await watch.__aexit__(None, None, None)
