"""Users known by the certificates of their connections, on every port for clients."""

import base64
from pathlib import Path
from typing import Any

import grpc
import httpx
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.server import serve
from tests.conftest import find_free_ports
from tests.tls.certificates import Authority, Pair
from tests.tls.configs import client_tls, trust

PATIENCE_S = 60.0
DENIED = "etcdserver: permission denied"
NO_USER = f"{DENIED}: the client's certificate is that of eve, and there is no user of this name"


class Ports:
    """The ports of a node, and what it answers over each of them to who shows a certificate."""

    def __init__(self, authority: Authority, rest: int, etcd: int) -> None:
        self._authority = authority
        self._rest, self._etcd = f"https://127.0.0.1:{rest}", etcd

    async def json(self, pair: Pair, path: str, **fields: Any) -> str:
        """The error of a call of the gateway; empty: none."""
        async with httpx.AsyncClient(verify=trust(self._authority, pair).context()) as client:
            url = f"https://127.0.0.1:{self._etcd}/v3/{path}"
            answer = await client.post(url, json=fields, timeout=PATIENCE_S)
        return str(answer.json().get("error", ""))

    async def rest(self, pair: Pair, path: str) -> int:
        """The status of a put."""
        async with httpx.AsyncClient(verify=trust(self._authority, pair).context()) as client:
            return (await client.put(self._rest + path, content=b"x", timeout=PATIENCE_S)).status_code

    async def grpc(self, pair: Pair, key: bytes) -> str:
        """The error of a get; empty: none."""
        files = (self._authority.certificate, pair.key, pair.certificate)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))

        def get() -> str:
            with grpc.secure_channel(f"127.0.0.1:{self._etcd}", credentials) as channel:
                call = channel.unary_unary(
                    "/etcdserverpb.KV/Range",
                    request_serializer=rpc_pb2.RangeRequest.SerializeToString,
                    response_deserializer=rpc_pb2.RangeResponse.FromString,
                )
                try:
                    call(rpc_pb2.RangeRequest(key=key), timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    return str(error.details())
            return ""

        return await trio.to_thread.run_sync(get)


async def test_the_common_name_of_a_verified_certificate_is_the_user(ca: Authority, tmp_path: Path) -> None:
    """Without a password; root enables so. Who has the name of no user is told which."""
    peer_port, etcd_port = find_free_ports(2)
    config = ServerConfig(
        node=NodeConfig(
            node_id=1,
            members={1: PeerAddress("127.0.0.1", peer_port)},
            data_dir=tmp_path / "data",
            segment_bytes=1024 * 1024,
        ),
        rest=RestConfig(port=0),
        etcd_port=etcd_port,
        tls=client_tls(ca.node(1), client_cert_auth=True, trusted_ca_file=ca.certificate),
    )
    root, ann, eve = (ca.client(name) for name in ("root", "ann", "eve"))
    with trio.fail_after(3 * PATIENCE_S):
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[int]) -> None:
                await serve(config, task_status=task_status)

            ports = Ports(ca, await nursery.start(run), etcd_port)
            for name in ("root", "ann"):
                assert not await ports.json(ann, "auth/user/add", name=name, options={"noPassword": True})
            assert not await ports.json(ann, "auth/role/add", name="a")
            key, end = (base64.b64encode(text).decode() for text in (b"/a/", b"/a0"))
            permission = {"permType": "READWRITE", "key": key, "range_end": end}
            assert not await ports.json(ann, "auth/role/grant", name="a", perm=permission)
            for name, role in (("root", "root"), ("ann", "a")):
                assert not await ports.json(ann, "auth/user/grant", user=name, role=role)
            assert await ports.json(eve, "auth/enable") == NO_USER
            assert await ports.json(ann, "auth/enable") == DENIED
            assert not await ports.json(root, "auth/enable")
            for pair, refusal in ((root, ""), (ann, DENIED), (eve, NO_USER)):
                assert await ports.json(pair, "kv/range", key=end) == refusal
                assert await ports.grpc(pair, b"other") == refusal
                assert await ports.rest(pair, "/other") == {"": 204, DENIED: 403, NO_USER: 401}[refusal]
            assert await ports.rest(ann, "/a/1") == 204
            assert await ports.grpc(ann, b"/a/1") == ""
            nursery.cancel_scope.cancel()
