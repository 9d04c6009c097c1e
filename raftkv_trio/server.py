"""One server: a node that replicates the key-value store, and the APIs for its clients."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple, NoReturn

import trio

from raftkv_trio._version import __version__
from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.compacting import keep_compacting
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.access.leases import CHECKPOINT_INTERVAL_S, Lessor
from raftkv_trio.access.resetting import settle_auth_reset
from raftkv_trio.config import RestConfig, ServerConfig
from raftkv_trio.errors import NodeRemoved
from raftkv_trio.etcd import EtcdPort
from raftkv_trio.http import open_http_listeners, serve_http, serve_http_temporarily
from raftkv_trio.kv import Store
from raftkv_trio.node.node import Node, run_node
from raftkv_trio.rest import OnlyProbes, make_service, make_waiting_service
from raftkv_trio.sync import Wakeup, cancelled_when, wait_any
from raftkv_trio.tls.contexts import Files
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.ends import EndWarnings
from raftkv_trio.tls.network import open_tls_network
from raftkv_trio.world import World

logger = logging.getLogger(__name__)

#: What the port of `listen_metrics` is for.
PROBES = "health and metrics"
#: And that of `etcd_port`.
ETCD = "clients of etcd's API"


async def serve(
    config: ServerConfig,
    *,
    stop: trio.Event | None = None,
    hangups: Wakeup | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set or the cluster has removed the node; then shut down in order.

    First leadership is transferred, then requests end, then the node stops. `started` gives the REST port.

    Args:
        hangups: each time that it is set, the files of certificates are looked at.

    Raises ConfigError and StorageError, maybe in groups. Cancellation stops at once, without a leadership
    transfer, and leaves a directory that starts again.
    """
    try:
        await _serve(config, stop, hangups or Wakeup(), task_status)
    except* NodeRemoved:
        pass  # the node ended by itself before the orderly shutdown of a removed node was complete


async def _serve(
    config: ServerConfig, stop: trio.Event | None, hangups: Wakeup, task_status: trio.TaskStatus[int]
) -> None:
    store = Store()
    async with AsyncExitStack() as stack:
        security = await _open_security(stack, config, hangups)
        # Bound first, so that a port that is in use is reported before the data directory is created or
        # changed.
        ports = await _open_ports(stack, config, security.clients)
        node_nursery = await stack.enter_async_context(trio.open_nursery())
        client_url = config.client_url(ports.clients[0].socket.getsockname()[1])
        etcd_url = None
        if ports.etcd is not None:
            etcd_url = config.etcd_url(ports.etcd[1][0].socket.getsockname()[1])
        config = replace(config, node=replace(config.node, client_url=client_url, etcd_url=etcd_url))
        node = await _start_node(node_nursery, config, store, ports, security.world)
        async with trio.open_nursery() as api_nursery:
            replicated = ReplicatedStore(node, store, config.rest, config.watch)
            api_nursery.start_soon(replicated.watches.run)
            api_nursery.start_soon(keep_compacting, replicated, config.compaction)
            api_nursery.start_soon(settle_auth_reset, replicated, config.node.data_dir)
            interval_s = CHECKPOINT_INTERVAL_S if config.lease_checkpoints else None
            lessor = Lessor(replicated, config.min_lease_ttl_s, interval_s)
            api_nursery.start_soon(lessor.run)
            port = await _serve_apis(api_nursery, replicated, lessor, config, ports, security)
            _log_start(config)
            task_status.started(port)
            await wait_any(*(node.removed,) if stop is None else (node.removed, stop))
            logger.info("node %d is stopping", node.id)
            # First, while clients' connections are still open: the writes that are under way are then
            # forwarded to the new leader, and end with an answer.
            with trio.move_on_after(config.node.transfer_timeout_s):
                await node.resign()
            api_nursery.cancel_scope.cancel()
        node_nursery.cancel_scope.cancel()


async def _serve_apis(
    nursery: trio.Nursery,
    replicated: ReplicatedStore,
    lessor: Lessor,
    config: ServerConfig,
    ports: "_Ports",
    security: "_Security",
) -> int:
    """Serve clients in `nursery`; return the REST port. Cancellation lets the requests under way end."""
    node = replicated.node
    end_waiting = partial(node.end_waiting, "the node is stopping")
    authenticator = Authenticator(replicated, config.auth_token_ttl_s)
    service = make_service(
        replicated, config.rest, config.node.client_url, security.in_use, config.watch, authenticator
    )
    count_refused = service.requests.refused
    serve_rest = partial(
        serve_http,
        service,
        config.rest,
        ports.clients,
        count_refused=count_refused,
        end_waiting=end_waiting,
        tls=ports.tls,
    )
    port: int = await nursery.start(serve_rest)
    if ports.probes is not None:
        serve_probes = partial(serve_http, count_refused=count_refused, purpose=PROBES)
        nursery.start_soon(serve_probes, OnlyProbes(service), *ports.probes)
    if ports.etcd is not None:
        etcd_config, listeners = ports.etcd
        etcd = EtcdPort(
            replicated,
            lessor,
            etcd_config,
            config.watch,
            service.hosts,
            authenticator,
            service.requests.answered,
        )
        serve_etcd = partial(
            serve_http,
            etcd.gateway,
            etcd_config,
            listeners,
            count_refused=count_refused,
            end_waiting=end_waiting,
            purpose=ETCD,
            tls=ports.tls,
            http_2=etcd.http_2,
        )
        etcd_port: int = await nursery.start(serve_etcd)
        logger.info("node %d serves etcd's API at %s", node.id, config.etcd_url(etcd_port))
    return port


