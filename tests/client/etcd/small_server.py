"""A server of a few of etcd's calls, in this process, that fails as a test wants it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from raftkv_trio.grpc import Code, GrpcConnection, Limits, Load, Metadata, Method, RpcError
from raftkv_trio.schema import kv_pb2, rpc_pb2
from raftkv_trio.tcp_stream import TcpStream

#: A put of this lease is refused.
NO_LEASE = 404


class SmallServer:
    """Keys and values, one revision a write.

    Attributes:
        values: what was put, by key.
        puts: the key and the value of each put that was executed, in order.
        sizes: the number of puts in each write that was executed.
        calls: the name of each call of a write or a read that has arrived.
        knows_keys: whether it executes writes of the same idempotency key once.
        leader: whom the status names.
        password: of the user "ann". None: users are not checked.
        token: that calls have to show, and that an authentication answers.
        before, after: called with the name of a write or a read before it is executed and after; they may
            wait, raise RpcError, or close connections.
        port: where it listens.
        ended: set when a connection has ended.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, kv_pb2.KeyValue] = {}
        self.puts: list[tuple[bytes, bytes]] = []
        self.sizes: list[int] = []
        self.calls: list[str] = []
        self.revision = 1
        self.knows_keys = False
        self.leader = 1
        self.password: str | None = None
        self.token = "token 1"
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.after: Callable[[str], Awaitable[None]] = _nothing
        self.port = 0
        self.ended = trio.Event()
        self.connections: dict[GrpcConnection, TcpStream] = {}
        self._answers: dict[str, Any] = {}

    def cut(self) -> None:
        """Close all connections."""
        for stream in self.connections.values():
            stream.close()

    def methods(self) -> dict[str, Method]:
        table = [
            Method("/etcdserverpb.KV/Put", rpc_pb2.PutRequest, rpc_pb2.PutResponse, self.put),
            Method("/etcdserverpb.KV/Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse, self.txn),
            Method(
                "/etcdserverpb.Auth/Authenticate",
                rpc_pb2.AuthenticateRequest,
                rpc_pb2.AuthenticateResponse,
                self.authenticate,
            ),
            Method("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse, self.range),
            Method(
                "/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest, rpc_pb2.StatusResponse, self.status
            ),
        ]
        return {method.path: method for method in table}

    async def status(self, request: rpc_pb2.StatusRequest, metadata: Metadata) -> rpc_pb2.StatusResponse:
        return rpc_pb2.StatusResponse(header=self._header(), leader=self.leader, version="3.4.0")

    async def authenticate(
        self, request: rpc_pb2.AuthenticateRequest, metadata: Metadata
    ) -> rpc_pb2.AuthenticateResponse:
        self.calls.append("authenticate")
        await self.before("authenticate")
        if self.password is None:
            raise RpcError(Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
        if (request.name, request.password) != ("ann", self.password):
            raise RpcError(
                Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
            )
        return rpc_pb2.AuthenticateResponse(header=self._header(), token=self.token)

    def _check_token(self, metadata: Metadata) -> None:
        if self.password is None:
            return
        if "token" not in metadata:
            raise RpcError(Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
        if metadata["token"] != self.token:
            raise RpcError(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")

    async def range(self, request: rpc_pb2.RangeRequest, metadata: Metadata) -> rpc_pb2.RangeResponse:
        self.calls.append("range")
        await self.before("range")
        self._check_token(metadata)
        if self.password is not None and request.key == b"\0":
            raise RpcError(Code.PERMISSION_DENIED, "etcdserver: permission denied")
        found = [self.values[request.key]] if request.key in self.values else []
        return rpc_pb2.RangeResponse(header=self._header(), kvs=found, count=len(found))

    async def put(self, request: rpc_pb2.PutRequest, metadata: Metadata) -> rpc_pb2.PutResponse:
        if not request.key:
            raise self._refusal_of_probe(metadata)
        answer: rpc_pb2.PutResponse = await self._write("put", [request], metadata, self._put_one)
        return answer

    def _refusal_of_probe(self, metadata: Metadata) -> RpcError:
        if self.knows_keys and len(metadata["idempotency-key"]) > 255:
            return RpcError(Code.INVALID_ARGUMENT, "etcdserver: an Idempotency-Key has 1 to 255 bytes")
        return RpcError(Code.INVALID_ARGUMENT, "etcdserver: key is not provided")

    async def txn(self, request: rpc_pb2.TxnRequest, metadata: Metadata) -> rpc_pb2.TxnResponse:
        if not request.success:
            await self.range(rpc_pb2.RangeRequest(), metadata)
            return rpc_pb2.TxnResponse(header=self._header())
        puts = [operation.request_put for operation in request.success]
        answer: rpc_pb2.TxnResponse = await self._write("txn", puts, metadata, self._put_all)
        return answer

    async def _write(
        self,
        name: str,
        puts: list[rpc_pb2.PutRequest],
        metadata: Metadata,
        execute: Callable[[list[rpc_pb2.PutRequest]], Any],
    ) -> Any:
        self.calls.append(name)
        await self.before(name)
        self._check_token(metadata)
        keys = [put.key for put in puts]
        if len(set(keys)) < len(keys):
            raise RpcError(Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
        if len(keys) > 128:
            raise RpcError(Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
        if any(put.lease == NO_LEASE for put in puts):
            raise RpcError(Code.NOT_FOUND, "etcdserver: requested lease not found")
        if sum(put.ByteSize() for put in puts) > 1536 * 1024:
            raise RpcError(Code.INVALID_ARGUMENT, "etcdserver: request is too large")
        key = metadata.get("idempotency-key", "") if self.knows_keys else ""
        if not key or key not in self._answers:
            self.revision += 1
            self.sizes.append(len(puts))
            self._answers[key] = execute(puts)
        answer = self._answers[key]
        await self.after(name)
        return answer

    def _put_one(self, puts: list[rpc_pb2.PutRequest]) -> rpc_pb2.PutResponse:
        [put] = puts
        previous = self.values.get(put.key)
        self.puts.append((put.key, put.value))
        self.values[put.key] = kv_pb2.KeyValue(key=put.key, value=put.value, mod_revision=self.revision)
        return rpc_pb2.PutResponse(header=self._header(), prev_kv=previous if put.prev_kv else None)

    def _put_all(self, puts: list[rpc_pb2.PutRequest]) -> rpc_pb2.TxnResponse:
        responses = [rpc_pb2.ResponseOp(response_put=self._put_one([put])) for put in puts]
        return rpc_pb2.TxnResponse(header=self._header(), succeeded=True, responses=responses)

    def _header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(member_id=1, revision=self.revision)

    async def serve(self, stream: trio.SocketStream) -> None:
        tcp = TcpStream(stream)
        connection = GrpcConnection(tcp, b"", self.methods(), Limits(), load=Load())
        self.connections[connection] = tcp
        await connection.run()
        del self.connections[connection]
        self.ended.set()


async def _nothing(name: str) -> None:
    pass


@asynccontextmanager
async def open_small_server() -> AsyncIterator[SmallServer]:
    """Serve until the end of the block."""
    server = SmallServer()
    async with trio.open_nursery() as nursery:
        listeners: list[Any] = await nursery.start(trio.serve_tcp, server.serve, 0)
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()
