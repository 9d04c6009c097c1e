"""etcd's JSON gateway: paths, answers, errors, bounds, and what browsers must not do; without a node."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.config import RestConfig
from raftkv_trio.etcd.gateway import MAX_STREAMED_BYTES
from raftkv_trio.etcd.json import encode
from raftkv_trio.etcd.routes import ROUTES
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.grpc.rpc import PEER_ADDRESS
from raftkv_trio.http import BUG, Request, Response
from raftkv_trio.schema import kv_pb2 as rpc_kv
from raftkv_trio.schema import rpc_pb2 as rpc
from raftkv_trio.schema import v3election_pb2, v3lock_pb2
from raftkv_trio.tcp_stream import Peer
from tests.etcd.gateway_served import Handler, failing, make_gateway, open_gateway
from tests.rest.serving import PATIENCE_S

RANGE, PUT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put"
SNAPSHOT, WATCH = "/etcdserverpb.Maintenance/Snapshot", "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
CORS = {
    "access-control-allow-headers": "accept, content-type, authorization",
    "access-control-allow-methods": "POST, GET, OPTIONS, PUT, DELETE",
    "access-control-allow-origin": "*",
}
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"


async def read(request: rpc.RangeRequest, metadata: Mapping[str, str]) -> rpc.RangeResponse:
    """Answers with what was asked for."""
    return rpc.RangeResponse(header=rpc.ResponseHeader(revision=7), kvs=[{"key": request.key}], count=1)


def error_of(response: httpx.Response) -> tuple[int, int, str]:
    """Status, code and text of an error of a call."""
    document = response.json()
    assert list(document) == ["error", "message", "code"]
    assert document["error"] == document["message"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, document["code"], document["error"]


def check_common(response: httpx.Response) -> None:
    assert {name: response.headers.get(name) for name in CORS} == CORS
    assert response.headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- paths


async def test_a_call() -> None:
    """JSON in, JSON out, under both prefixes; the query and escapes in the path change nothing."""
    async with open_gateway({RANGE: read}) as served:
        for path in ("/v3/kv/range", "/v3beta/kv/range", "/v3/kv/range?x=y", "/v3/kv/ran%67e"):
            response = await served.call(path, b'{"key":"YQ=="}')
            assert response.status_code == 200
            assert response.content == b'{"header":{"revision":"7"},"kvs":[{"key":"YQ=="}],"count":"1"}'
            assert response.headers["content-type"] == "application/json"
            check_common(response)
        assert served.answered == [("POST", RANGE, 200)] * 4


async def test_a_response_that_is_encoded_already() -> None:
    """A handler may answer with bytes, which gRPC sends as they are."""

    async def put(request: rpc.PutRequest, metadata: Mapping[str, str]) -> bytes:
        return rpc.PutResponse(header=rpc.ResponseHeader(revision=2)).SerializeToString()

    async with open_gateway({PUT: put}) as served:
        assert (await served.call("/v3/kv/put", b"{}")).content == b'{"header":{"revision":"2"}}'


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("POST", "/v3/kv/nothing", 404, b"Not Found\n"),
        ("GET", "/v3/kv/nothing", 404, b"Not Found\n"),
        ("POST", "/v3/kv/put", 404, b"Not Found\n"),  # not in the table
        ("POST", "/v3/kv/range/", 404, b"Not Found\n"),
        ("POST", "/v3", 404, b"404 page not found\n"),
        ("POST", "/v2/keys", 404, b"404 page not found\n"),
        ("GET", "/", 404, b"404 page not found\n"),
        ("GET", "/v3/kv/range", 405, b"Method Not Allowed\n"),
        ("PUT", "/v3/kv/range", 405, b"Method Not Allowed\n"),
        ("POST", "/version", 405, b"Method Not Allowed\n"),
        ("DELETE", "/health", 405, b"Method Not Allowed\n"),
        ("GET", "/version", 200, b'{"etcdserver":"3.4.0","etcdcluster":"3.4.0"}'),
        ("GET", "/health", 200, b'{"health":"true"}'),
        ("OPTIONS", "/v3/kv/range", 200, b""),
        ("OPTIONS", "/nothing", 200, b""),
    ],
)
async def test_other_requests(method: str, path: str, status: int, content: bytes) -> None:
    """Paths without a method, methods of HTTP without a meaning, and the two documents."""
    async with open_gateway({RANGE: read}) as served:
        response = await served.client.request(method, path, content=b"content")
        assert (response.status_code, response.content) == (status, content)
        check_common(response)


async def test_an_unhealthy_node() -> None:
    """503, and so if the question itself fails."""

    async def no() -> bool:
        return False

    async def bug() -> bool:
        raise ZeroDivisionError

    for is_healthy in (no, bug):
        async with open_gateway({}, is_healthy=is_healthy) as served:
            response = await served.client.get("/health")
            assert (response.status_code, response.content) == (503, b'{"health":"false"}')


def test_every_route_leads_to_a_method_of_etcd() -> None:
    """All but HashKV has a path."""
    names = {
        f"/{service.full_name}/{method.name}"
        for module in (rpc, v3lock_pb2, v3election_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert names - set(ROUTES.values()) == {"/etcdserverpb.Maintenance/HashKV"}
    assert set(ROUTES.values()) <= names


# ---------------------------------------------------------------- metadata


async def test_metadata() -> None:
    """A handler sees the fields, each name once, none that frames the content; and who is connected."""
    seen: dict[str, str] = {}

    async def put(request: rpc.PutRequest, metadata: Mapping[str, str]) -> rpc.PutResponse:
        seen.update(metadata)
        return rpc.PutResponse()

    async with open_gateway({PUT: put}) as served, served.connect() as wire:
        await wire.send(
            b"POST /v3/kv/put" + HEAD,
            b"Idempotency-Key: one\r\nAuthorization: token\r\nX-Two: 1\r\nx-two: \xff\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\nContent-Length: 2\r\n\r\n",
        )
        assert await wire.stream.receive_some(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"{}")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 OK\r\n")
    sent = {"idempotency-key": "one", "authorization": "token", "x-two": "1,\\xff"}
    assert seen == {**sent, PEER_ADDRESS: "127.0.0.1"}


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *[
            (1, 408),
            (2, 500),
            (3, 400),
            (4, 504),
            (5, 404),
            (6, 409),
            (7, 403),
            (8, 429),
            (9, 412),
            (10, 409),
        ],
        *[(11, 400), (12, 501), (13, 500), (14, 503), (15, 500), (16, 401)],
    ],
)
async def test_errors_of_handlers(code: int, status: int) -> None:
    """Each code has its status; the text comes as it is, in JSON."""
    text = 'etcdserver: "<&>" \u2028 \xe9\n'
    async with open_gateway({RANGE: failing(Code(code), text)}) as served:
        response = await served.call("/v3/kv/range", b"{}")
        assert error_of(response) == (status, code, text)
        assert b"\\u003c\\u0026\\u003e" in response.content
        check_common(response)


@pytest.mark.parametrize("content", [b"{", b'{"key":1}', b"[]", b'{"key":"YQ"}', b'{"limit":1.5}', b"\xff"])
async def test_malformed_json(content: bytes) -> None:
    """Never reaches a handler; the connection goes on."""
    async with open_gateway({RANGE: failing(Code.INTERNAL, "called")}) as served:
        for _ in range(2):
            status, code, text = error_of(await served.call("/v3/kv/range", content))
            assert (status, code) == (400, 3)
            assert text


async def test_a_bug_in_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    """Is logged, and tells the client nothing of it."""

    async def bug(request: rpc.RangeRequest, metadata: Mapping[str, str]) -> None:
        raise ZeroDivisionError("inner matters")

    async with open_gateway({RANGE: bug}) as served:
        assert error_of(await served.call("/v3/kv/range", b"{}")) == (500, 13, BUG)
    assert "inner matters" in caplog.text


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["/v3/kv/range", "/v3/lease/keepalive", "/v3/maintenance/snapshot"]),
    st.binary(max_size=200) | st.sampled_from([b"{}", b"null", b"[]", b'{"key":', b'{"key":"YQ=="}']),
)
def test_no_content_makes_a_bug(path: str, content: bytes) -> None:
    """Whatever a body holds, the answer is that of the handler, or the content is refused."""
    handlers: dict[str, Handler] = {RANGE: read, KEEP_ALIVE: keep_alive, SNAPSHOT: keep_alive}
    request = Request("POST", path.encode(), [(b"host", b"localhost")], "1.1", NoSource())
    request.content_length = len(content)
    request.arrived = [content] if content else []
    request.is_complete = True

    async def answer() -> tuple[int, bytes]:
        response = await make_gateway(handlers).answer(request)
        return response.status, response.content if isinstance(response, Response) else b""

    status, answered = trio.run(answer)
    assert status in ((200, 400) if path != "/v3/lease/keepalive" else (200, 500)), answered
    assert BUG.encode() not in answered


class NoSource:
    """Of a request that is complete: nothing is received."""

    peer = Peer()

    async def receive_content(self, request: Request) -> None:
        raise AssertionError("all of the content is there")

    async def send_held(self) -> None:
        """Nothing is held."""

    async def wait_ended(self) -> None:
        raise AssertionError("nobody waits for the end of the client")


# ---------------------------------------------------------------- bounds


async def test_large_content() -> None:
    """A value of the largest size comes through to the handler; a larger message than gRPC takes does not."""

    async def put(request: rpc.PutRequest, metadata: Mapping[str, str]) -> rpc.PutResponse:
        return rpc.PutResponse(header=rpc.ResponseHeader(revision=len(request.value)))

    config = RestConfig(port=0, max_value_bytes=300_000)
    async with open_gateway({PUT: put}, config=config) as served:

        async def size(value_bytes: int, filling: bytes = b"") -> httpx.Response:
            content = encode(rpc.PutRequest(key=b"k", value=bytes(value_bytes)))
            return await served.call("/v3/kv/put", content + filling)

        limit = 300_000 + 512 * 1024
        assert (await size(limit - 10)).json() == {"header": {"revision": str(limit - 10)}}
        assert error_of(await size(limit)) == (
            429,
            8,
            f"grpc: received message larger than max ({limit + 7} vs. {limit})",
        )
        assert (await size(limit - 10, b" " * 500_000)).status_code == 200
        assert error_of(await size(limit - 10, b" " * 600_000))[:2] == (429, 8)


async def test_slow_content() -> None:
    """408, as gRPC's CANCELLED; also for the first message of a stream."""
    config = RestConfig(port=0, body_timeout_s=0.1)
    async with open_gateway({RANGE: read, WATCH: failing(Code.INTERNAL, "called")}, config=config) as served:
        for path in (b"/v3/kv/range", b"/v3/watch"):
            async with served.connect() as wire:
                await wire.send(b"POST " + path + HEAD, b"Content-Length: 10\r\n\r\n{")
                answer = await wire.rest()
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b'"code":1}' in answer


