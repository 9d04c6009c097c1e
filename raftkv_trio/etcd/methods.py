"""The one table of methods, which gRPC and the JSON gateway serve alike."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.leases import Lessor
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.errors import RaftKVError
from raftkv_trio.etcd.cluster import ClusterHandlers
from raftkv_trio.etcd.errors import rpc_error_of
from raftkv_trio.etcd.kv import KvHandlers
from raftkv_trio.etcd.lease import LeaseHandlers
from raftkv_trio.etcd.maintenance import MaintenanceHandlers
from raftkv_trio.etcd.watch import WatchHandlers
from raftkv_trio.grpc import Method, RpcError
from raftkv_trio.schema import rpc_pb2

Handler = Callable[..., Awaitable[Any]]


def make_methods(
    replicated: ReplicatedStore, lessor: Lessor, config: RestConfig, watch: WatchConfig
) -> dict[str, Method]:
    """All methods that are served, by path."""
    kv = KvHandlers(replicated)
    lease = LeaseHandlers(replicated, lessor)
    cluster = ClusterHandlers(replicated)
    maintenance = MaintenanceHandlers(replicated, config)
    handlers: Mapping[str, Mapping[str, Handler]] = {
        "KV": {
            "Range": kv.range,
            "Put": kv.put,
            "DeleteRange": kv.delete_range,
            "Txn": kv.txn,
            "Compact": kv.compact,
        },
        "Watch": {"Watch": WatchHandlers(replicated, watch).watch},
        "Lease": {
            "LeaseGrant": lease.lease_grant,
            "LeaseRevoke": lease.lease_revoke,
            "LeaseKeepAlive": lease.lease_keep_alive,
            "LeaseTimeToLive": lease.lease_time_to_live,
            "LeaseLeases": lease.lease_leases,
        },
        "Cluster": {
            "MemberList": cluster.member_list,
            "MemberAdd": cluster.member_add,
            "MemberRemove": cluster.member_remove,
            "MemberUpdate": cluster.member_update,
            "MemberPromote": cluster.member_promote,
        },
        "Maintenance": {
            "Alarm": maintenance.alarm,
            "Status": maintenance.status,
            "Defragment": maintenance.defragment,
            "Hash": maintenance.hash,
            "HashKV": maintenance.hash_kv,
            "Snapshot": maintenance.snapshot,
            "MoveLeader": maintenance.move_leader,
        },
    }
    return {
        method.path: method for service, named in handlers.items() for method in _methods_of(service, named)
    }


def _methods_of(service: str, handlers: Mapping[str, Handler]) -> list[Method]:
    descriptor = rpc_pb2.DESCRIPTOR.services_by_name[service]
    methods = []
    for name, handler in handlers.items():
        method = descriptor.methods_by_name[name]
        methods.append(
            Method(
                path=f"/{descriptor.full_name}/{name}",
                request=getattr(rpc_pb2, method.input_type.name),
                response=getattr(rpc_pb2, method.output_type.name),
                handler=_with_errors(handler),
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
            )
        )
    return methods


def _with_errors(handler: Handler) -> Handler:
    """The handler, whose errors are all RpcError, but for bugs."""

    @wraps(handler)
    async def call(*args: Any) -> Any:
        try:
            return await handler(*args)
        except RpcError:
            raise
        except RaftKVError as error:
            known = rpc_error_of(error)
            if known is None:
                raise
            raise known from error

    return call
