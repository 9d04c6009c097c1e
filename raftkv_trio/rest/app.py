"""The REST app of one node: one catch-all before any routing, since every request target may be a key."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart import request
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig, ServerConfig
from raftkv_trio.http import TARGET, KnownHosts, Refusal, refusal_of
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node
from raftkv_trio.rest.counts import RequestCounts
from raftkv_trio.rest.exchange import KeyRequest, KeyResponse, plain, with_content
from raftkv_trio.rest.keys import KeyHandlers
from raftkv_trio.rest.operators.backup_route import add_backup_route
from raftkv_trio.rest.operators.documents import PROBLEM_TYPE, Response, problem, problem_content, text
from raftkv_trio.rest.operators.member_routes import add_member_routes
from raftkv_trio.rest.operators.routes import PREFIX, add_operator_routes

MAX_OPERATORS_CONTENT_BYTES = 16 * 1024
#: What `only_probes` answers.
PROBES = ("/-/healthy", "/-/ready", "/-/metrics")
_AUTHORITY = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


def make_app(node: Node, store: Store, config: RestConfig, client_url: str | None = None) -> "RestApp":
    """The app of one node and the store that it replicates, to be served by `serve_http`.

    Args:
        client_url: where clients reach it, as other members tell them.
    """
    hosts = known_hosts(config, client_url, lambda: (address.host for address in node.addresses.values()))
    app = RestApp(KeyHandlers(node, store, config), hosts)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_OPERATORS_CONTENT_BYTES,
        BODY_TIMEOUT=config.body_timeout_s,
        RESPONSE_TIMEOUT=None,
    )
    app.url_map.merge_slashes = False
    add_backup_route(app, node, config)
    add_member_routes(app, node, config)
    add_operator_routes(app, node, store, config, app.requests)
    return app


def make_waiting_app(config: ServerConfig, reason: Callable[[], str]) -> "RestApp":
    """The app of a node that waits to be added: healthy, and 503 with `reason` to everything else."""
    members = [address.host for address in config.node.members.values()]
    app = RestApp(_NoKeys(reason), known_hosts(config.rest, config.node.client_url, lambda: members))

    @app.before_request
    async def wait() -> Response:
        if request.path == "/-/healthy" and request.method in ("GET", "HEAD"):
            return text("healthy")
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, reason())

    return app


def known_hosts(
    config: RestConfig, client_url: str | None, members: Callable[[], Iterable[str]]
) -> KnownHosts:
    """The hosts under which clients may ask for a node; `members` gives the hosts of the members.

    Args:
        client_url: of this node. Its host may be that of no member: it is from `--cluster`, which the log
            has overruled if the members have changed their addresses.
    """
    own = urlsplit(client_url or "").hostname
    addresses = [address.host for address in (config.advertise, config.listen_metrics) if address]
    return KnownHosts((config.host, *addresses, *config.host_whitelist, *([own] if own else ())), members)


def only_probes(app: "RestApp") -> ASGIFramework:
    """The part of `app` that tells of health and metrics; 404 to all else."""

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        is_probe = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] in PROBES
        if is_probe or scope["type"] != "http":
            await app(scope, receive, send)
        else:
            app.requests.refused(HTTPStatus.NOT_FOUND)
            await plain(HTTPStatus.NOT_FOUND, f"Here is nothing but {', '.join(PROBES)}").send(send)

    return answer


class Keys(Protocol):
    """Answers requests on keys."""

    async def handle(self, request: KeyRequest) -> KeyResponse:
        """Answer one request on a key; cancellation gives a write up: it may or may not be applied."""
        ...


class _NoKeys:
    """The keys of a node that has none yet."""

    def __init__(self, reason: Callable[[], str]) -> None:
        self._reason = reason

    async def handle(self, request: KeyRequest) -> KeyResponse:
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, self._reason())


class RestApp(QuartTrio):
    """An ASGI app: Quart answers requests under `/-/`; requests on keys bypass Quart, for speed.

    What a browser must not ask for is refused before either of them sees it.

    Attributes:
        requests: counts of the requests; the server adds those that it refuses itself.
    """

    def __init__(self, keys: Keys, hosts: KnownHosts) -> None:
        super().__init__("raftkv_trio.rest", static_folder=None)
        self.requests = RequestCounts()
        self._keys = keys
        self._hosts = hosts

    async def make_default_options_response(self) -> Any:
        """OPTIONS of a path under `/-/`, answered as for keys: 204 with Allow."""
        response = await super().make_default_options_response()
        return Response("", HTTPStatus.NO_CONTENT, {"Allow": response.headers["Allow"]})

    async def asgi_app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request, or one event of the life of the server. A cancellation gives a write up."""
        if scope["type"] != "http":
            await super().asgi_app(scope, receive, send)
            return
        key = origin_form(_target(scope))
        is_for_operators = key is not None and key.startswith(PREFIX)
        refusal = refusal_of(scope["method"], scope["headers"], self._hosts)
        if refusal is not None:
            await self._refuse(scope["method"], refusal, send, is_for_operators=is_for_operators)
        elif key is not None and is_for_operators:
            # Hypercorn takes the path from the target as sent, which may be in absolute form.
            path = unquote(key.partition(b"?")[0].decode("latin-1"))
            await super().asgi_app(cast(HTTPScope, {**scope, "path": path}), receive, send)
        else:
            response = await self._keys.handle(KeyRequest(scope, receive, key))
            self.requests.answered(scope["method"], "key", response.status)
            await response.send(send)

    async def _refuse(
        self, method: str, refusal: Refusal, send: ASGISendCallable, *, is_for_operators: bool
    ) -> None:
        if is_for_operators:
            content = problem_content(refusal.status, refusal.sentence)
            response = with_content(refusal.status, content, PROBLEM_TYPE)
        else:
            response = plain(*refusal)
        self.requests.answered(method, PREFIX.decode() if is_for_operators else "key", response.status)
        await response.send(send)


def origin_form(target: bytes) -> bytes | None:
    """Return a request target in origin form (RFC 9112, section 3.2), bytes otherwise unchanged.

    The absolute form, as sent to a proxy, is reduced to it. None: the target has neither form.
    """
    if target.startswith(b"/"):
        return target
    authority = _AUTHORITY.match(target)
    if authority is None:
        return None
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _target(scope: HTTPScope) -> bytes:
    state: dict[str, Any] = dict(scope.get("state") or {})
    if isinstance(sent := state.get(TARGET), bytes):
        return sent
    query = scope["query_string"]  # other servers lose a `?` with nothing after it
    return scope["raw_path"] + b"?" + query if query else scope["raw_path"]
