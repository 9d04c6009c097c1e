"""The Lease service: leases live as long as their clients keep them alive, and take their keys with them."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.keep_alives import KeepAlive
from raftkv_trio.access.leases import Lessor
from raftkv_trio.errors import RaftKVError
from raftkv_trio.etcd.answers import raise_failed
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.capability import check_level
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.grpc import Code, RpcError, Send
from raftkv_trio.kv import MAX_TTL_S, Access, LeaseGranted, LeaseRevoked
from raftkv_trio.payload.levels import LEASES
from raftkv_trio.schema import rpc_pb2

#: So many keep-alives of one stream may be under way.
MAX_KEEP_ALIVES = 256
#: So many leases are listed before the node's other tasks have a turn.
LISTED_LEASES = 500


class _Renewal(NamedTuple):
    """A keep-alive under way, and its response, without the TTL."""

    response: rpc_pb2.LeaseKeepAliveResponse
    keep_alive: KeepAlive


class LeaseHandlers:
    """Answers the calls of the Lease service.

    Every method raises RpcError, and errors for which `errors.rpc_error_of` knows etcd's text. Cancellation
    gives a write up; it may or may not be applied.
    """

    def __init__(self, replicated: ReplicatedStore, lessor: Lessor) -> None:
        self._replicated = replicated
        self._node, self._store = replicated.node, replicated.store
        self._lessor = lessor

    async def lease_grant(self, request: rpc_pb2.LeaseGrantRequest, call: Call) -> rpc_pb2.LeaseGrantResponse:
        """Grant a lease, with an id of the client's or of our own."""
        check_level(self._node, LEASES)
        if request.TTL > MAX_TTL_S:
            raise Fault.LEASE_TTL_TOO_LARGE.error()
        if request.ID < 0:
            raise RpcError(Code.INVALID_ARGUMENT, "etcdserver: the ID of a lease is negative")
        result = await self._lessor.grant(request.ID, request.TTL, call.actor)
        if not isinstance(result, LeaseGranted):
            raise_failed(result)
        header = header_of(self._replicated, result.revision)
        return rpc_pb2.LeaseGrantResponse(header=header, ID=result.id, TTL=result.ttl_s)

    async def lease_revoke(
        self, request: rpc_pb2.LeaseRevokeRequest, call: Call
    ) -> rpc_pb2.LeaseRevokeResponse:
        """End a lease, and delete its keys."""
        check_level(self._node, LEASES)
        if request.ID <= 0:
            raise Fault.LEASE_NOT_FOUND.error()
        result = await self._lessor.revoke(request.ID, call.actor)
        if not isinstance(result, LeaseRevoked):
            raise_failed(result)
        return rpc_pb2.LeaseRevokeResponse(header=header_of(self._replicated, result.revision))

    async def lease_time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest, call: Call
    ) -> rpc_pb2.LeaseTimeToLiveResponse:
        """How long a lease has left, by what this node has seen of it."""
        await self._replicated.wait_readable()
        auth = self._store.auth
        auth.check_user(call.actor)
        response = rpc_pb2.LeaseTimeToLiveResponse(header=self._header(), ID=request.ID, TTL=-1)
        lease = self._store.leases.get(request.ID)
        if lease is not None:
            response.TTL = int(self._lessor.remaining_s(lease))
            response.grantedTTL = lease.ttl_s
            if request.keys:
                keys = self._store.leases.keys_of(lease.id)
                for key in keys:
                    auth.check_range(call.actor, Access.READ, key)
                response.keys.extend(keys)
        return response

    async def lease_leases(self, request: rpc_pb2.LeaseLeasesRequest, call: Call) -> bytes:
        """The ids of all leases; that which expires first is the first."""
        await self._replicated.wait_readable()
        self._store.auth.check_user(call.actor)
        parts = [rpc_pb2.LeaseLeasesResponse(header=self._header()).SerializeToString()]
        ids = await self._lessor.ids_in_order()
        for start in range(0, len(ids), LISTED_LEASES):
            leases = [rpc_pb2.LeaseStatus(ID=lease_id) for lease_id in ids[start : start + LISTED_LEASES]]
            parts.append(rpc_pb2.LeaseLeasesResponse(leases=leases).SerializeToString())
            await trio.lowlevel.checkpoint()
        return b"".join(parts)  # messages in a row are one, with all that their lists have

    async def lease_keep_alive(
        self, requests: AsyncIterator[rpc_pb2.LeaseKeepAliveRequest], call: Call, send: Send
    ) -> None:
        """Renew leases as the client asks for it, and answer in that order; a TTL of 0: there is no such one.

        Cancellation gives renewals up; they may or may not be applied.
        """
        check_level(self._node, LEASES)
        # A client renews all its leases over one stream, so its renewals must not wait for each other.
        under_way, renewals = trio.open_memory_channel[_Renewal](MAX_KEEP_ALIVES)
        failures: list[RaftKVError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._begin_renewals, requests, call, under_way, failures)
            try:
                async for response, keep_alive in renewals:
                    response.TTL = await keep_alive.ttl_s(response.ID)
                    await send(response)
            except RaftKVError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _begin_renewals(
        self,
        requests: AsyncIterator[rpc_pb2.LeaseKeepAliveRequest],
        call: Call,
        under_way: trio.MemorySendChannel[_Renewal],
        failures: list[RaftKVError],
    ) -> None:
        with under_way:
            try:
                async for request in requests:
                    await self._node.wait_restored()
                    self._store.auth.check_user(call.actor)
                    # The header is of before the renewal, as etcd's is: if the lease expires at the next
                    # revision, that is the later one.
                    response = rpc_pb2.LeaseKeepAliveResponse(header=self._header(), ID=request.ID)
                    await under_way.send(_Renewal(response, self._keep_alive(request.ID)))
            except RaftKVError as error:
                failures.append(error)

    def _keep_alive(self, lease_id: int) -> KeepAlive:
        if lease_id > 0:
            return self._lessor.keep_alive(lease_id)
        unknown = KeepAlive()  # no lease has such an id
        unknown.ids[lease_id] = None
        unknown.renewed((0,))
        return unknown

    def _header(self) -> rpc_pb2.ResponseHeader:
        return header_of(self._replicated, self._store.revision)
