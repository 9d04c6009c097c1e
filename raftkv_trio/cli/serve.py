"""`raftkv-trio serve`: one node."""

import logging
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from raftkv_trio.addresses import parse_cluster, parse_node_id
from raftkv_trio.cli.collector import collect_less_often
from raftkv_trio.cli.first_signals import end_at_once_on_signals
from raftkv_trio.cli.open_files import make_room_for_clients
from raftkv_trio.cli.secret_file import read_secret
from raftkv_trio.cli.shared_flags import (
    FLAG_OF,
    address,
    client_address,
    ignored_service_url,
    naming_flags,
    option,
    variable_of,
)
from raftkv_trio.cli.tls_flags import take_tls, tls_flags
from raftkv_trio.config import (
    DEFAULT_CLUSTER,
    DEFAULT_HOST,
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_REST_PORT,
    DEFAULT_RETENTION_REVISIONS,
    CompactionConfig,
    NodeConfig,
    RestConfig,
    ServerConfig,
)
from raftkv_trio.errors import ConfigError
from raftkv_trio.logs import LOG_LEVELS, LogFormat, setup_logging

logger = logging.getLogger(__name__)

#: Fewer heartbeats in an election timeout, and the loss of a few would make followers campaign.
MIN_HEARTBEATS = 5
MAX_ELECTION_TIMEOUT_MS = 50_000

_word = partial(click.Choice, case_sensitive=False)
_METAVARS = {
    "timeout": "SECONDS",
    "size": "BYTES",
    "bytes": "BYTES",
    "connections": "COUNT",
    "entries": "COUNT",
}


