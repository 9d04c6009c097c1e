"""The one table of methods, which gRPC and the JSON gateway serve alike."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.candidates import Candidates
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.access.leases import Lessor
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.errors import RaftKVError
from raftkv_trio.etcd.auth import AuthHandlers
from raftkv_trio.etcd.calls import Call, credentials_in
from raftkv_trio.etcd.cluster import ClusterHandlers
from raftkv_trio.etcd.election import ElectionHandlers
from raftkv_trio.etcd.errors import rpc_error_of
from raftkv_trio.etcd.kv import KvHandlers, request_id_in
from raftkv_trio.etcd.lease import LeaseHandlers
from raftkv_trio.etcd.lock import LockHandlers
from raftkv_trio.etcd.maintenance import MaintenanceHandlers
from raftkv_trio.etcd.sessions import Sessions
from raftkv_trio.etcd.watch import WatchHandlers
from raftkv_trio.grpc import Metadata, Method, RpcError
from raftkv_trio.schema import rpc_pb2, v3election_pb2, v3lock_pb2

Handler = Callable[..., Awaitable[Any]]
#: Methods that do not ask whom a call is from, so that a token which is no good is no reason to refuse it; a
#: stream of watches asks when a watch is created.
OPEN = frozenset(("Authenticate", "Status", "Watch"))
#: Methods that a client may give an Idempotency-Key. One that is too long is refused before anybody is asked
#: who calls: by that a client without a token yet finds out that the server knows such keys.
_TAKE_KEYS = frozenset(("Put", "DeleteRange", "Txn"))


def make_methods(
    replicated: ReplicatedStore,
    lessor: Lessor,
    config: RestConfig,
    watch: WatchConfig,
    authenticator: Authenticator,
) -> dict[str, Method]:
    """All methods that are served, by path."""
    kv = KvHandlers(replicated)
    lease = LeaseHandlers(replicated, lessor)
    cluster = ClusterHandlers(replicated)
    maintenance = MaintenanceHandlers(replicated, config)
    candidates = Candidates(replicated)
    sessions = Sessions(replicated, candidates, lessor)
    lock = LockHandlers(replicated, sessions)
    election = ElectionHandlers(replicated, candidates, sessions)
    auth = AuthHandlers(replicated, authenticator)
    handlers: Mapping[str, Mapping[str, Handler]] = {
        "KV": {
            "Range": kv.range,
            "Put": kv.put,
            "DeleteRange": kv.delete_range,
            "Txn": kv.txn,
            "Compact": kv.compact,
        },
        "Watch": {"Watch": WatchHandlers(replicated, watch, authenticator).watch},
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
        "Auth": {
            "AuthEnable": auth.auth_enable,
            "AuthDisable": auth.auth_disable,
            "AuthStatus": auth.auth_status,
            "Authenticate": auth.authenticate,
            "UserAdd": auth.user_add,
            "UserGet": auth.user_get,
            "UserList": auth.user_list,
            "UserDelete": auth.user_delete,
            "UserChangePassword": auth.user_change_password,
            "UserGrantRole": auth.user_grant_role,
            "UserRevokeRole": auth.user_revoke_role,
            "RoleAdd": auth.role_add,
            "RoleGet": auth.role_get,
            "RoleList": auth.role_list,
            "RoleDelete": auth.role_delete,
            "RoleGrantPermission": auth.role_grant_permission,
            "RoleRevokePermission": auth.role_revoke_permission,
        },
        "Lock": {"Lock": lock.lock, "Unlock": lock.unlock},
        "Election": {
            "Campaign": election.campaign,
            "Proclaim": election.proclaim,
            "Leader": election.leader,
            "Observe": election.observe,
            "Resign": election.resign,
        },
    }
    return {
        method.path: method
        for service, named in handlers.items()
        for method in _methods_of(_SERVICES[service], named, authenticator)
    }


_SERVICES = {
    name: service
    for file in (rpc_pb2, v3lock_pb2, v3election_pb2)
    for name, service in file.DESCRIPTOR.services_by_name.items()
}


def _methods_of(
    service: ServiceDescriptor, handlers: Mapping[str, Handler], authenticator: Authenticator
) -> list[Method]:
    methods = []
    for name, handler in handlers.items():
        method = service.methods_by_name[name]
        methods.append(
            Method(
                path=f"/{service.full_name}/{name}",
                request=GetMessageClass(method.input_type),
                response=GetMessageClass(method.output_type),
                handler=_wrapped(
                    handler, None if name in OPEN else authenticator, takes_key=name in _TAKE_KEYS
                ),
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
            )
        )
    return methods


def _wrapped(handler: Handler, authenticator: Authenticator | None, *, takes_key: bool) -> Handler:
    """The handler, which gets a `Call` in place of the metadata, and whose errors are RpcError, but for bugs.

    Args:
        authenticator: finds out whom a call is from; None: that does not matter.
        takes_key: whether calls may have an Idempotency-Key.
    """

    @wraps(handler)
    async def call(request: Any, metadata: Metadata, *send: Any) -> Any:
        try:
            actor = None
            if authenticator is not None and authenticator.is_needed:
                if takes_key:
                    request_id_in(metadata)
                actor = await authenticator.user(credentials_in(metadata))
            return await handler(request, Call(metadata, actor), *send)
        except RpcError:
            raise
        except RaftKVError as error:
            known = rpc_error_of(error)
            if known is None:
                raise
            raise known from error

    return call
