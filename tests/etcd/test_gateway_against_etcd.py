"""The gateway beside etcd's own: the same status and content for what reaches no store."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from raftkv_trio.grpc import Code
from raftkv_trio.schema import rpc_pb2 as rpc
from tests.etcd.gateway_served import Handler, failing, open_gateway
from tests.etcd.real_etcd import RealEtcd

#: A lease that nobody has granted.
NO_LEASE = b'{"ID":"4711"}'


async def keep_alive(requests: AsyncIterator[Any], metadata: Mapping[str, str], send: Any) -> None:
    """Answers each request; etcd's answers have a header besides."""
    async for request in requests:
        await send(rpc.LeaseKeepAliveResponse(ID=request.ID))


#: Each fails as etcd does for the requests below.
HANDLERS: dict[str, Handler] = {
    "/etcdserverpb.KV/Range": failing(Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    "/etcdserverpb.KV/Compact": failing(
        Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
    ),
    "/etcdserverpb.Lease/LeaseRevoke": failing(Code.NOT_FOUND, "etcdserver: requested lease not found"),
    "/etcdserverpb.Lease/LeaseKeepAlive": keep_alive,
    "/etcdserverpb.Auth/UserGet": failing(Code.FAILED_PRECONDITION, "etcdserver: user name not found"),
    "/etcdserverpb.Auth/AuthEnable": failing(
        Code.FAILED_PRECONDITION, "etcdserver: root user does not exist"
    ),
    "/etcdserverpb.Maintenance/Snapshot": failing(Code.INTERNAL, "called"),
    "/etcdserverpb.Watch/Watch": failing(Code.INTERNAL, "called"),
}


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/v3/kv/range", b"{}"),
        ("POST", "/v3/kv/range", b""),
        ("POST", "/v3/kv/range?key=YQ==", b"null"),
        ("POST", "/v3beta/kv/range", b"{}"),
        ("POST", "/v3/kv/compaction", b'{"revision":"1000000"}'),
        ("POST", "/v3/lease/revoke", NO_LEASE),
        ("POST", "/v3/kv/lease/revoke", NO_LEASE),
        ("POST", "/v3/auth/user/get", b'{"name":"nobody"}'),
        ("POST", "/v3/auth/enable", b""),
        ("POST", "/v3/lease/keepalive", b""),
        ("POST", "/v3/kv/nothing", b"{}"),
        ("POST", "/v3/maintenance/hashkv", b"{}"),
        ("POST", "/v3/kv/range/", b"{}"),
        ("POST", "/v3/", b"{}"),
        ("GET", "/", b""),
        ("GET", "/v3/kv/range", b""),
        ("PUT", "/v3/kv/range", b"{}"),
        ("DELETE", "/v3/kv/range", b""),
        ("GET", "/v3/nothing", b""),
        ("GET", "/health", b""),
        ("POST", "/health", b""),
        ("POST", "/version", b""),
        ("OPTIONS", "/v3/kv/range", b""),
        ("OPTIONS", "/nothing", b""),
    ],
)
async def test_status_and_content(real_etcd: RealEtcd, method: str, path: str, content: bytes) -> None:
    """All of both."""
    expected = real_etcd.ask(path, content, method)
    async with open_gateway(HANDLERS) as served:
        response = await served.client.request(method, path, content=content)
        assert (response.status_code, response.content.strip()) == (expected.status, expected.content.strip())
        fields = real_etcd.fields(path, method)
        ours = {name: value for name, value in response.headers.items() if name.startswith("access-control-")}
        assert ours == {name: value for name, value in fields.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("content", [b"{", b'{"ID":x}', b"[]", b'"x"', b"}"])
@pytest.mark.parametrize(
    "path",
    ["/v3/kv/range", "/v3/lease/revoke", "/v3/lease/keepalive", "/v3/watch", "/v3/maintenance/snapshot"],
)
async def test_malformed_content(real_etcd: RealEtcd, path: str, content: bytes) -> None:
    """The same status and code; the text is our own."""
    expected = real_etcd.ask(path, content)
    async with open_gateway(HANDLERS) as served:
        response = await served.call(path, content)
        assert response.status_code == expected.status
        if expected.status != 200 and "code" in expected.json:
            assert response.json()["code"] == expected.json["code"]


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_streams(real_etcd: RealEtcd, count: int) -> None:
    """A line for each message."""
    expected = real_etcd.ask("/v3/lease/keepalive", NO_LEASE * count)
    async with open_gateway(HANDLERS) as served:
        response = await served.call("/v3/lease/keepalive", NO_LEASE * count)
        assert response.content == b'{"result":{"ID":"4711"}}\n' * count
        header = expected.content.partition(b'"ID"')[0].removeprefix(b'{"result":{')
        assert expected.content.replace(header, b"") == response.content
