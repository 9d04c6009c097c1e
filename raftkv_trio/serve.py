"""One server: a node around the key-value store, and the REST app in front of it."""

import logging

import trio

from raftkv_trio.config import ServerConfig
from raftkv_trio.kv import Store
from raftkv_trio.node import run_node
from raftkv_trio.rest import make_app, serve_rest

logger = logging.getLogger(__name__)

HAND_OVER_S = 1.0


async def serve(
    config: ServerConfig,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then stop in order: requests, leadership, node.

    `started` gives the REST port. Raises ConfigError and StorageError, maybe in groups. Cancellation stops at
    once, without handing leadership over.
    """
    store = Store()
    async with trio.open_nursery() as node_nursery:
        node = await node_nursery.start(run_node, config.node, store)
        async with trio.open_nursery() as rest_nursery:
            port = await rest_nursery.start(serve_rest, make_app(node, store, config.rest), config.rest)
            logger.info("node %d serves clients at http://%s:%d", node.id, config.rest.host, port)
            task_status.started(port)
            await (trio.Event() if stop is None else stop).wait()
            logger.info("node %d is stopping", node.id)
            rest_nursery.cancel_scope.cancel()
        with trio.move_on_after(HAND_OVER_S):
            await node.hand_over()
        node_nursery.cancel_scope.cancel()
