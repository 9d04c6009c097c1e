"""What one node serves: one catch-all before any routing, since every request target may be a key."""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from hypercorn.typing import ASGIFramework
from quart import request
from quart_trio import QuartTrio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.config import RestConfig, ServerConfig, WatchConfig
from raftkv_trio.http import (
    KnownHosts,
    Refusal,
    Request,
    Response,
    StreamedResponse,
    plain,
    refusal_of,
    with_content,
)
from raftkv_trio.rest.callers import Callers
from raftkv_trio.rest.counts import RequestCounts
from raftkv_trio.rest.keys import KeyHandlers
from raftkv_trio.rest.operators.backup_route import add_backup_route
from raftkv_trio.rest.operators.documents import PROBLEM_TYPE, problem, problem_content, text
from raftkv_trio.rest.operators.documents import Response as OperatorsResponse
from raftkv_trio.rest.operators.member_routes import add_member_routes
from raftkv_trio.rest.operators.rights import add_rights
from raftkv_trio.rest.operators.routes import PREFIX, add_operator_routes
from raftkv_trio.rest.watch import PATH as WATCH_PATH
from raftkv_trio.rest.watch import WatchRoute
from raftkv_trio.tls.credentials import Credentials

MAX_OPERATORS_CONTENT_BYTES = 16 * 1024
#: What `OnlyProbes` answers.
PROBES = ("/-/healthy", "/-/ready", "/-/metrics")


def make_service(
    replicated: ReplicatedStore,
    config: RestConfig,
    client_url: str | None = None,
    in_use: Sequence[Credentials] = (),
    watch: WatchConfig | None = None,
    authenticator: Authenticator | None = None,
) -> "RestService":
    """What one node serves.

    Args:
        client_url: where clients reach it, as other members tell them.
        in_use: the certificates of this process, whose ends it tells operators.
        authenticator: of all APIs of the server; None: made here.
    """
    node, store = replicated.node, replicated.store
    hosts = known_hosts(config, client_url, lambda: (address.host for address in node.addresses.values()))
    requests = RequestCounts()
    callers = Callers(replicated, authenticator or Authenticator(replicated))
    app = OperatorsApp()
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_OPERATORS_CONTENT_BYTES,
        BODY_TIMEOUT=config.body_timeout_s,
        RESPONSE_TIMEOUT=None,
    )
    add_backup_route(app, node, config)
    add_member_routes(app, node, config)
    add_operator_routes(app, node, store, config, requests, in_use, replicated.watches)
    add_rights(app, replicated, callers)  # behind what refuses a request for its form
    return RestService(
        KeyHandlers(replicated, config, callers),
        app,
        hosts,
        requests,
        WatchRoute(replicated, config, watch or WatchConfig(), callers),
    )


def make_waiting_service(config: ServerConfig, reason: Callable[[], str]) -> "RestService":
    """What a node serves that waits to be added: it is healthy, and all else is 503 with `reason`."""
    members = [address.host for address in config.node.members.values()]
    hosts = known_hosts(config.rest, config.node.client_url, lambda: members)
    app = OperatorsApp()

    @app.before_request
    async def wait() -> OperatorsResponse:
        if request.path == "/-/healthy" and request.method in ("GET", "HEAD"):
            return text("healthy")
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, reason(), waits_to_join=True)

    return RestService(_NoKeys(reason), app, hosts, RequestCounts())


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


class OnlyProbes:
    """The part of a service that tells of health and metrics; 404 to all else.

    Attributes:
        app: that of the service.
    """

    def __init__(self, service: "RestService") -> None:
        self.app = service.app
        self._service = service

    async def answer(self, request: Request) -> Response | StreamedResponse | None:
        """Answer a request, or leave it to `app`: None."""
        path = (request.origin_form() or b"").partition(b"?")[0].decode("latin-1")
        if request.method in ("GET", "HEAD") and path in PROBES:
            return await self._service.answer(request)
        self._service.requests.refused(HTTPStatus.NOT_FOUND)
        return plain(HTTPStatus.NOT_FOUND, f"Here is nothing but {', '.join(PROBES)}")


class Keys(Protocol):
    """Answers requests on keys."""

    async def handle(self, request: Request, key: bytes | None) -> Response:
        """Answer one request on a key; cancellation gives a write up: it may or may not be applied."""
        ...


class _NoKeys:
    """The keys of a node that has none yet."""

    def __init__(self, reason: Callable[[], str]) -> None:
        self._reason = reason

    async def handle(self, request: Request, key: bytes | None) -> Response:
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, self._reason())


class RestService:
    """What a node serves its clients: requests on keys, and by an app what operators ask for under `/-/`.

    What a browser must not ask for is refused before either of them sees it. Keys bypass the app, for speed.

    Attributes:
        app: answers under `/-/`.
        requests: counts of the requests; the server adds those that it refuses itself.
        hosts: the hosts under which clients may ask for the node.
    """

    def __init__(
        self,
        keys: Keys,
        app: "OperatorsApp",
        hosts: KnownHosts,
        requests: RequestCounts,
        watch: WatchRoute | None = None,
    ) -> None:
        self._watch = watch
        self.app: ASGIFramework = app
        self.requests = requests
        self._keys = keys
        self.hosts = hosts

    async def answer(self, request: Request) -> Response | StreamedResponse | None:
        """Answer a request, or leave it to `app`: None. A cancellation gives a write up."""
        key = request.origin_form()
        response: Response | StreamedResponse
        is_for_operators = key is not None and key.startswith(PREFIX)
        refusal = refusal_of(request.method, request.fields, self.hosts)
        if refusal is not None:
            response = _refuse(refusal, is_for_operators=is_for_operators)
        elif is_for_operators:
            if self._watch is None or key is None or key.partition(b"?")[0] != WATCH_PATH:
                return None  # the app counts it
            response = await self._watch.answer(request)
            self.requests.answered(request.method, WATCH_PATH.decode(), response.status)
            return response
        else:
            response = await self._keys.handle(request, key)
        route = PREFIX.decode() if is_for_operators else "key"
        self.requests.answered(request.method, route, response.status)
        return response


def _refuse(refusal: Refusal, *, is_for_operators: bool) -> Response:
    if not is_for_operators:
        return plain(*refusal)
    return with_content(refusal.status, problem_content(refusal.status, refusal.sentence), PROBLEM_TYPE)


class OperatorsApp(QuartTrio):
    """The Quart app under `/-/`."""

    def __init__(self) -> None:
        super().__init__("raftkv_trio.rest", static_folder=None)
        self.url_map.merge_slashes = False

    async def make_default_options_response(self) -> Any:
        """OPTIONS of a path, answered as for keys: 204 with Allow."""
        response = await super().make_default_options_response()
        return OperatorsResponse("", HTTPStatus.NO_CONTENT, {"Allow": response.headers["Allow"]})