async def test_content_that_ends_early() -> None:
    """Is malformed; nothing is called."""
    async with open_gateway({RANGE: failing(Code.INTERNAL, "called")}) as served, served.connect() as wire:
        await wire.send(b"POST /v3/kv/range" + HEAD, b"Content-Length: 10\r\n\r\n{}")
        assert isinstance(wire.stream, trio.SocketStream)
        await wire.stream.send_eof()
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


# ---------------------------------------------------------------- browsers


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://example.org", "Content-Type": "text/plain"},
    ],
)
@pytest.mark.parametrize("path", ["/v3/kv/range", "/v3/watch", "/v3/nothing", "/version"])
async def test_pages_of_other_origins_call_nothing(fields: dict[str, str], path: str) -> None:
    """A preflight request is answered as by etcd, and the call is refused all the same."""
    async with open_gateway({RANGE: failing(Code.OK, ""), WATCH: failing(Code.OK, "")}) as served:
        preflight = await served.client.options(path, headers=fields)
        assert preflight.status_code == 200
        check_common(preflight)
        response = await served.call(path, b"{}", fields)
        assert response.status_code == 403
        check_common(response)


async def test_unknown_hosts() -> None:
    """DNS rebinding leads to nothing, not even a read."""
    async with open_gateway({RANGE: read}) as served:
        fields = {"Host": "example.org"}
        assert (await served.client.get("/version", headers=fields)).status_code == 421
        assert (await served.call("/v3/kv/range", b"{}", fields)).status_code == 421


