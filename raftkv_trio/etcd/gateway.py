"""etcd's JSON gateway: the methods of the table, called by POST with JSON.

- An error has the code and the text of the handler, and the HTTP status that grpc-gateway gives the code.
- A method that sends a stream is answered with a line for each message.
- Every response has etcd's CORS fields. All the same a call that a page of another origin makes is refused
  (403), as everywhere: a page must not write into a store that happens to be within the browser's reach.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import trio
from google.protobuf.message import Message
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import MalformedRequest, Overloaded, SlowRequest, TooLarge
from raftkv_trio.etcd.json import decode, encode, quoted
from raftkv_trio.etcd.requests import OneRequest, Requests
from raftkv_trio.etcd.routes import OLD_PREFIX, PREFIX, ROUTES
from raftkv_trio.foreign_text import printable
from raftkv_trio.grpc import Code, Method, RpcError, too_large_to_send
from raftkv_trio.grpc.rpc import Metadata, with_peer
from raftkv_trio.http import (
    BUG,
    ContentReceiver,
    KnownHosts,
    Request,
    Response,
    SendPart,
    StreamedResponse,
    plain,
    refusal_of,
    with_content,
)
from raftkv_trio.sync import cancelled_when

logger = logging.getLogger(__name__)

JSON_TYPE = "application/json"
#: What a message may have beyond the largest value; as in etcd.
OVERHEAD_BYTES = 512 * 1024
#: The JSON of a message of a stream that a client sends; each of its connections may hold so much.
MAX_STREAMED_BYTES = 64 * 1024
#: A response beyond this is encoded in a thread.
LARGE_BYTES = 128 * 1024
CORS = {
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin": "*",
}
#: Fields that say how a request is sent, and nothing about it.
_FRAMING = frozenset(
    {
        *(b"connection", b"content-length", b"expect", b"host", b"keep-alive", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
_STATUS_OF = {
    Code.OK: HTTPStatus.OK,
    Code.CANCELLED: HTTPStatus.REQUEST_TIMEOUT,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.FAILED_PRECONDITION: HTTPStatus.PRECONDITION_FAILED,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}
#: What receiving a request may fail with.
_CODE_OF = {
    MalformedRequest: Code.INVALID_ARGUMENT,
    TooLarge: Code.RESOURCE_EXHAUSTED,
    Overloaded: Code.RESOURCE_EXHAUSTED,
    SlowRequest: Code.CANCELLED,
}


class Gateway:
    """What a port serves over HTTP/1.1.

    Args:
        methods: the table; only what is in it has a path.
        hosts: the hosts under which clients may ask.
        is_healthy: asked for `GET /health`; an error counts as no.
        server_version: what `GET /version` says, of three numbers.
        cluster_version: the same; called for each request.
        max_response_bytes: of a response of a method that sends no stream, before it is JSON.
        answered: told of each answer: method of HTTP, path of the method of the table or "none", status.

    Attributes:
        app: never called, since nothing is left to it.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        config: RestConfig,
        hosts: KnownHosts,
        is_healthy: Callable[[], Awaitable[bool]],
        server_version: str,
        cluster_version: Callable[[], str],
        max_response_bytes: int,
        answered: Callable[[str, str, int], object] = lambda method, route, status: None,
    ) -> None:
        self.app: ASGIFramework = _no_app
        self._hosts = hosts
        self._is_healthy = is_healthy
        self._server_version = server_version
        self._cluster_version = cluster_version
        self._answered = answered
        self._max_message_bytes = config.max_value_bytes + OVERHEAD_BYTES
        # Base64 takes four bytes for three; there may be some spaces.
        max_bytes = self._max_message_bytes // 3 * 4 + OVERHEAD_BYTES
        self._max_response_bytes = max_response_bytes
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._body_timeout_s = config.body_timeout_s
        self._contents = ContentReceiver(
            config, max_bytes, f"grpc: received message larger than max ({max_bytes} bytes of JSON)"
        )
        found = {path: methods[name] for path, name in ROUTES.items() if name in methods}
        self._routes = {
            prefix + path: method for prefix in (PREFIX, OLD_PREFIX) for path, method in found.items()
        }

    async def answer(self, request: Request) -> Response | StreamedResponse:
        """Answer a request. Cancellation gives up the call in progress: a write may or may not be applied."""
        path = _path_of(request)
        method = self._routes.get(path)
        refusal = refusal_of(request.method, request.fields, self._hosts)
        response: Response | StreamedResponse
        try:
            if refusal is not None:
                response = plain(*refusal, CORS)
            elif method is not None and request.method == "POST":
                response = await self._call(method, request)
            else:
                await self._contents.skip(request)
                response = await self._answer_without_call(request, path, method)
        except RpcError as error:
            response = _error(error)
        except tuple(_CODE_OF) as error:
            response = _error(RpcError(_CODE_OF[type(error)], str(error)))
        except Exception:
            logger.exception("unexpected error in %s", printable(path))
            response = _error(RpcError(Code.INTERNAL, BUG))
        self._answered(request.method, method.path if method is not None else "none", response.status)
        return response

    async def _answer_without_call(self, request: Request, path: str, method: Method | None) -> Response:
        if request.method == "OPTIONS":  # of whatever path
            return with_content(HTTPStatus.OK, b"", JSON_TYPE, CORS)
        if path not in ("/version", "/health"):
            if method is None:
                return plain(
                    HTTPStatus.NOT_FOUND,
                    "Not Found" if path.startswith((PREFIX, OLD_PREFIX)) else "404 page not found",
                    CORS,
                )
            return plain(
                HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", {**CORS, "Allow": "OPTIONS, POST"}
            )
        if request.method not in ("GET", "HEAD"):
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", {**CORS, "Allow": "GET, HEAD"})
        if path == "/version":
            server, cluster = quoted(self._server_version), quoted(self._cluster_version())
            return _json(HTTPStatus.OK, f'{{"etcdserver":{server},"etcdcluster":{cluster}}}'.encode())
        await request.will_wait()
        return await self._health()

    async def _health(self) -> Response:
        try:
            is_healthy = await self._is_healthy()
        except Exception:
            logger.exception("unexpected error when asked for health")
            is_healthy = False
        status = HTTPStatus.OK if is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(status, b'{"health":"true"}' if is_healthy else b'{"health":"false"}')

    # ------------------------------------------------------------ calls

    async def _call(self, method: Method, request: Request) -> Response | StreamedResponse:
        if method.client_streaming:
            requests = Requests(request, self._decoder(method), MAX_STREAMED_BYTES)
            await self._receive_first(requests)
            return _streamed(method, request, requests)
        message = self._decoder(method)(await self._contents.receive(request))
        if method.server_streaming:
            return _streamed(method, request, OneRequest(message))
        await request.will_wait()
        response = await method.handler(message, _metadata(request))
        return _json(HTTPStatus.OK, await self._encoded(response, method))

    async def _encoded(self, response: Any, method: Method) -> bytes:
        size = len(response) if isinstance(response, bytes) else response.ByteSize()
        if size <= LARGE_BYTES:
            return encode(_message(response, method))
        if size > self._max_response_bytes:
            raise too_large_to_send(size, self._max_response_bytes)
        # It takes seconds for the largest, which would hold up the node.
        return await trio.to_thread.run_sync(
            lambda: encode(_message(response, method)), limiter=self._one_at_a_time
        )

    async def _receive_first(self, requests: Requests) -> None:
        with trio.move_on_after(self._body_timeout_s) as deadline:
            await requests.receive_first()
        if deadline.cancelled_caught:
            limit_s = self._body_timeout_s
            raise SlowRequest(f"The first message did not arrive within {limit_s:g} s (--body-timeout)")

    def _decoder(self, method: Method) -> Callable[[bytes], Message]:
        kind: Any = method.request

        def decode_bounded(content: bytes) -> Message:
            message: Message = decode(content, kind)
            if len(content) > self._max_message_bytes and message.ByteSize() > self._max_message_bytes:
                raise TooLarge(
                    "grpc: received message larger than max"
                    f" ({message.ByteSize()} vs. {self._max_message_bytes})"
                )
            return message

        return decode_bounded


