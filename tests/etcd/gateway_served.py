"""The gateway behind the real accept loop, with handlers that a test chooses, and a client for it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import httpx
import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.etcd.gateway import Gateway
from raftkv_trio.grpc import Code, Method, RpcError
from raftkv_trio.http import KnownHosts, serve_http
from raftkv_trio.schema import rpc_pb2 as rpc
from tests.rest.serving import PATIENCE_S, Wire, open_stoppable

Handler = Callable[..., Awaitable[Any]]


class Served(NamedTuple):
    """A gateway at `port`; `answered` are the answers that it has counted."""

    port: int
    client: httpx.AsyncClient
    answered: list[tuple[str, str, int]]

    async def call(
        self, path: str, content: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """POST, and the whole answer."""
        return await self.client.post(path, content=content, headers=fields)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        """A connection on which a test sends bytes."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Wire(stream)


MAX_RESPONSE_BYTES = 56 * 1024 * 1024


async def healthy() -> bool:
    return True


def make_gateway(
    handlers: Mapping[str, Handler],
    config: RestConfig | None = None,
    is_healthy: Callable[[], Awaitable[bool]] = healthy,
    answered: Callable[[str, str, int], object] = lambda *answer: None,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
) -> Gateway:
    """A gateway for methods of etcd, each under its path, such as `/etcdserverpb.KV/Range`."""
    return Gateway(
        {path: method(path, handler) for path, handler in handlers.items()},
        config or RestConfig(port=0),
        KnownHosts((), list),
        is_healthy,
        "3.4.0",
        lambda: "3.4.0",
        max_response_bytes,
        answered,
    )


@asynccontextmanager
async def open_gateway(
    handlers: Mapping[str, Handler],
    *,
    config: RestConfig | None = None,
    is_healthy: Callable[[], Awaitable[bool]] = healthy,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
) -> AsyncIterator[Served]:
    """Serve a gateway, and give a client of it."""
    config = config or RestConfig(port=0)
    answered: list[tuple[str, str, int]] = []
    gateway = make_gateway(
        handlers, config, is_healthy, lambda *answer: answered.append(answer), max_response_bytes
    )
    async with open_stoppable(partial(serve_http, gateway, config)) as (port, _):
        base_url = f"http://127.0.0.1:{port}"
        # Nothing here is TLS, and to load the certificates of the system takes longer than a test.
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE_S, verify=False) as client:
            yield Served(port, client, answered)


def method(path: str, handler: Handler) -> Method:
    """A method of etcd with another handler."""
    service, _, name = path.removeprefix("/etcdserverpb.").partition("/")
    found = rpc.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    return Method(
        path,
        getattr(rpc, found.input_type.name),
        getattr(rpc, found.output_type.name),
        handler,
        found.client_streaming,
        found.server_streaming,
    )


def failing(code: Code, text: str) -> Handler:
    """A handler that answers with an error."""

    async def fail(*unused: object) -> None:
        raise RpcError(code, text)

    return fail