def _bound(
    field: str, help_text: str, *, of: type[RestConfig | NodeConfig] = RestConfig
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The flag for a field of a configuration, with the field's default."""
    flag, default = FLAG_OF[field], of.__dataclass_fields__[field].default
    return option(
        flag,
        field,
        envvar=variable_of(flag),
        metavar=_METAVARS[flag.rpartition("-")[2]],
        type=type(default),
        default=default,
        help=help_text,
    )


@click.command(context_settings={"auto_envvar_prefix": "RAFTKV_TRIO"})
@option("--id", "id_text", envvar="RAFTKV_TRIO_ID", metavar="N", default="1", help="Id of this node.")
@option(
    "--cluster",
    metavar="URLS",
    default=DEFAULT_CLUSTER,
    help="Peer URLs of all members, separated by commas. Ids are their positions from 1, or id=url pairs.",
)
@option("--port", type=int, default=DEFAULT_REST_PORT, help="Port of the REST API.")
@option(
    "--join",
    is_flag=True,
    help="Join the running cluster of the other members, if the data directory is new.",
)
@option("--host", default=DEFAULT_HOST, help="Address at which the REST API listens.")
@option("--etcd-port", type=int, help="Port of etcd's API, gRPC and JSON, at --host.  [default: not served]")
@option(
    "--advertise-client",
    metavar="URL",
    help="URL at which clients reach the REST API, if it differs from --host and --port.",
)
@option("--data-dir", type=click.Path(path_type=Path), help="Data directory.  [default: ./raftkv-trio-ID]")
@option(
    "--listen-peer",
    metavar="HOST:PORT",
    help="Address at which this node listens for peers, if it differs from its URL in --cluster.",
)
@option(
    "--cluster-token", metavar="TEXT", default="", help="Distinguishes clusters that use the same addresses."
)
@option(
    "--cluster-secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the secret that all nodes of the cluster share; a node without it is refused.",
)
@option(
    "--request-timeout",
    metavar="SECONDS",
    type=float,
    default=DEFAULT_REQUEST_TIMEOUT_S,
    help="How long a request may wait for a leader and a quorum.",
)
@option(
    "--heartbeat-interval",
    metavar="MS",
    type=int,
    default=100,
    help="Time between a leader's heartbeats; about a round trip between members. The same on all members.",
)
@option(
    "--election-timeout",
    metavar="MS",
    type=int,
    default=1000,
    help="Time without a leader after which a node campaigns; at least 10 round trips, and 5 heartbeat "
    "intervals. The same on all members.",
)
@_bound(
    "snapshot_entries",
    "Number of log entries after which a snapshot is taken, or later if the state is large.",
    of=NodeConfig,
)
@_bound(
    "snapshot_log_bytes",
    "Size of log entries after which a snapshot is taken, or later if the state is large.",
    of=NodeConfig,
)
@_bound(
    "catch_up_entries",
    "Number of applied log entries kept in memory, for members that lag a little.",
    of=NodeConfig,
)
@_bound("idle_timeout_s", "How long a client's connection may be idle.")
@_bound("header_timeout_s", "How long a client may take to send the head of a request.")
@_bound("body_timeout_s", "How long a client may take to send a value.")
@_bound("send_timeout_s", "How long a client may take to read 64 KiB of a response.")
@_bound("max_header_bytes", "Largest head of a request, which includes the key.")
@_bound("max_value_bytes", "Largest value of a key.")
@_bound("max_receiving_bytes", "Largest total of the values that are being received at once.")
@_bound("quota_bytes", "Most bytes of keys and values; 0: no quota. The same on all members.")
@_bound("max_connections", "Largest number of client connections at once.")
@option(
    "--auto-compaction-mode",
    type=_word(["periodic", "revision"]),
    default="revision",
    help="What --auto-compaction-retention counts: time or revisions.",
)
@option(
    "--auto-compaction-retention",
    metavar="COUNT|DURATION",
    help="What is kept of the history: so many revisions, or with --auto-compaction-mode periodic a duration"
    " such as 1h or 30m (a number alone is hours); 0: all."
    f"  [default: {DEFAULT_RETENTION_REVISIONS} revisions, or 1h]",
)
@option(
    "--max-history-bytes",
    metavar="BYTES",
    type=int,
    default=CompactionConfig.__dataclass_fields__["max_history_bytes"].default,
    help="Largest history in bytes of keys and values; half of a larger one is compacted. 0: no bound.",
)
@option(
    "--lease-checkpoints",
    is_flag=True,
    help="Let a new leader give a lease of more than five minutes what it had left, and not its whole time.",
)
@option(
    "--auth-token-ttl",
    metavar="SECONDS",
    type=int,
    default=ServerConfig.__dataclass_fields__["auth_token_ttl_s"].default,
    help="How long a user's token is good, which clients get for a password.",
)
@option(
    "--host-whitelist",
    metavar="NAMES",
    default="",
    help="Names in URLs under which clients reach this node, separated by commas, beside localhost, --host, "
    "--advertise-client and the members' hosts. IP addresses need no entry; * allows every name.",
)
@option(
    "--no-root-members",
    is_flag=True,
    help="POST /4 and DELETE /3 do not change the members, as they do in raftexample.",
)
@option(
    "--listen-metrics",
    metavar="HOST:PORT",
    help="Address at which health and metrics are served too, also when clients have all connections.",
)
@tls_flags
@option("--log-format", type=_word(["text", "json"]), default="text", help="Log format.")
@option("--log-level", type=_word(LOG_LEVELS), default="info", help="Log messages of this level and above.")
def serve(log_format: LogFormat, log_level: str, **flags: Any) -> int:
    """Run one node.

    SIGINT or SIGTERM shuts it down cleanly; a second signal ends it at once.
    """
    end_at_once_on_signals()  # until the node takes them over; there is nothing to clean up before
    setup_logging(log_format, log_level, naming_flags)
    if service_url := ignored_service_url():
        logger.warning(
            "RAFTKV_TRIO_PORT is %r, which Kubernetes sets for a Service named raftkv-trio; it is ignored."
            " Give the port with --port",
            service_url,
        )
    config = server_config(**flags)
    max_connections = make_room_for_clients(config.rest.max_connections)
    config = replace(config, rest=replace(config.rest, max_connections=max_connections))
    collect_less_often()

    import trio

    from raftkv_trio import server
    from raftkv_trio.cli.signals import run_until_signal
    from raftkv_trio.local.readiness import tell_ready
    from raftkv_trio.sync import Wakeup, cancelled_when

    hangups = Wakeup()

    async def receive_hangups() -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as received:
            async for _ in received:
                hangups.set()

    async def run(stop: trio.Event) -> int:
        async with trio.open_nursery() as receiving:
            receiving.start_soon(receive_hangups)
            # A joiner may have to wait until it is added: a stop ends that wait too.
            async with trio.open_nursery() as nursery, cancelled_when(stop.wait):
                await nursery.start(partial(server.serve, config, stop=stop, hangups=hangups))
                tell_ready(os.environ)
            receiving.cancel_scope.cancel()
        return 0  # also if the cluster has removed this node

    return run_until_signal(run, (signal.SIGINT, signal.SIGTERM), second_cancels=False)


def server_config(
    *,
    id_text: str,
    cluster: str,
    port: int,
    join: bool,
    host: str,
    advertise_client: str | None,
    data_dir: Path | None,
    listen_peer: str | None,
    cluster_token: str,
    cluster_secret_file: Path | None,
    heartbeat_interval: int,
    election_timeout: int,
    snapshot_entries: int,
    snapshot_log_bytes: int,
    catch_up_entries: int,
    request_timeout: float,
    host_whitelist: str,
    no_root_members: bool,
    listen_metrics: str | None,
    insecure: bool,
    etcd_port: int | None,
    auto_compaction_mode: str,
    auto_compaction_retention: str | None,
    max_history_bytes: int,
    lease_checkpoints: bool,
    auth_token_ttl: int,
    **others: Any,
) -> ServerConfig:
    """The configuration that the flags of `serve` describe; raises ConfigError.

    Args:
        heartbeat_interval, election_timeout: in milliseconds.
        others: flags of TLS, and fields of RestConfig.
    """
    node_id = parse_node_id(id_text)
    _check_timing(heartbeat_interval, election_timeout)
    tls, peer_tls = take_tls(others)
    return ServerConfig(
        tls=tls,
        peer_tls=peer_tls,
        insecure=insecure,
        etcd_port=etcd_port,
        compaction=compaction_config(auto_compaction_mode, auto_compaction_retention, max_history_bytes),
        lease_checkpoints=lease_checkpoints,
        auth_token_ttl_s=auth_token_ttl,
        node=NodeConfig(
            node_id=node_id,
            members=parse_cluster(cluster),
            data_dir=data_dir or Path(f"raftkv-trio-{node_id}"),
            cluster_token=cluster_token,
            cluster_secret=None if cluster_secret_file is None else read_secret(cluster_secret_file),
            join=join,
            listen=address(listen_peer, "--listen-peer"),
            # A tick is a heartbeat interval. So the election timeout is a multiple of it, rounded up.
            tick_interval_s=heartbeat_interval / 1000,
            election_ticks=-(-election_timeout // heartbeat_interval),
            snapshot_entries=snapshot_entries,
            snapshot_log_bytes=snapshot_log_bytes,
            catch_up_entries=catch_up_entries,
        ),
        rest=RestConfig(
            host=host[1:-1] if host.startswith("[") and host.endswith("]") else host,  # as in a URL
            port=port,
            advertise=client_address(advertise_client, "--advertise-client"),
            request_timeout_s=request_timeout,
            host_whitelist=tuple(name.strip() for name in host_whitelist.split(",") if name.strip()),
            root_members=not no_root_members,
            listen_metrics=address(listen_metrics, "--listen-metrics"),
            **others,
        ),
    )


def compaction_config(mode: str, retention: str | None, max_history_bytes: int) -> CompactionConfig:
    """What etcd's two flags mean, and the bound in bytes; raises ConfigError."""
    if mode == "revision":
        text = str(DEFAULT_RETENTION_REVISIONS) if retention is None else retention
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ConfigError(f"`retention_revisions` {text!r} is no number of revisions")
        return CompactionConfig(retention_revisions=int(text) or None, max_history_bytes=max_history_bytes)
    retention_s = _seconds("1h" if retention is None else retention)
    return CompactionConfig(
        retention_revisions=None, retention_s=retention_s or None, max_history_bytes=max_history_bytes
    )


def _seconds(text: str) -> float:
    """A duration as etcd's flag has it: `1h30m`, or a number of hours. Raises ConfigError."""
    if re.fullmatch(r"[0-9]{1,6}", text):
        return int(text) * 3600.0
    if not re.fullmatch(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|m|s|ms))+", text):
        raise ConfigError(f"`retention_s` {text!r} is no duration; write it as 1h, 30m or 90s")
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([0-9.]+)(h|ms|m|s)", text))


def _check_timing(heartbeat_interval: int, election_timeout: int) -> None:
    """The rules of etcd for these two, in milliseconds; raises ConfigError."""
    if heartbeat_interval < 1:
        raise ConfigError("`tick_interval_s` must be at least 1")
    if election_timeout < MIN_HEARTBEATS * heartbeat_interval:
        raise ConfigError(
            f"`election_ticks` {election_timeout} must be at least {MIN_HEARTBEATS} times"
            f" `tick_interval_s` {heartbeat_interval}"
        )
    if election_timeout > MAX_ELECTION_TIMEOUT_MS:
        raise ConfigError(f"`election_ticks` must be at most {MAX_ELECTION_TIMEOUT_MS}")
