"""Watches over gRPC and JSON, as clients see them; `test_watch_differential.py` has etcd beside them."""

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.watch import WatchHandlers
from raftkv_trio.kv import Put, Txn, encode_command
from raftkv_trio.schema import rpc_pb2
from tests.conftest import find_free_ports
from tests.etcd.servers import HOST, ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.watch_streams import PATIENCE_S, open_watch_stream
from tests.integration.cluster import Cluster
from tests.rest.serving import Served, open_server

MIB = 1024 * 1024
#: So many, and with so much more than a number in each, that a member that misses them needs a snapshot.
PUTS, PAD = 400, 100_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_node(tmp_path_factory.mktemp("node")) as server:
        yield server


@contextmanager
def channel_to(server: ApiServer) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"{HOST}:{server.port}", options=options) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, request: Any) -> bytes:
    ask: Callable[..., bytes] = channel.unary_unary(
        f"/etcdserverpb.KV/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=bytes,
    )
    return ask(request, timeout=PATIENCE_S)


def put(channel: grpc.Channel, key: bytes, value: bytes) -> None:
    call(channel, "Put", rpc_pb2.PutRequest(key=key, value=value))


# ---------------------------------------------------------------- large responses


def fragments(server: ApiServer, *, fragment: bool) -> list[tuple[int, bool]]:
    """How the delete of four keys of a mebibyte each is told: how many events a response, and whether more
    are to come."""
    with channel_to(server) as channel, open_watch_stream(channel) as stream:
        for number in range(4):
            put(channel, b"large/%d" % number, bytes(MIB))
        watch_id = stream.create(b"large/", range_end=b"large0", prev_kv=True, fragment=fragment)
        call(channel, "DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"large/", range_end=b"large0"))
        stream.wait(lambda: len(stream.events(watch_id)) == 4)
        assert [len(event.prev_kv.value) for event in stream.events(watch_id)] == [MIB] * 4
        return [(len(r.events), r.fragment) for r in stream.responses if r.events]


def test_fragments(node: ApiServer) -> None:
    """A response of more than 2 MiB is divided if the watch wants that."""
    assert fragments(node, fragment=False) == [(4, False)]
    assert fragments(node, fragment=True) == [(1, True), (1, True), (1, True), (1, False)]


@needs_etcd
def test_fragments_as_etcd(tmp_path: Path) -> None:
    """etcd divides in the same way."""
    with open_etcd(tmp_path) as etcd:
        assert fragments(etcd, fragment=True) == [(1, True), (1, True), (1, True), (1, False)]


# ---------------------------------------------------------------- the ends of streams


def test_a_half_closed_stream_goes_on(node: ApiServer) -> None:
    """A client that asks for nothing more is still told what happens."""
    with channel_to(node) as channel, open_watch_stream(channel) as stream:
        watch_id = stream.create(b"half")
        stream.half_close()
        for number in range(3):
            put(channel, b"half", b"%d" % number)
        stream.wait(lambda: len(stream.events(watch_id)) == 3)


def test_a_node_that_stops_ends_streams(tmp_path: Path) -> None:
    """With UNAVAILABLE, so that clients go to another node; by JSON the content ends."""
    with open_node(tmp_path) as server, channel_to(server) as channel, open_watch_stream(channel) as stream:
        stream.create(b"a")
        with httpx.stream(
            "POST", f"{server.url}/v3/watch", json={"create_request": {"key": "YQ=="}}
        ) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines))["result"]["created"]
            os.kill(server.pid, signal.SIGTERM)
            error: Any = stream.wait_error()
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            assert json.loads(next(lines))["error"]["grpc_code"] == 14
            assert next(lines, None) is None


def test_by_json(node: ApiServer) -> None:
    """One line a response; an empty watch id is left out, as by etcd."""
    body = {"create_request": {"key": "anNvbg=="}}
    with (
        channel_to(node) as channel,
        httpx.stream("POST", f"{node.url}/v3/watch", json=body, timeout=PATIENCE_S) as response,
    ):
        lines = response.iter_lines()
        created = json.loads(next(lines))["result"]
        assert set(created) == {"header", "created"}
        put(channel, b"json", b"1")
        told = json.loads(next(lines))["result"]
        assert told["events"][0]["kv"]["value"] == "MQ=="
        assert int(told["header"]["revision"]) == int(created["header"]["revision"]) + 1


@asynccontextmanager
async def cluster_of_three(
    directory: Path, *arguments: str
) -> AsyncIterator[tuple[Cluster, dict[int, ApiServer]]]:
    """Members that serve etcd's API, with a leader; ended at the end, paused or not."""
    cluster = Cluster(directory, 3, arguments)
    servers = {
        node_id: ApiServer(f"node {node_id}", port)
        for node_id, port in zip(cluster.ids, find_free_ports(3), strict=True)
    }
    for node_id, server in servers.items():
        cluster.give(node_id, "--etcd-port", str(server.port))
    cluster.start()
    try:
        yield cluster, servers
    finally:
        cluster.kill()