async def test_a_page_of_the_server_itself() -> None:
    """May call."""
    async with open_gateway({RANGE: read}) as served:
        fields = {"Origin": f"http://127.0.0.1:{served.port}", "Sec-Fetch-Site": "same-origin"}
        assert (await served.call("/v3/kv/range", b"{}", fields)).status_code == 200


# ---------------------------------------------------------------- streams


async def test_a_stream_of_responses() -> None:
    """A line for each message, in a chunk of its own that leaves at once."""
    may_go_on = trio.Event()

    async def snapshot(requests: AsyncIterator[Any], metadata: Mapping[str, str], send: Any) -> None:
        assert [request async for request in requests] == [rpc.SnapshotRequest()]
        await send(rpc.SnapshotResponse(blob=b"a", remaining_bytes=1))
        await may_go_on.wait()
        await send(rpc.SnapshotResponse(blob=b"b").SerializeToString())

    async with open_gateway({SNAPSHOT: snapshot}) as served:
        async with served.client.stream("POST", "/v3/maintenance/snapshot", content=b"{}") as response:
            assert response.status_code == 200
            assert response.headers["transfer-encoding"] == "chunked"
            assert response.headers["content-type"] == "application/json"
            check_common(response)
            parts = response.aiter_raw()
            assert await anext(parts) == b'{"result":{"remaining_bytes":"1","blob":"YQ=="}}\n'
            may_go_on.set()
            assert b"".join([part async for part in parts]) == b'{"result":{"blob":"Yg=="}}\n'
        assert (await served.call("/v3/maintenance/snapshot", b"{")).status_code == 400


