"""One server: a node that replicates the key-value store, and the REST app that speaks to clients."""

import logging
from dataclasses import replace
from functools import partial

import trio

from raftkv_trio._version import __version__
from raftkv_trio.config import NodeConfig, ServerConfig
from raftkv_trio.errors import NodeRemoved
from raftkv_trio.http import open_http_listeners, serve_http, serve_http_temporarily
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node, run_node
from raftkv_trio.rest import make_app, make_waiting_app
from raftkv_trio.sync import wait_any

logger = logging.getLogger(__name__)


async def serve(
    config: ServerConfig,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set or the cluster has removed the node; then shut down in order.

    First leadership is transferred, then requests end, then the node stops. `started` gives the REST port.

    Raises ConfigError and StorageError, maybe in groups. Cancellation stops at once, without a leadership
    transfer, and leaves a directory that starts again.
    """
    try:
        await _serve(config, stop, task_status)
    except* NodeRemoved:
        pass  # the node ended by itself before the orderly shutdown of a removed node was complete


async def _serve(config: ServerConfig, stop: trio.Event | None, task_status: trio.TaskStatus[int]) -> None:
    store = Store()
    # Bound first, so that a port that is in use is reported before the data directory is created or changed.
    async with open_http_listeners(config.rest) as listeners, trio.open_nursery() as node_nursery:
        client_url = config.client_url(listeners[0].socket.getsockname()[1])
        config = replace(config, node=replace(config.node, client_url=client_url))
        node = await _start_node(node_nursery, config, store, listeners)
        async with trio.open_nursery() as rest_nursery:
            app = make_app(node, store, config.rest)
            serve_clients = partial(
                serve_http,
                app,
                config.rest,
                listeners,
                count_refused=app.requests.refused,
                end_waiting=partial(node.end_waiting, "the node is stopping"),
            )
            port = await rest_nursery.start(serve_clients)
            _log_start(config.node)
            task_status.started(port)
            await wait_any(*(node.removed,) if stop is None else (node.removed, stop))
            logger.info("node %d is stopping", node.id)
            # First, while clients' connections are still open: the writes that are under way are then
            # forwarded to the new leader, and end with an answer.
            with trio.move_on_after(config.node.transfer_timeout_s):
                await node.resign()
            rest_nursery.cancel_scope.cancel()
        node_nursery.cancel_scope.cancel()


def _log_start(config: NodeConfig) -> None:
    logger.info("node %d serves clients at %s", config.node_id, config.client_url)
    logger.info("raftkv-trio %s, data directory %s", __version__, config.data_dir.absolute())


async def _start_node(
    nursery: trio.Nursery, config: ServerConfig, store: Store, listeners: list[trio.SocketListener]
) -> Node:
    """Start the node in `nursery`. While it waits to be added to its cluster, clients are told so."""
    reasons: list[str] = []
    async with trio.open_nursery() as meanwhile:

        def wait(reason: str) -> None:
            if not reasons:
                app = make_waiting_app(config, lambda: f"Waiting to join: {reasons[-1]}")
                meanwhile.start_soon(serve_http_temporarily, app, config.rest, listeners)
            reasons[:] = [reason]

        node: Node = await nursery.start(partial(run_node, config.node, store, waits_to_join=wait))
        meanwhile.cancel_scope.cancel()
    return node