async def test_streams_that_need_a_leader(tmp_path: Path) -> None:
    """They end when a quorum is gone, and later ones are refused; others go on."""
    async with cluster_of_three(tmp_path) as (cluster, servers), httpx.AsyncClient() as http:
        await cluster.wait_ready(http)
        stays, *others = sorted(cluster.ids, key=(await cluster.leader(http)).__eq__)
        await trio.to_thread.run_sync(lose_quorum, servers[stays], [cluster.pid(other) for other in others])


def lose_quorum(server: ApiServer, others: list[int]) -> None:
    needs_leader = ("hasleader", "true")
    with (
        channel_to(server) as channel,
        open_watch_stream(channel, needs_leader) as strict,
        open_watch_stream(channel) as patient,
    ):
        strict.create(b"a")
        patient.create(b"a")
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        errors: list[Any] = [strict.wait_error()]
        with open_watch_stream(channel, needs_leader) as refused:
            errors.append(refused.wait_error())
        for error in errors:
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        assert patient.create(b"b") == 1


# ---------------------------------------------------------------- a restore from the leader's snapshot


@pytest.mark.long
async def test_a_restore_leaves_no_gap(tmp_path: Path) -> None:
    """A member is paused until it needs a snapshot: its watches then are told all that they have missed."""
    arguments = "--snapshot-entries", "50", "--catch-up-entries", "10"
    async with (
        cluster_of_three(tmp_path, *arguments) as (cluster, servers),
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
    ):
        await cluster.wait_ready(http)
        leader = await cluster.leader(http)
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        with channel_to(servers[away]) as channel, open_watch_stream(channel) as stream:
            watch_id = await trio.to_thread.run_sync(stream.create, b"/k")
            os.kill(cluster.pid(away), signal.SIGSTOP)
            for number in range(PUTS):
                content = bytes(PAD) + b"%d" % number
                answer = await http.put(cluster.url(leader, "/k"), content=content)
                assert answer.status_code == 204
            os.kill(cluster.pid(away), signal.SIGCONT)
            await trio.to_thread.run_sync(stream.wait, lambda: len(stream.events(watch_id)) >= PUTS)
            values = [event.kv.value[PAD:] for event in stream.events(watch_id)]
            assert values == [b"%d" % number for number in range(PUTS)]
        assert "restored the snapshot" in cluster.log(away).read_text()


# ---------------------------------------------------------------- progress


class Client:
    """One stream of the handlers of a node in this process."""

    def __init__(self) -> None:
        self.ask, self.asked = trio.open_memory_channel[rpc_pb2.WatchRequest](10)
        self.told: list[rpc_pb2.WatchResponse] = []
        self.changed = trio.Event()

    async def send(self, message: bytes, *, more: bool = False) -> None:
        self.told.append(rpc_pb2.WatchResponse.FromString(message))
        self.changed.set()
        self.changed = trio.Event()

    async def wait(self, count: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while len(self.told) < count:
                await self.changed.wait()


@asynccontextmanager
async def watching(served: Served, config: WatchConfig) -> AsyncIterator[tuple[Client, ReplicatedStore]]:
    replicated = ReplicatedStore(served.node, served.store, RestConfig(port=0), config)
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replicated.watches.run)
        handlers = WatchHandlers(replicated, config, Authenticator(replicated))
        nursery.start_soon(handlers.watch, client.asked, Call({}), client.send)
        yield client, replicated
        nursery.cancel_scope.cancel()


async def test_progress_is_told_when_nothing_else_is(tmp_path: Path) -> None:
    """A watch that wants it hears the revision once an interval, unless an event told it."""
    config = WatchConfig(progress_interval_s=0.05)
    async with open_server(tmp_path) as served, watching(served, config) as (client, replicated):
        for key, wants in ((b"a", True), (b"b", False)):
            create = rpc_pb2.WatchCreateRequest(key=key, progress_notify=wants)
            await client.ask.send(rpc_pb2.WatchRequest(create_request=create))
        await client.wait(4)
        first, second, *rest = client.told
        assert (first.created, second.created) == (True, True)
        assert {(one.watch_id, one.header.revision, len(one.events)) for one in rest} == {(0, 1, 0)}
        applied: Any = await replicated.write(encode_command(Txn((), (Put(b"a", b"1"),), ())))
        revision = applied.result.revision
        before = len(client.told)
        await client.wait(before + 3)
        events = [one for one in client.told if one.events]
        assert [one.events[0].kv.mod_revision for one in events] == [revision]
        at = client.told.index(events[0])
        assert {one.header.revision for one in client.told[at:]} == {revision}
        assert {one.watch_id for one in client.told[2:]} == {0}