async def test_a_stream_that_fails_at_once() -> None:
    """Has the status of the code, and its error the form that it has among messages."""
    async with open_gateway({SNAPSHOT: failing(Code.UNAVAILABLE, "etcdserver: <no> leader")}) as served:
        response = await served.call("/v3/maintenance/snapshot")
        assert response.status_code == 503
        assert response.content == (
            b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: \\u003cno\\u003e leader",'
            b'"http_status":"Service Unavailable"}}'
        )
        check_common(response)


async def test_a_stream_that_fails_later() -> None:
    """Its error takes the place of a message, and the response ends as it should."""

    async def snapshot(requests: AsyncIterator[Any], metadata: Mapping[str, str], send: Any) -> None:
        await send(rpc.SnapshotResponse())
        await failing(Code.DATA_LOSS, "lost")()

    async with open_gateway({SNAPSHOT: snapshot}) as served:
        response = await served.call("/v3/maintenance/snapshot")
        assert response.status_code == 200
        assert response.content == (
            b'{"result":{}}\n{"error":{"grpc_code":15,"http_code":500,"message":"lost",'
            b'"http_status":"Internal Server Error"}}'
        )


async def keep_alive(requests: AsyncIterator[Any], metadata: Mapping[str, str], send: Any) -> None:
    """Answers each request; the end is the end, however often it asks."""
    for _ in range(2):
        async for request in requests:
            await send(rpc.LeaseKeepAliveResponse(ID=request.ID))


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"", []),
        (b" ", []),
        (b'{"ID":1}', [1]),
        (b'{"ID":1}{"ID":"2"}\n {"ID":3}\n', [1, 2, 3]),
        (b'null{"ID":1}', [0, 1]),
        (b'{"ID":1,"x":"}{\\"[\\\\"}{"ID":2}', [1, 2]),
        (b'{"ID":1}x{"ID":2}', [1]),
        (b'{"ID":1}{"ID":', [1]),
        (b'{"ID":1}[]{"ID":2}', [1]),
    ],
)
async def test_a_stream_of_requests(content: bytes, ids: list[int]) -> None:
    """JSON values in a row, up to the first that is malformed."""
    async with open_gateway({KEEP_ALIVE: keep_alive}) as served:
        response = await served.call("/v3/lease/keepalive", content)
        assert response.status_code == 200
        lines = [json.loads(line)["result"] for line in response.content.splitlines()]
        assert [int(line.get("ID", 0)) for line in lines] == ids


