"""`/-/`: status, health, leadership and snapshots of one node, and the form of every error."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus

import trio
from quart import request
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from raftkv_trio.access.waiting import wait_readable
from raftkv_trio.access.watching import WatchHub
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import MalformedRequest, RaftKVError
from raftkv_trio.foreign_text import printable
from raftkv_trio.http import BUG, lacks_json_type
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node
from raftkv_trio.rest.counts import RequestCounts
from raftkv_trio.rest.operators.documents import Response, document, head_fields, problem, read_json, text
from raftkv_trio.rest.operators.log_level_routes import add_log_level_routes
from raftkv_trio.rest.operators.metrics import METRICS_CONTENT_TYPE, Metrics
from raftkv_trio.rest.status_codes import sentence_of, status_of
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.ends import as_text, ends_of

logger = logging.getLogger(__name__)

PREFIX = b"/-/"


def add_operator_routes(
    app: QuartTrio,
    node: Node,
    store: Store,
    config: RestConfig,
    requests: RequestCounts,
    in_use: Sequence[Credentials],
    watches: WatchHub,
) -> None:
    """Add the routes under `/-/` to `app`, and the form of their errors.

    Args:
        requests: counts the responses.
        in_use: the certificates of this process.
        watches: of all APIs.
    """
    _add_errors(app)
    _add_metrics(app, Metrics(node, store, config.quota_bytes, requests, in_use, watches), requests)
    _add_leader_route(app, node, config)
    add_log_level_routes(app)

    @app.get("/-/status")
    async def status() -> Response:
        """This node's own view of itself, its store's revision and state hash, and its certificates."""
        seen = asdict(node.status())
        # Hexadecimal: as a JSON number it would be too large for most readers.
        seen["cluster_id"] = f"{node.cluster_id:x}"
        seen |= {"revision": store.revision, "state_hash": store.state_hash}
        ends = {field: as_text(seconds) for field, seconds in ends_of(in_use).items()}
        return document({**seen, "certificates": ends})

    @app.get("/-/healthy")
    async def healthy() -> Response:
        """Whether the process works. No answer means that a restart would help; 503, that it would not."""
        if (reason := node.lost_entries or node.second_process) is not None:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return text("healthy")

    @app.get("/-/ready")
    async def ready() -> Response:
        """Whether a request would succeed now: a quorum has just confirmed a read."""
        if node.status().leader_id is None:  # a probe wants to know now, not after the request timeout
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, node.status().health or "No leader is known")
        await wait_readable(node, config)
        return text("ready")

    @app.post("/-/snapshot")
    async def snapshot() -> Response:
        """Take a snapshot of all that is applied here; answer with index and term of the newest."""
        taken = await node.take_snapshot()
        return document({"index": taken.index, "term": taken.term})


def _add_leader_route(app: QuartTrio, node: Node, config: RestConfig) -> None:
    @app.post("/-/leader")
    async def transfer_leadership() -> Response:
        """Transfer leadership to any voter, or with `{"to": 3}` to node 3; 204 when that one leads."""
        # First, because a slow client may take a while to send it, and what follows is to be true afterwards.
        to = await _successor()
        status = node.status()
        if status.role != "leader":
            if status.leader_id is None:
                return problem(409, "No leader is known, so there is no leadership to transfer")
            return problem(409, f"Node {status.leader_id} leads; ask it to transfer leadership")
        if sum(member.role == "voter" for member in node.members()) == 1:
            return problem(409, "This node is the only voter, so no other node can lead")
        others = {m.id for m in node.members() if m.role == "voter" and m.is_active} - {node.id}
        if to == node.id:
            return problem(409, f"Node {to} leads already; {_names(others)} could lead")
        if to is not None and to not in others:
            return problem(
                409, f"Node {to} is not a voter that acknowledges new entries; {_names(others)} could lead"
            )
        with trio.move_on_after(config.request_timeout_s):
            await node.transfer_leadership(to)
            return Response(DataBody(b""), HTTPStatus.NO_CONTENT)
        if node.status().role == "leader":
            return problem(503, "No other voter took over in time; this node still leads")
        return problem(504, "This node has stopped leading, and no leader is known yet; look at the status")


async def _successor() -> int | None:
    """The node that shall lead; None if any may. Raises MalformedRequest."""
    otherwise = 'Name the next leader as {"to": 3}, or nothing'
    if request.args:
        raise MalformedRequest(f"This path takes no query. {otherwise}")
    match await read_json(otherwise):
        case None:
            return None
        case {"to": int(to), **more} if type(to) is int and not more:
            return to
    raise MalformedRequest(otherwise)


def _names(ids: set[int]) -> str:
    return ", ".join(f"node {i}" for i in sorted(ids)) or "no other node"


def _add_metrics(app: QuartTrio, metrics: Metrics, requests: RequestCounts) -> None:
    @app.get("/-/metrics")
    async def see_metrics() -> Response:
        """All metrics, in Prometheus' text format."""
        return Response(metrics.text(), HTTPStatus.OK, content_type=METRICS_CONTENT_TYPE)

    @app.after_request
    async def count(response: Response) -> Response:
        route = PREFIX.decode() if request.url_rule is None else request.url_rule.rule
        requests.answered(request.method, route, response.status_code)
        return response


def _add_errors(app: QuartTrio) -> None:
    @app.before_request
    async def reserved() -> Response | None:
        if request.method == "PUT" and request.routing_exception is not None:
            return problem(
                HTTPStatus.FORBIDDEN, "Keys that begin with /-/ are reserved for operators; use another key"
            )
        return None

    @app.before_request
    async def json_only() -> Response | None:
        if request.routing_exception is None and lacks_json_type(request.method, head_fields()):
            return problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "A change under /-/ needs the field Content-Type: application/json, also without content",
            )
        return None

    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Response:
        match error:
            case NotFound():
                return problem(404, "There is nothing for operators at this path")
            case MethodNotAllowed():
                allowed = ", ".join(sorted(error.valid_methods or ()))
                sentence = f"This path does not support the method; it has {allowed}"
                return problem(405, sentence, {"Allow": allowed})
        return problem(error.code or 500, error.description or error.name)

    @app.errorhandler(RaftKVError)
    async def answered(error: RaftKVError) -> Response:
        status = status_of(error)
        return await failed(error) if status is None else problem(status, sentence_of(error))

    @app.errorhandler(Exception)
    async def failed(error: Exception) -> Response:
        logger.error("unexpected error in %s under /-/", printable(request.method), exc_info=error)
        return problem(500, BUG)
