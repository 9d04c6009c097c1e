"""What the port for etcd's clients serves: gRPC over HTTP/2, and JSON over HTTP/1.1."""

from collections.abc import Callable

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.access.leases import Lessor
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.errors import NoLeader
from raftkv_trio.etcd.gateway import OVERHEAD_BYTES, Gateway
from raftkv_trio.etcd.kv import MAX_REQUEST_BYTES
from raftkv_trio.etcd.maintenance import ETCD_VERSION
from raftkv_trio.etcd.methods import make_methods
from raftkv_trio.grpc import GrpcConnection, Limits, Load
from raftkv_trio.http import KnownHosts
from raftkv_trio.pace import Pace
from raftkv_trio.tcp_stream import TcpStream

#: What `GET /version` says beside the version of this member: that of the cluster.
CLUSTER_VERSION = "3.4.0"


class EtcdPort:
    """Both transports of one table of methods.

    Args:
        hosts: the hosts under which clients may ask.
        answered: told of each answer of the gateway: method of HTTP, path of the table's method, status.

    Attributes:
        gateway: answers the requests of HTTP/1.1.
    """

    def __init__(
        self,
        replicated: ReplicatedStore,
        lessor: Lessor,
        config: RestConfig,
        watch: WatchConfig,
        hosts: KnownHosts,
        authenticator: Authenticator,
        answered: Callable[[str, str, int], object] = lambda method, route, status: None,
    ) -> None:
        self._replicated = replicated
        self._methods = make_methods(replicated, lessor, config, watch, authenticator)
        self._load = Load()
        self._limits = Limits(
            max_message_bytes=MAX_REQUEST_BYTES + OVERHEAD_BYTES,
            max_head_bytes=config.max_header_bytes,
            max_request_bytes=config.max_receiving_bytes,
            header_timeout_s=config.header_timeout_s,
            body_timeout_s=config.body_timeout_s,
            send_timeout_s=config.send_timeout_s,
        )
        self.gateway = Gateway(
            self._methods,
            config,
            hosts,
            self._is_healthy,
            ETCD_VERSION,
            lambda: CLUSTER_VERSION,
            self._limits.max_response_bytes,
            answered,
        )

    async def _is_healthy(self) -> bool:
        """Whether a quorum confirms a read now; a probe does not wait for an election."""
        if self._replicated.node.status().leader_id is None:
            return False
        try:
            await self._replicated.wait_readable()
        except NoLeader:
            return False
        return True

    def http_2(
        self,
        stream: TcpStream,
        first: bytes,
        is_idle_now: Callable[[bool], None],
        refusals: Callable[[], Pace],
    ) -> GrpcConnection:
        """The connection of a client that speaks HTTP/2; for `serve_http`."""
        return GrpcConnection(
            stream,
            first,
            self._methods,
            self._limits,
            lambda connection, is_idle: is_idle_now(is_idle),
            load=self._load,
            refusals=refusals,
        )