@pytest.mark.parametrize("content", [b'{"ID":x}', b"[1]", b'"', b"}", b"x", b"{"])
async def test_a_stream_of_requests_that_begins_malformed(content: bytes) -> None:
    """Is 500 and UNKNOWN, unlike other calls; so is it in etcd."""
    async with open_gateway({KEEP_ALIVE: failing(Code.INTERNAL, "called")}) as served:
        assert error_of(await served.call("/v3/lease/keepalive", content))[:2] == (500, 2)


async def test_a_stream_in_both_directions() -> None:
    """Each request is answered before the next one comes; the end of the content ends it."""
    async with open_gateway({KEEP_ALIVE: keep_alive}) as served, served.connect() as wire:
        await wire.send(b"POST /v3/lease/keepalive" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for number in (1, 2, 3):
            value = b'{"ID":%d}' % number
            for byte in value:  # in as many parts as can be
                await wire.send(b"1\r\n%c\r\n" % byte)
            expected = b'{"result":{"ID":"%d"}}\n\r\n' % number
            data = b""
            with trio.fail_after(PATIENCE_S):
                while not data.endswith(expected):
                    data += await wire.stream.receive_some(1000)
        await wire.send(b"0\r\n\r\n")
        assert await wire.rest() == b"0\r\n\r\n"


async def test_a_client_that_goes_away_ends_its_stream() -> None:
    """The handler is told where it waits for a request."""
    errors: list[int] = []
    ended = trio.Event()

    async def watch(requests: AsyncIterator[Any], metadata: Mapping[str, str], send: Any) -> None:
        try:
            async for _ in requests:
                await send(rpc.WatchResponse(created=True))
        except RpcError as error:
            errors.append(error.code)
            raise
        finally:
            ended.set()

    async with open_gateway({WATCH: watch}) as served:
        async with served.connect() as wire:
            await wire.send(
                b"POST /v3/watch" + HEAD + b"Content-Length: 1000\r\n\r\n", b'{"create_request":{}}'
            )
            with trio.fail_after(PATIENCE_S):
                await wire.stream.receive_some(1000)
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
    assert errors == [Code.CANCELLED]


async def test_a_long_message_in_a_stream() -> None:
    """Is refused as soon as it is too long."""
    async with open_gateway({KEEP_ALIVE: failing(Code.INTERNAL, "called")}) as served:
        content = b'{"x":"' + b"x" * MAX_STREAMED_BYTES * 2
        assert error_of(await served.call("/v3/lease/keepalive", content))[:2] == (429, 8)


async def test_large_responses() -> None:
    """One is encoded whole, though in a thread; one that is too large to be queued has an error."""
    content = rpc.RangeResponse(kvs=[rpc_kv.KeyValue(key=b"key", value=bytes(1000))] * 2000)

    async def answer(request: rpc.RangeRequest, metadata: Mapping[str, str]) -> rpc.RangeResponse | bytes:
        if request.key == b"bytes":
            return content.SerializeToString()
        return content

    async with open_gateway({RANGE: answer}, max_response_bytes=content.ByteSize()) as served:
        for key in (b"bytes", b"message"):
            response = await served.client.post("/v3/kv/range", content=encode(rpc.RangeRequest(key=key)))
            assert response.content == encode(content)
    async with open_gateway({RANGE: answer}, max_response_bytes=content.ByteSize() - 1) as served:
        response = await served.client.post("/v3/kv/range", content=b"{}")
        status, code, text = error_of(response)
        assert (status, code) == (429, Code.RESOURCE_EXHAUSTED)
        assert "grpc: trying to send message larger than max" in text


async def test_a_client_that_leaves_a_quiet_stream() -> None:
    """It is noticed although nothing is sent and its content has ended, and the handler is cancelled."""
    waits, ended = trio.Event(), trio.Event()

    async def watch(requests: AsyncIterator[rpc.WatchRequest], metadata: Any, send: Any) -> None:
        async for _ in requests:
            pass
        waits.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_gateway({"/etcdserverpb.Watch/Watch": watch}) as served:
        async with served.connect() as wire:
            await wire.send(b"POST /v3/watch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            await waits.wait()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
