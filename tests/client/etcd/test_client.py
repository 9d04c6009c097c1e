"""The client against real servers: etcd, and a node of ours."""

import runpy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from raftkv_trio import (
    CallRefused,
    Client,
    ConfigError,
    DeleteReply,
    PutReply,
    RangeReply,
)
from raftkv_trio.kv import Compare, Delete, Failure, Get, Put, Relation, Target, Txn
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node

PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    start = open_etcd if request.param == "etcd" else open_node
    with start(tmp_path_factory.mktemp("server")) as running:
        yield running


@asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[Client]:
    """A client of an empty store."""
    with trio.fail_after(PATIENCE_S):
        async with Client([server.url]) as client:
            await client.delete_range(prefix=b"")
            yield client


async def test_puts_and_gets(server: ApiServer) -> None:
    """A key is what was put last, with what belongs to it; past revisions stay."""
    async with connected(server) as client:
        assert await client.get(b"a") is None
        first = await client.put(b"a", b"1")
        second = await client.put(b"a", b"\xff\0", previous=True)
        assert second.previous is not None
        assert second.previous.value == b"1"
        found = await client.get(b"a")
        assert found == (b"a", b"\xff\0", first.revision, second.revision, 2, None)
        old = await client.get(b"a", revision=first.revision, serializable=True)
        assert old == second.previous
        assert (await client.get(b"a", serializable=True)) == found


async def test_ranges(server: ApiServer) -> None:
    """Given by a prefix, or a start and an end; with a limit, or only counted; deleted likewise."""
    async with connected(server) as client:
        for key in (b"a", b"b1", b"b2", b"b3", b"c"):
            await client.put(key, key)
        found = await client.get_range(prefix=b"b", limit=2)
        assert [each.key for each in found.key_values] == [b"b1", b"b2"]
        assert found.in_range == 3
        assert await client.get_range(limit=0) == RangeReply(found.revision, (), 5)
        assert [each.key async for each in client.range(b"b2")] == [b"b2", b"b3", b"c"]
        assert [each.key async for each in client.range(b"b2", b"c")] == [b"b2", b"b3"]
        reply = await client.delete_range(prefix=b"b", previous=True)
        assert (reply.deleted, [each.key for each in reply.previous]) == (3, [b"b1", b"b2", b"b3"])
        assert await client.delete(b"none") == DeleteReply(reply.revision, 0, ())
        assert [each.key async for each in client.range()] == [b"a", b"c"]


async def test_everything_is_deleted_only_if_that_is_said(server: ApiServer) -> None:
    """A range that is missing, by mistake perhaps, is none."""
    async with connected(server) as client:
        await client.put(b"a", b"1")
        with pytest.raises(ConfigError, match="needs a range"):
            await client.delete_range(prefix=None)
        assert (await client.get(b"a")) is not None
        assert (await client.delete_range(prefix=b"")).deleted == 1


async def test_a_range_over_many_pages_is_of_one_revision(server: ApiServer) -> None:
    """What is put and deleted meanwhile is not in it."""
    async with connected(server) as client:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(client.put, b"k%03d" % number, b"")
        pages = client.range(prefix=b"k", page=50)
        seen: list[bytes] = []
        async for each in pages:
            if not seen:
                await client.delete_range(prefix=b"k2")
                await client.put(b"k999", b"")
            seen.append(each.key)
        assert seen == [b"k%03d" % number for number in range(300)]
        assert pages.revision is not None


async def test_pages_of_large_values_are_small(server: ApiServer) -> None:
    """After the first page their number of keys is that of about a megabyte."""
    async with connected(server) as client:
        for number in range(12):
            await client.put(b"large %02d" % number, bytes(500_000))
        sizes, read = [], client._read

        async def spied(get: Get, serializable: bool = False) -> RangeReply:
            reply = await read(get, serializable)
            sizes.append(len(reply.key_values))
            return reply

        client._read = spied  # type: ignore[method-assign]
        assert len([each async for each in client.range(prefix=b"large", page=4)]) == 12
        assert sizes == [4, 2, 2, 2, 2]


