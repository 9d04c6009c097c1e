"""One server: a node around the key-value store, and the REST app in front of it."""

import logging
from dataclasses import replace
from functools import partial

import trio

from raftkv_trio.config import ServerConfig
from raftkv_trio.errors import NodeRemoved
from raftkv_trio.http import open_http_listeners, serve_http, serve_http_temporarily
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node, run_node
from raftkv_trio.rest import make_app, make_waiting_app
from raftkv_trio.sync import wait_any

logger = logging.getLogger(__name__)

TRANSFER_S = 0.5


async def serve(
    config: ServerConfig,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then stop in order: leadership, requests, node.

    `started` gives the REST port. Returns in the same order when the cluster has removed the node. Raises
    ConfigError and StorageError, maybe in groups. Cancellation stops at once, without handing leadership
    over.
    """
    try:
        await _serve(config, stop, task_status)
    except* NodeRemoved:
        pass  # a node that is removed ends in any case, also where this took longer


async def _serve(config: ServerConfig, stop: trio.Event | None, task_status: trio.TaskStatus[int]) -> None:
    store = Store()
    # Bound first of all, so that a port that is taken is said before the data directory is touched.
    async with open_http_listeners(config.rest) as listeners, trio.open_nursery() as node_nursery:
        client_url = config.client_url(listeners[0].socket.getsockname()[1])
        config = replace(config, node=replace(config.node, client_url=client_url))
        node = await _start_node(node_nursery, config, store, listeners)
        async with trio.open_nursery() as rest_nursery:
            app = make_app(node, store, config.rest)
            serve_clients = partial(
                serve_http, app, config.rest, listeners, count_refused=app.requests.refused
            )
            port = await rest_nursery.start(serve_clients)
            logger.info("node %d serves clients at %s", node.id, client_url)
            task_status.started(port)
            await wait_any(*(node.removed,) if stop is None else (node.removed, stop))
            logger.info("node %d is stopping", node.id)
            with trio.move_on_after(TRANSFER_S):  # while the requests on their way can still follow
                await node.transfer_leadership()
            rest_nursery.cancel_scope.cancel()
        node_nursery.cancel_scope.cancel()


async def _start_node(
    nursery: trio.Nursery, config: ServerConfig, store: Store, listeners: list[trio.SocketListener]
) -> Node:
    """Start the node in `nursery`; while it has to wait to be added, clients are told that."""
    reasons: list[str] = []
    async with trio.open_nursery() as meanwhile:

        def wait(reason: str) -> None:
            if not reasons:
                app = make_waiting_app(lambda: f"Waiting to join: {reasons[-1]}")
                meanwhile.start_soon(serve_http_temporarily, app, config.rest, listeners)
            reasons[:] = [reason]

        node: Node = await nursery.start(partial(run_node, config.node, store, waits_to_join=wait))
        meanwhile.cancel_scope.cancel()
    return node
