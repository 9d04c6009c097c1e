"""The REST app of one node: one catch-all before any routing, since every request target may be a key."""

import logging

from quart import request
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import HTTPException

from raftkv_trio.config import RestConfig
from raftkv_trio.kv import Store
from raftkv_trio.node import Node
from raftkv_trio.rest.keys import KeyHandlers, target_of, text
from raftkv_trio.rest.operators import OperatorHandlers

logger = logging.getLogger(__name__)


def make_app(node: Node, store: Store, config: RestConfig) -> QuartTrio:
    """The app, to be served by `rest.server`."""
    app = QuartTrio("raftkv_trio.rest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_value_bytes
    keys = KeyHandlers(node, store, config)
    operators = OperatorHandlers(node, store)

    @app.before_request
    async def catch_all() -> Response:
        target = target_of(request)
        if target.startswith(b"/-/"):
            return operators.handle(request, target.partition(b"?")[0].decode("ascii", "replace"))
        try:
            return await keys.handle(request)
        except HTTPException as error:  # Quart's own: a body over the limit
            return text(f"{error.description or error.name}\n", error.code or 500)
        except Exception:
            logger.exception("a request failed in a way it should not")
            return text("This is a bug of raftkv-trio; the node's log says more.\n", 500)

    @app.after_request
    async def no_store(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return app
