"""Watches through connections that are cut, and members that fail: no event is missed, none comes twice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

import raftkv_trio.client.etcd.watch_responses as watch_responses
from raftkv_trio import Client, Watch, WatchCompacted
from raftkv_trio.kv import Put
from tests.client.etcd.cutting_proxy import open_cutting_proxy
from tests.client.etcd.test_client import connected
from tests.conftest import find_free_ports
from tests.etcd.servers import HOST, ApiServer, needs_etcd, open_etcd, open_node
from tests.integration.cluster import Cluster

PATIENCE_S = 120.0
SIZE = 3
PUTS = 400


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    start = open_etcd if request.param == "etcd" else open_node
    with start(tmp_path_factory.mktemp("server")) as running:
        yield running


async def put_numbers(
    client: Client, count: int, then: Callable[[int], object] = lambda number: None
) -> None:
    """Put 0, 1, 2 and so on under one key; each is executed once."""
    for number in range(count):
        await client.put(b"a", b"%d" % number)
        then(number)


async def see_numbers(watch: Watch, count: int) -> None:
    """Each of them is seen once, and in order."""
    for number in range(count):
        event = await anext(watch)
        assert event.key_value is not None
        assert event.key_value.value == b"%d" % number


@pytest.mark.parametrize("seed", range(3))
async def test_connections_that_are_cut_anywhere(server: ApiServer, seed: int) -> None:
    """In the middle of frames and responses."""
    random = Random(seed)
    sizes = [random.randrange(200, 3000) for _ in range(40)]
    async with (
        connected(server) as writer,
        open_cutting_proxy(server.port, sizes) as proxy,
        Client([f"{HOST}:{proxy.port}"]) as client,
        client.watch(b"a") as watch,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(put_numbers, writer, PUTS)
        await see_numbers(watch, PUTS)
        assert proxy.cuts >= 5


async def test_a_large_revision_is_whole_after_a_cut(server: ApiServer) -> None:
    """What had come of it is not told again."""
    async with connected(server) as writer:
        put = await writer.txn(success=[Put(b"a%02d" % n, bytes(20_000)) for n in range(70)])
        await writer.txn(success=[Put(b"a%02d" % n, bytes(20_000)) for n in range(70)])
        async with (
            open_cutting_proxy(server.port, [400_000, 900_000, 1_300_000]) as proxy,
            Client([f"{HOST}:{proxy.port}"]) as client,
            client.watch(prefix=b"a", start_revision=put.revision) as watch,
        ):
            seen = [(event.revision, event.key) for event in [await anext(watch) for _ in range(140)]]
            assert proxy.cuts >= 3
        assert len(set(seen)) == 140
        assert seen == sorted(seen)


OFTEN = "--experimental-watch-progress-notify-interval=100ms"


@pytest.mark.parametrize(
    "start",
    [pytest.param(lambda directory: open_etcd(directory, OFTEN), marks=needs_etcd, id="etcd"), open_node],
)
async def test_a_watch_without_events_goes_on_with_the_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[Path], AbstractContextManager[ApiServer]],
) -> None:
    """After a cut it begins above what was compacted meanwhile, because it was told how far the store is."""
    monkeypatch.setattr(watch_responses, "IDLE_S", 0.05)
    with start(tmp_path) as server:
        async with (
            connected(server) as writer,
            open_cutting_proxy(server.port) as proxy,
            Client([f"{HOST}:{proxy.port}"]) as client,
            client.watch(b"quiet") as watch,
        ):
            for number in range(50):
                reply = await writer.put(b"busy", b"%d" % number)
            with trio.fail_after(PATIENCE_S):
                while watch.next_revision <= reply.revision:
                    with trio.move_on_after(0.2):
                        await anext(watch)
            await writer.compact(reply.revision)
            proxy.cut()
            put = await writer.put(b"quiet", b"")
            assert (await anext(watch)).revision == put.revision


async def test_events_that_are_compacted_meanwhile(server: ApiServer) -> None:
    """After a cut the watch says so: there may be a gap."""
    async with (
        connected(server) as writer,
        open_cutting_proxy(server.port) as proxy,
        Client([f"{HOST}:{proxy.port}"]) as client,
        client.watch(b"a") as watch,
    ):
        proxy.cut()
        assert watch._responses._connection is not None
        await watch._responses._connection.channel.ended.wait()
        await writer.put(b"a", b"1")
        last = await writer.put(b"a", b"2")
        await writer.compact(last.revision)
        with pytest.raises(WatchCompacted) as compacted:
            await anext(watch)
        assert compacted.value.compact_revision == last.revision


# ---------------------------------------------------------------- members


@pytest.mark.parametrize("failure", ["kill", "halt", "cut off"])
async def test_members_that_fail(tmp_path: Path, failure: str) -> None:
    """The member that serves a watch is killed, is silent, or hears of no leader: another one goes on.

    Another client puts all the time.
    """
    cluster = Cluster(tmp_path, SIZE, is_proxied=failure == "cut off")
    ports = find_free_ports(SIZE)
    for node_id, port in enumerate(ports, start=1):
        cluster.give(node_id, "--etcd-port", str(port))
    endpoint_of = {node_id: f"{HOST}:{port}" for node_id, port in enumerate(ports, start=1)}
    try:
        with trio.fail_after(PATIENCE_S):
            async with AsyncExitStack() as stack:
                proxies = await stack.enter_async_context(cluster.open_proxies()) if "cut" in failure else {}
                cluster.start()
                http = await stack.enter_async_context(httpx.AsyncClient())
                await cluster.wait_ready(http)
                leader = await cluster.leader(http)
                failing, *_ = (node_id for node_id in cluster.ids if node_id != leader)
                others = [endpoint for node_id, endpoint in endpoint_of.items() if node_id != failing]
                client = await stack.enter_async_context(Client([endpoint_of[failing], *others]))
                writer = await stack.enter_async_context(Client(others))
                watch = await stack.enter_async_context(client.watch(b"a"))

                def fail(number: int) -> None:
                    if number != PUTS // 2:
                        return
                    match failure:
                        case "kill":
                            cluster.kill(failing)
                        case "halt":
                            cluster.halt(failing)
                        case _:
                            proxies[failing].hold()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(put_numbers, writer, PUTS, fail)
                    await see_numbers(watch, PUTS)
                connection = watch._responses._connection
                assert connection is not None
                assert connection.address.port != ports[failing - 1]
    finally:
        cluster.kill()
