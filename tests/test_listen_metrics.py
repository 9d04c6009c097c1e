"""`listen_metrics`: health and metrics have connections of their own, and nothing else is there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.errors import ConfigError, leaves
from raftkv_trio.server import serve
from tests.conftest import find_free_ports
from tests.rest.serving import PATIENCE_S, Wire

PROBES = ("/-/healthy", "/-/ready", "/-/metrics")


def server_config(directory: Path, probes: int, *, join: bool = False) -> ServerConfig:
    peer, other = find_free_ports(2)
    members = {1: PeerAddress("127.0.0.1", peer)}
    if join:
        members[2] = PeerAddress("127.0.0.1", other)  # where nobody listens
    return ServerConfig(
        node=NodeConfig(node_id=1, members=members, data_dir=directory, segment_bytes=1024 * 1024, join=join),
        rest=RestConfig(port=0, max_connections=1, listen_metrics=PeerAddress("127.0.0.1", probes)),
    )


@asynccontextmanager
async def open_probes(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
        yield client


async def test_probes_are_answered_when_clients_have_all_connections(tmp_path: Path) -> None:
    """Also on several connections at once, and to HEAD."""
    (probes,) = find_free_ports(1)
    async with trio.open_nursery() as nursery, open_probes(probes) as client:
        port = await nursery.start(serve, server_config(tmp_path / "data", probes))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            wire = Wire(stream)
            await wire.send(
                b"PUT /key HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
            )
            assert (await wire.answer()).status == 100
            assert (await client.get(f"http://127.0.0.1:{port}/-/healthy")).status_code == 503
            for path in PROBES:
                assert (await client.get(path)).status_code == 200
                assert (await client.head(path)).status_code == 200
            assert "raftkv_leading 1.0" in (await client.get("/-/metrics")).text
        nursery.cancel_scope.cancel()


async def test_there_is_nothing_else(tmp_path: Path) -> None:
    """Neither keys nor what changes something can be reached there, however they are written."""
    (probes,) = find_free_ports(1)
    async with trio.open_nursery() as nursery, open_probes(probes) as client:
        await nursery.start(serve, server_config(tmp_path / "data", probes))
        for method, path in (
            ("GET", "/key"),
            ("PUT", "/key"),
            ("PUT", "/-/healthy"),
            ("POST", "/-/metrics"),
            ("DELETE", "/1"),
            ("GET", "/-/status"),
            ("POST", "/-/snapshot"),
            ("PUT", "/-/log-level"),
            ("GET", "/-/../key"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == 404, (method, path)
            assert answer.text.startswith("Here is nothing but /-/healthy")
        nursery.cancel_scope.cancel()


async def test_a_node_that_waits_to_join_is_healthy(tmp_path: Path) -> None:
    """Probes are answered before the node is a member, as they are on the port for clients."""
    (probes,) = find_free_ports(1)
    config = server_config(tmp_path / "data", probes, join=True)
    async with trio.open_nursery() as nursery, open_probes(probes) as client:
        nursery.start_soon(serve, config)
        with trio.fail_after(PATIENCE_S):
            while not await _is_healthy(client):  # noqa: ASYNC110 - `serve` has not started yet
                await trio.sleep(0.01)
        assert (await client.get("/-/ready")).status_code == 503
        assert (await client.get("/key")).status_code == 404
        nursery.cancel_scope.cancel()


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/healthy")).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The error names the field, and no data directory was made."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(_hold_port)
        port = listener.socket.getsockname()[1]
        with pytest.raises(Exception) as caught:  # noqa: PT011 - a group of one
            await serve(server_config(tmp_path / "data", port))
        (error,) = leaves(caught.value)
        assert isinstance(error, ConfigError)
        assert error.fields == ("listen_metrics",)
        assert str(error).startswith(f"cannot listen for health and metrics on 127.0.0.1, port {port}: ")
        assert not (tmp_path / "data").exists()
        nursery.cancel_scope.cancel()


async def _hold_port(*, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
    await trio.serve_tcp(lambda stream: stream.aclose(), 0, host="127.0.0.1", task_status=task_status)
