"""Connections that fail: the next endpoint takes over, and nothing is executed twice."""

from pathlib import Path

import pytest
import trio

import raftkv_trio.client.etcd.connections as connections
from raftkv_trio import Client, OutcomeUnknown
from raftkv_trio.grpc import Code, RpcError
from tests.client.etcd.small_server import open_small_server
from tests.conftest import find_free_ports
from tests.integration.cluster import Cluster

PATIENCE_S = 60.0
SIZE = 3
TASKS = 16
PUTS = 40


async def test_the_next_endpoint_takes_over() -> None:
    """Whether nobody listens, or a server goes away, or says that it is not available."""
    (nobody,) = find_free_ports(1)
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as first, open_small_server() as second:
            ports = [nobody, first.port, second.port]
            async with Client([f"127.0.0.1:{port}" for port in ports]) as client:
                await client.put(b"a", b"1")
                assert first.puts
                assert "refused" in client._open.connections.failures[f"http://127.0.0.1:{nobody}"]
                first.cut()
                await client.get(b"a")  # a put that is sent before the end is noticed would be in doubt
                await client.put(b"b", b"2")
                assert [key for key, _ in second.puts] == [b"b"]


async def test_a_member_that_is_not_available_is_left() -> None:
    """Though its connection works: the next calls are made on another one, and the old one ends."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as first, open_small_server() as second:

            async def refuse(name: str) -> None:
                raise RpcError(Code.UNAVAILABLE, "etcdserver: no leader")

            first.before = refuse
            async with Client([f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]) as client:
                await client.put(b"a", b"1")
                await client.put(b"b", b"2")
                assert first.calls == ["put"]
                assert [key for key, _ in second.puts] == [b"a", b"b"]
                await first.ended.wait()


async def test_a_member_without_a_leader_is_the_last_choice() -> None:
    """It is asked only if there is no other."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as first, open_small_server() as second:
            first.leader = 0
            async with Client([f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]) as client:
                await client.put(b"a", b"1")
                assert second.puts
            async with Client([f"127.0.0.1:{first.port}"]) as client:
                await client.put(b"a", b"1")
                assert first.puts
                url = f"http://127.0.0.1:{first.port}"
                assert client._open.connections.failures == {url: "it knows no leader"}


async def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no PING while a call waits; a call that only takes long is waited for."""
    monkeypatch.setattr(connections, "SILENCE_S", 0.1)
    monkeypatch.setattr(connections, "ANSWER_S", 0.5)
    monkeypatch.setattr(connections, "_LOOK_S", 0.05)
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as first, open_small_server() as second:

            async def be_slow(name: str) -> None:
                await trio.sleep(1.5)

            first.before = be_slow
            async with Client([f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]) as client:
                await client.put(b"a", b"1")
                assert first.puts
                for connection in first.connections:
                    connection._end.feed = lambda data: None  # type: ignore[method-assign]
                await client.get(b"a")
                assert "range" in second.calls


async def test_a_call_that_is_cancelled_harms_no_other() -> None:
    """Not those on the same connection, nor those that wait for one."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, Client([f"127.0.0.1:{server.port}"]) as client:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(client.get, b"a")
                    nursery.start_soon(client.get, b"b")
                    scope.cancel()
                    await client.get(b"c")
            assert await client.get(b"a") is None
            assert len(server.connections) == 1


async def test_a_leader_is_killed_under_load(tmp_path: Path) -> None:
    """Each task counts up its own key by compare; what was acknowledged is there, and nothing came twice.

    With idempotency keys, no outcome is unknown.
    """
    cluster = Cluster(tmp_path, SIZE)
    ports = find_free_ports(SIZE)
    for node_id, port in enumerate(ports, start=1):
        cluster.give(node_id, "--etcd-port", str(port))
    cluster.start()
    try:
        with trio.fail_after(PATIENCE_S):
            async with Client([f"127.0.0.1:{port}" for port in ports]) as client:
                await client.put(b"ready", b"")
                await load_and_kill(cluster, client)
    finally:
        cluster.kill()


async def load_and_kill(cluster: Cluster, client: Client) -> None:
    acknowledged, unknown = dict.fromkeys(range(TASKS), 0), 0
    are_halfway = trio.Event()

    async def put_and_count(task: int) -> None:
        nonlocal unknown
        for number in range(1, PUTS + 1):
            try:
                reply = await client.put(b"task %d" % task, b"%d" % number, previous=True)
            except OutcomeUnknown:
                unknown += 1
                continue
            # Nothing but the put before has touched the key: a put that came twice would show here.
            before = 0 if reply.previous is None else int(reply.previous.value)
            assert before == acknowledged[task] or unknown
            acknowledged[task] = number
            if number == PUTS // 2:
                are_halfway.set()

    async with trio.open_nursery() as nursery:
        for task in range(TASKS):
            nursery.start_soon(put_and_count, task)
        await are_halfway.wait()
        status = await client.status()
        assert status.leader_id is not None
        cluster.kill(status.leader_id)
    assert unknown == 0
    for task in range(TASKS):
        found = await client.get(b"task %d" % task)
        assert found is not None
        assert (int(found.value), found.version) == (PUTS, PUTS)