async def _no_app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    raise RuntimeError("etcd's gateway leaves no request to an app")


def _streamed(method: Method, request: Request, requests: Requests | OneRequest) -> StreamedResponse:
    async def write(send: SendPart) -> Response | None:
        has_begun = False

        async def send_message(response: Any, *, more: bool = False) -> None:
            nonlocal has_begun
            has_begun = True
            await send(b'{"result":%b}\n' % encode(_message(response, method)))

        async def call() -> RpcError | None:
            try:
                await method.handler(requests, _metadata(request), send_message)
            except RpcError as error:
                return error
            return None

        await request.will_wait()
        error: RpcError | None = None
        if isinstance(requests, Requests):
            # It may have nothing to send for days, so that a client that is gone would not be noticed.
            async with cancelled_when(requests.wait_gone):
                error = await call()
        else:
            error = await call()
        if error is not None:
            content = _stream_error(error)
            if not has_begun:
                return _json(_status_of(error), content)
            await send(content)
        return None

    return StreamedResponse(HTTPStatus.OK, {"Content-Type": JSON_TYPE, **CORS}, write)


def _message(response: Any, method: Method) -> Message:
    """A handler may have encoded its response itself."""
    kind: Any = method.response
    message: Message = kind.FromString(response) if isinstance(response, bytes) else response
    return message


def metadata_of(request: Request) -> Mapping[str, str]:
    """The fields of a request that a handler may read, as gRPC gives its metadata: each name once."""
    metadata: dict[str, str] = {}
    for name, value in request.fields:
        if name not in _FRAMING:
            key, text = name.decode("ascii"), value.decode("ascii", "backslashreplace")
            metadata[key] = f"{metadata[key]},{text}" if key in metadata else text
    return metadata


def _metadata(request: Request) -> Metadata:
    return with_peer(metadata_of(request), *request.peer)


def _path_of(request: Request) -> str:
    """The path of a request without its query; empty if the target is none."""
    path = (request.origin_form() or b"").partition(b"?")[0]
    return unquote_to_bytes(path).decode("latin-1")


# ---------------------------------------------------------------- answers


def _json(status: HTTPStatus, content: bytes) -> Response:
    return with_content(status, content, JSON_TYPE, CORS)


def _status_of(error: RpcError) -> HTTPStatus:
    return _STATUS_OF.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def _error(error: RpcError) -> Response:
    text = quoted(error.text)
    return _json(_status_of(error), f'{{"error":{text},"message":{text},"code":{int(error.code)}}}'.encode())


def _stream_error(error: RpcError) -> bytes:
    """An error in the place of a message."""
    status = _status_of(error)
    members = (
        f'"grpc_code":{int(error.code)},"http_code":{int(status)},"message":{quoted(error.text)}'
        f',"http_status":{quoted(status.phrase)}'
    )
    return f'{{"error":{{{members}}}}}'.encode()