async def test_txns(server: ApiServer) -> None:
    """Compares, both lists, inner txns, and a typed reply to each operation."""
    async with connected(server) as client:
        first = await client.put(b"a", b"1")
        reply = await client.txn(
            [
                Compare(b"a", Target.VALUE, Relation.EQUAL, b"1"),
                Compare(b"a", Target.VERSION, Relation.LESS, 2),
                Compare(b"a", Target.CREATE_REVISION, Relation.NOT_EQUAL, 1),
                Compare(b"a", Target.MOD_REVISION, Relation.GREATER, 1),
                Compare(b"a", Target.LEASE, Relation.EQUAL, 0),
                Compare.absent(b"none"),
            ],
            [
                Put(b"a", b"2"),
                Get(b"a"),
                Delete(b"none"),
                Txn((Compare.exists(b"a"),), (Put(b"b", b"3"),), ()),
            ],
            [Get(b"a")],
            previous=True,
        )
        assert reply.succeeded
        put, got, deleted, inner = reply.replies
        assert isinstance(put, PutReply)
        assert put.previous == (b"a", b"1", first.revision, first.revision, 1, None)
        assert isinstance(got, RangeReply)
        assert got.key_values[0].value == b"2"
        assert isinstance(deleted, DeleteReply)
        assert deleted.deleted == 0
        assert getattr(inner, "succeeded", None)
        failed = await client.txn([Compare.absent(b"a")], [Put(b"a", b"9")], [Get(b"b")])
        assert not failed.succeeded
        assert isinstance(failed.replies[0], RangeReply)
        assert failed.replies[0].key_values[0].value == b"3"
        with pytest.raises(CallRefused, match="duplicate key"):
            await client.txn([], [Put(b"a", b"1"), Put(b"a", b"2")])


async def test_compaction_and_revisions(server: ApiServer) -> None:
    """What was compacted cannot be read, nor what has not come yet."""
    async with connected(server) as client:
        first = await client.put(b"a", b"1")
        second = await client.put(b"a", b"2")
        await client.compact(second.revision)
        with pytest.raises(CallRefused) as compacted:
            await client.get(b"a", revision=first.revision)
        assert compacted.value.failure is Failure.COMPACTED
        with pytest.raises(CallRefused) as future:
            await client.get(b"a", revision=second.revision + 1000)
        assert future.value.failure is Failure.FUTURE_REVISION


async def test_the_cluster(server: ApiServer) -> None:
    """Members, and what the one in use says."""
    async with connected(server) as client:
        reply = await client.put(b"a", b"1")
        status = await client.status()
        assert status.endpoint == server.url
        assert status.revision == reply.revision
        assert status.leader_id == status.member_id
        assert [member.id for member in await client.members()] == [status.member_id]


async def test_keys_are_known_to_ours_alone(server: ApiServer) -> None:
    """What the client asks a new connection tells raftkv-trio, which knows idempotency keys, from etcd."""
    async with connected(server) as client:
        connection = await client._open.connections.get()
        assert connection.knows_keys == (server.name == "raftkv-trio")


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [
        ([], "at least one"),
        (["a b:1"], "malformed|form"),
        (["127.0.0.1"], "form"),
        ("127.0.0.1:1", "a list"),
        ([b"127.0.0.1:1"], "text"),
    ],
)
def test_malformed_endpoints(endpoints: Any, words: str) -> None:
    """They are refused when the client is made."""
    with pytest.raises(ConfigError, match=words):
        Client(endpoints)


async def test_a_client_has_one_block() -> None:
    """Before it there are no calls, and there is no second one."""
    client = Client(["127.0.0.1:1"])
    with pytest.raises(RuntimeError, match="use a Client in a block"):
        await client.put(b"key", b"value")
    async with client:
        with pytest.raises(RuntimeError, match="entered once"):
            await client.__aenter__()


async def test_arguments_that_no_message_can_carry() -> None:
    """They are refused before anything is sent."""
    async with Client(["127.0.0.1:1"]) as client:
        with pytest.raises(ConfigError, match="2\\*\\*63"):
            await client.get(b"a", revision=2**63)
        with pytest.raises(ConfigError, match="prefix"):
            await client.get_range(b"a", prefix=b"b")
        with pytest.raises(ConfigError, match="integer"):
            await client.txn([Compare(b"a", Target.VERSION, Relation.EQUAL, b"1")])
        with pytest.raises(ConfigError, match="bytes"):
            await client.txn([Compare(b"a", Target.VALUE, Relation.EQUAL, 1)])
        with pytest.raises(ConfigError, match="page"):
            client.range(page=0)


async def test_the_example(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    """examples/keys.py, which docs/client.md shows, does what it says."""
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "keys.py"))
    async with connected(server):
        await example["main"]([server.url])
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["b'color' b'red'", "b'shape' b'round'"]
