"""Leases of a client: plain calls, and a lease that is kept alive for a block.

- A lease that is held is renewed at a third of its TTL, over a call of its own: nothing is left open between.
- An attempt may take a third of the TTL, too; then the next endpoint is asked.
- A renewal counts from when it was sent. So by the clock of this end, a lease is lost no later than a server
  may let it expire, also if no server can be reached to ask.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from google.protobuf.message import DecodeError

from raftkv_trio.client.etcd.calls import FIRST_PAUSE_S, Calls, pause
from raftkv_trio.client.etcd.messages import (
    LEASE_GRANT,
    LEASE_GRANT_ANY,
    LEASE_LIST,
    LEASE_REVOKE,
    LEASE_TIME_TO_LIVE,
    check_number,
)
from raftkv_trio.client.etcd.outcomes import CallError, CallRefused, Outcome, refusal_of
from raftkv_trio.client.etcd.replies import LeaseStatus
from raftkv_trio.client.etcd.tokens import Showing
from raftkv_trio.errors import ProposalError
from raftkv_trio.grpc import CallLost, CallNotExecuted, Code, RpcError
from raftkv_trio.kv import Failure
from raftkv_trio.schema import rpc_pb2

KEEP_ALIVE_PATH = "/etcdserverpb.Lease/LeaseKeepAlive"
#: How long the end of a block may take to revoke its lease. If it is not revoked, it expires.
REVOKE_S = 2.0
_NOT_FOUND = "etcdserver: requested lease not found"


class LeaseLost(ProposalError):
    """The lease of a block is gone, or may be: it could not be renewed in time, or was revoked."""


class Lease:
    """A lease that is kept alive.

    Attributes:
        id: of the lease, for `Client.put`.
        ttl_s: how long it outlives its last renewal, in seconds, as the server has granted.
        lost: set when it is gone, or may be.
    """

    def __init__(self, lease_id: int, ttl_s: int, renewed_at: float) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self.lost = trio.Event()
        self._renewed_at = renewed_at
        self._error: Exception | None = None  # with which it was lost, if there was one

    async def _keep(self, calls: Calls, keeper: trio.CancelScope, block: trio.CancelScope) -> None:
        """Renew it until it is lost; then the block is cancelled."""
        with keeper:
            try:
                while await self._renew(calls):
                    pass
            except (ProposalError, trio.ClosedResourceError) as error:
                self._error = error  # refused, or the client is closed: lost either way
            self.lost.set()
            block.cancel()

    async def _renew(self, calls: Calls) -> bool:
        """Wait until it is due, and renew it; whether that was in time."""
        await trio.sleep_until(self._renewed_at + self.ttl_s / 3)
        with trio.move_on_at(self._renewed_at + self.ttl_s):
            response, sent_at = await keep_alive(calls, self.id, self.ttl_s / 3)
            if response.TTL > 0:
                self._renewed_at = sent_at
                self.ttl_s = response.TTL
                return True
        return False


@asynccontextmanager
async def hold_lease(calls: Calls, nursery: trio.Nursery, ttl_s: int) -> AsyncIterator[Lease]:
    """A lease for the block.

    Args:
        nursery: of the client, in which it is kept alive.

    Raises LeaseLost if it is lost, after the block was cancelled. Cancellation revokes it, as the end of the
    block does.
    """
    asked_at = trio.current_time()
    granted = await grant(calls, ttl_s)
    lease = Lease(granted.ID, granted.TTL, asked_at)
    keeper, block = trio.CancelScope(), trio.CancelScope()
    try:
        nursery.start_soon(lease._keep, calls, keeper, block)
        with block:
            yield lease
    finally:
        keeper.cancel()
        with trio.move_on_after(REVOKE_S, shield=True):
            try:
                await revoke(calls, lease.id)
            except (ProposalError, trio.ClosedResourceError):
                pass  # it is gone already, or expires by itself
    if lease.lost.is_set():
        why = lease._error or "it was not renewed in time, or it was revoked"
        raise LeaseLost(f"lease {lease.id:016x} was lost: {why}") from lease._error


# ---------------------------------------------------------------- calls


async def grant(calls: Calls, ttl_s: int, lease_id: int | None = None) -> rpc_pb2.LeaseGrantResponse:
    """Grant a lease. Without an id it is granted again if the answer is lost: what was granted expires."""
    check_number("a TTL", ttl_s)
    check_number("a lease", lease_id)
    method = LEASE_GRANT_ANY if lease_id is None else LEASE_GRANT
    return await calls.make(method, rpc_pb2.LeaseGrantRequest(TTL=ttl_s, ID=lease_id))


async def revoke(calls: Calls, lease_id: int) -> rpc_pb2.LeaseRevokeResponse:
    """End a lease, and delete its keys."""
    check_number("a lease", lease_id)
    return await calls.make(LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=lease_id))


async def time_to_live(calls: Calls, lease_id: int, *, keys: bool) -> LeaseStatus | None:
    """What a lease has left; None if there is no such lease."""
    check_number("a lease", lease_id)
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
    answer = await calls.make(LEASE_TIME_TO_LIVE, request)
    if answer.TTL < 0:
        return None
    return LeaseStatus(answer.ID, answer.TTL, answer.grantedTTL, tuple(answer.keys))


async def list_leases(calls: Calls) -> tuple[int, ...]:
    """The ids of all leases."""
    answer = await calls.make(LEASE_LIST, rpc_pb2.LeaseLeasesRequest())
    return tuple(each.ID for each in answer.leases)


async def keep_alive_once(calls: Calls, lease_id: int) -> int:
    """Renew a lease once; its TTL. Raises CallRefused if there is no such lease."""
    check_number("a lease", lease_id)
    response, _ = await keep_alive(calls, lease_id)
    if response.TTL <= 0:
        raise CallRefused(int(Code.NOT_FOUND), _NOT_FOUND, Failure.LEASE_NOT_FOUND)
    return response.TTL


async def keep_alive(
    calls: Calls, lease_id: int, attempt_s: float | None = None
) -> tuple[rpc_pb2.LeaseKeepAliveResponse, float]:
    """Renew a lease until a server answers; the response, and when its request was sent.

    Args:
        attempt_s: after so long without an answer, the next endpoint is asked.

    Raises CallRefused, and ClosedResourceError if the client is closed. Cancelled, it may have been renewed.
    """
    pause_s, showing = FIRST_PAUSE_S, Showing(calls.tokens)
    while True:
        shown = await showing.get()
        connection = await calls.connections.get()
        sent_at = trio.current_time()
        error: CallError | None = None
        try:
            with trio.move_on_after(float("inf") if attempt_s is None else attempt_s):
                async with connection.channel.stream(KEEP_ALIVE_PATH, shown, is_lasting=True) as stream:
                    await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
                    stream.end()
                    async for content in stream:
                        return rpc_pb2.LeaseKeepAliveResponse.FromString(content), sent_at
                    raise CallLost("the server has ended the call without an answer")
        except DecodeError:
            error = CallLost("the server's answer is no message of etcd's")
        except (RpcError, CallLost, CallNotExecuted) as caught:
            error = caught
        if error is None:
            calls.connections.leave(connection, "no answer to a keep-alive")
            continue
        if showing.is_renewed(error):
            continue
        if calls.look_at(error, connection) is Outcome.REFUSED:
            raise refusal_of(error) from error
        pause_s = await pause(error, pause_s)