class _Ports(NamedTuple):
    """Where the server listens.

    Attributes:
        etcd: configuration and listeners of etcd's API; None if it is not served.
        probes: configuration and listeners of what tells of health and metrics only; None if nothing does.
    """

    clients: list[trio.SocketListener]
    tls: Credentials | None
    probes: tuple[RestConfig, list[trio.SocketListener]] | None
    etcd: tuple[RestConfig, list[trio.SocketListener]] | None


class _Security(NamedTuple):
    """What connections are secured with.

    Attributes:
        clients: of the port for clients; None: it speaks without TLS.
        in_use: these, and those for members.
        world: with the network of the node.
    """

    clients: Credentials | None
    in_use: Sequence[Credentials]
    world: World


async def _open_security(stack: AsyncExitStack, config: ServerConfig, hangups: Wakeup) -> _Security:
    """Read certificates, and keep them current until the end of `stack`. Raises ConfigError."""
    in_use: list[Credentials] = []
    clients, world = None, World()
    if config.tls is not None:
        clients = await Credentials.load(Files.of_clients(config.tls), "certificates for clients")
        await stack.enter_async_context(cancelled_when(clients.keep_current))
        in_use.append(clients)
    if config.peer_tls is not None:
        network = await stack.enter_async_context(open_tls_network(config.peer_tls, config.node.node_id))
        world = World(network=network)
        in_use.append(network.credentials)
    await stack.enter_async_context(cancelled_when(_reload_on, hangups, in_use))
    await stack.enter_async_context(cancelled_when(EndWarnings(in_use, world.clock).keep_looking))
    return _Security(clients, in_use, world)


async def _reload_on(hangups: Wakeup, in_use: Sequence[Credentials]) -> NoReturn:
    while True:
        await hangups.wait()
        if not in_use:
            logger.info("SIGHUP: there is nothing to reload")
        for credentials in in_use:
            credentials.reload()


async def _open_ports(stack: AsyncExitStack, config: ServerConfig, tls: Credentials | None) -> _Ports:
    """Bind all addresses until the end of `stack`. Raises ConfigError if one is taken."""
    clients = await stack.enter_async_context(open_http_listeners(config.rest))
    probes, etcd = config.rest.of_metrics, config.of_etcd
    return _Ports(
        clients,
        tls,
        None if probes is None else (probes, await _listeners(stack, probes, "`listen_metrics`", PROBES)),
        None if etcd is None else (etcd, await _listeners(stack, etcd, "`etcd_port`", ETCD)),
    )


async def _listeners(
    stack: AsyncExitStack, config: RestConfig, field: str, purpose: str
) -> list[trio.SocketListener]:
    return await stack.enter_async_context(open_http_listeners(config, field, purpose))


def _log_start(config: ServerConfig) -> None:
    node = config.node
    logger.info("node %d serves clients at %s", node.node_id, node.client_url)
    if config.is_open:
        logger.warning(
            "clients are served without TLS at %s: everybody who can reach this host can read and change all"
            " keys, and change the members",
            config.rest.host,
        )
    logger.info("raftkv-trio %s, data directory %s", __version__, node.data_dir.absolute())


async def _start_node(
    nursery: trio.Nursery, config: ServerConfig, store: Store, ports: _Ports, world: World
) -> Node:
    """Start the node in `nursery`. While it waits to be added to its cluster, clients are told so."""
    reasons: list[str] = []
    async with trio.open_nursery() as meanwhile:

        def wait(reason: str) -> None:
            if not reasons:
                service = make_waiting_service(config, lambda: f"Waiting to join: {reasons[-1]}")
                meanwhile.start_soon(
                    partial(serve_http_temporarily, service, config.rest, ports.clients, tls=ports.tls)
                )
                if ports.probes is not None:
                    meanwhile.start_soon(serve_http_temporarily, OnlyProbes(service), *ports.probes, PROBES)
                if ports.etcd is not None:
                    # gRPC is refused here, so that its clients go to another member.
                    meanwhile.start_soon(serve_http_temporarily, service, *ports.etcd, ETCD, ports.tls)
            reasons[:] = [reason]

        run = partial(run_node, config.node, store, world=world, waits_to_join=wait)
        node: Node = await nursery.start(run)
        meanwhile.cancel_scope.cancel()
    return node
