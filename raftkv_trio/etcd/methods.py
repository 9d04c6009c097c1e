"""The one table of methods, which gRPC and the JSON gateway serve alike."""

import re
from collections.abc import Awaitable, Callable
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
from raftkv_trio.etcd.calls import Call, credentials_in, request_id_in
from raftkv_trio.etcd.cluster import ClusterHandlers
from raftkv_trio.etcd.election import ElectionHandlers
from raftkv_trio.etcd.errors import rpc_error_of
from raftkv_trio.etcd.kv import KvHandlers
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
OPEN = frozenset(("Auth/Authenticate", "Maintenance/Status", "Watch/Watch"))
#: Methods that a client may give an Idempotency-Key.
_TAKE_KEYS = frozenset(("KV/Put", "KV/DeleteRange", "KV/Txn"))


def make_methods(
    replicated: ReplicatedStore,
    lessor: Lessor,
    config: RestConfig,
    watch: WatchConfig,
    authenticator: Authenticator,
) -> dict[str, Method]:
    """All methods that are served, by path."""
    candidates = Candidates(replicated)
    sessions = Sessions(replicated, candidates, lessor)
    handlers = {
        "KV": KvHandlers(replicated),
        "Watch": WatchHandlers(replicated, watch, authenticator),
        "Lease": LeaseHandlers(replicated, lessor),
        "Cluster": ClusterHandlers(replicated),
        "Maintenance": MaintenanceHandlers(replicated, config),
        "Auth": AuthHandlers(replicated, authenticator),
        "Lock": LockHandlers(replicated, sessions),
        "Election": ElectionHandlers(replicated, candidates, sessions),
    }
    return {
        method.path: method
        for service, of_service in handlers.items()
        for method in _methods_of(_SERVICES[service], of_service, authenticator)
    }


#: Where a word begins within the name of a method.
_WITHIN = re.compile("(?<=[a-z])(?=[A-Z])")
_SERVICES = {
    name: service
    for file in (rpc_pb2, v3lock_pb2, v3election_pb2)
    for name, service in file.DESCRIPTOR.services_by_name.items()
}


def _methods_of(service: ServiceDescriptor, handlers: object, authenticator: Authenticator) -> list[Method]:
    """All methods of a service; the handler of `HashKV` is called `hash_kv`."""
    return [
        Method(
            path=f"/{service.full_name}/{method.name}",
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            handler=_wrapped(
                getattr(handlers, _WITHIN.sub("_", method.name).lower()),
                None if f"{service.name}/{method.name}" in OPEN else authenticator,
                takes_key=f"{service.name}/{method.name}" in _TAKE_KEYS,
            ),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
        for method in service.methods
    ]


def _wrapped(handler: Handler, authenticator: Authenticator | None, *, takes_key: bool) -> Handler:
    """The handler, which gets a `Call` in place of the metadata, and whose errors are RpcError, but for bugs.

    Args:
        authenticator: finds out whom a call is from; None: that does not matter.
        takes_key: whether calls may have an Idempotency-Key.
    """

    @wraps(handler)
    async def call(request: Any, metadata: Metadata, *send: Any) -> Any:
        try:
            # First of all: by what is said of one that is too long, a client without a token yet finds out
            # that the server knows such keys.
            request_id = request_id_in(metadata) if takes_key else None
            actor = None
            if authenticator is not None and authenticator.is_needed:
                actor = await authenticator.user(credentials_in(metadata))
            return await handler(request, Call(metadata, actor, request_id), *send)
        except RpcError:
            raise
        except RaftKVError as error:
            known = rpc_error_of(error)
            if known is None:
                raise
            raise known from error

    return call
