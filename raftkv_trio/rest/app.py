"""The REST app of one node: one catch-all before any routing, since every request target may be a key."""

import re
from typing import Any, cast
from urllib.parse import unquote

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart.wrappers import Request
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.kv import Store
from raftkv_trio.node import Node
from raftkv_trio.rest.keys import KeyHandlers
from raftkv_trio.rest.operators import PREFIX, add_operator_routes
from raftkv_trio.rest.responses import Response

#: Where `rest.connection` leaves the request target, byte for byte, in the ASGI scope's `state`.
TARGET = "raftkv_trio.target"
_KEY = "raftkv_trio.key"
_AUTHORITY = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


def make_app(node: Node, store: Store, config: RestConfig) -> QuartTrio:
    """The app for one node and the store that it replicates, to be served by `serve_rest`."""
    app = _App(KeyHandlers(node, store, config))
    app.config.update(MAX_CONTENT_LENGTH=config.max_value_bytes, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    app.url_map.merge_slashes = False
    add_operator_routes(app, node, store, config)
    return app


class _App(QuartTrio):
    """Quart routes what is under `/-/`; all else is a key, and goes round its routing."""

    def __init__(self, keys: KeyHandlers) -> None:
        super().__init__("raftkv_trio.rest", static_folder=None)
        self._keys = keys

    async def asgi_app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            key = origin_form(_target(scope))
            # Quart cannot take a path that is none, and no path but an operator's means anything to it
            path = unquote(key.partition(b"?")[0].decode("latin-1")) if key and _is_operators(key) else "/"
            scope = cast(HTTPScope, {**scope, _KEY: key, "path": path})
        await super().asgi_app(scope, receive, send)

    async def handle_request(self, request: Request) -> Any:
        key = cast(dict[str, Any], request.scope)[_KEY]
        if _is_operators(key):
            return await super().handle_request(request)
        response: Response = await self._keys.handle(request, key)
        return response


def origin_form(target: bytes) -> bytes | None:
    """A request target in origin form (RFC 9112, section 3.2), otherwise as it was sent.

    The absolute form, as to a proxy, is reduced to it; None for what is neither.
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
    query = scope["query_string"]  # other servers lose a `?` that nothing follows
    return scope["raw_path"] + b"?" + query if query else scope["raw_path"]


def _is_operators(key: bytes | None) -> bool:
    return key is not None and key.startswith(PREFIX)
