"""`/-/`: what operators ask of one node. Errors are problem documents (RFC 9457)."""

import json
from collections.abc import Callable
from dataclasses import asdict

from quart import Request
from quart_trio.wrappers import TrioResponse as Response

from raftkv_trio.kv import Store
from raftkv_trio.node import Node
from raftkv_trio.rest.problems import retry_headers


def problem(status: int, title: str, **headers: str) -> Response:
    body = json.dumps({"type": "about:blank", "status": status, "title": title})
    return Response(
        body,
        status=status,
        content_type="application/problem+json",
        headers={**retry_headers(status), **headers},
    )


def _json(value: object) -> Response:
    return Response(json.dumps(value) + "\n", status=200, content_type="application/json")


class OperatorHandlers:
    """Read-only so far: status, members, healthy, ready."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self._pages: dict[str, Callable[[], Response]] = {
            "/-/status": self._status,
            "/-/members": self._members,
            "/-/healthy": lambda: Response("ok\n", status=200, content_type="text/plain; charset=utf-8"),
            "/-/ready": self._ready,
        }

    def handle(self, request: Request, path: str) -> Response:
        """Answer any request under `/-/`."""
        if request.method == "PUT":
            return problem(403, "Keys under /-/ are reserved for operators.")
        page = self._pages.get(path)
        if page is None:
            return problem(404, f"There is nothing at this path; there are {', '.join(self._pages)}.")
        if request.method not in ("GET", "HEAD"):
            return problem(405, "This page can only be read.", Allow="GET, HEAD")
        return page()

    def _status(self) -> Response:
        status = asdict(self._node.status())
        status["cluster_id"] = f"{self._node.cluster_id:x}"
        status["state_hash"] = f"{self._store.state_hash:016x}"
        return _json(status)

    def _members(self) -> Response:
        return _json([asdict(member) for member in self._node.members()])

    def _ready(self) -> Response:
        status = self._node.status()
        if status.health is not None:
            return problem(503, status.health)
        return Response("ready\n", status=200, content_type="text/plain; charset=utf-8")
