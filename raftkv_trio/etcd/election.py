"""The Election service: the leader has the oldest key under the name (`access/candidates.py`)."""

from collections.abc import AsyncIterator

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.candidates import Candidates
from raftkv_trio.etcd.answers import key_value
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.etcd.sessions import Sessions, fail, unknown
from raftkv_trio.grpc import Send
from raftkv_trio.kv import KeyValue, TxnResult
from raftkv_trio.schema import v3election_pb2 as rpc


class ElectionHandlers:
    """Answers the calls of the Election service.

    Every method raises RpcError, and errors for which `errors.rpc_error_of` knows etcd's text.
    """

    def __init__(self, replicated: ReplicatedStore, candidates: Candidates, sessions: Sessions) -> None:
        self._replicated = replicated
        self._candidates = candidates
        self._sessions = sessions

    async def campaign(self, request: rpc.CampaignRequest, call: Call) -> rpc.CampaignResponse:
        """Wait for leadership. Cancellation withdraws, as `LockHandlers.lock` says."""
        lease_id = await self._sessions.lease(request.lease, call)
        candidate = await self._sessions.enter(request.name, lease_id, request.value, call)
        if candidate.value != request.value:  # of an earlier campaign with this lease
            await self._put(candidate.key, candidate.create_revision, lease_id, request.value, call)
        ended = unknown("election: session is expired")
        await self._sessions.wait_turn(candidate, ended, request.name, call)
        leader = rpc.LeaderKey(
            name=request.name, key=candidate.key, rev=candidate.create_revision, lease=lease_id
        )
        return rpc.CampaignResponse(header=header_of(self._replicated, candidate.revision), leader=leader)

    async def proclaim(self, request: rpc.ProclaimRequest, call: Call) -> rpc.ProclaimResponse:
        """Put another value under the leader's key. Cancellation gives it up; it may be applied or not."""
        _check_leader(request)
        leader = request.leader
        lease_id = await self._sessions.lease(leader.lease, call)
        revision = await self._put(leader.key, leader.rev, lease_id, request.value, call)
        return rpc.ProclaimResponse(header=header_of(self._replicated, revision))

    async def leader(self, request: rpc.LeaderRequest, call: Call) -> rpc.LeaderResponse:
        """The leader's key and value."""
        await self._replicated.wait_readable()
        self._sessions.check_queue(request.name, call)
        leader = await self._candidates.first(request.name + b"/")
        self._sessions.check_queue(request.name, call)  # to look at a long queue takes a while
        if leader is None:
            raise unknown("election: no leader")
        return self._response(self._replicated.store.revision, leader)

    async def observe(self, requests: AsyncIterator[rpc.LeaderRequest], call: Call, send: Send) -> None:
        """Send each leader, and what it proclaims, until the client cancels."""
        async for request in requests:
            await self._replicated.wait_readable()
            self._sessions.check_queue(request.name, call)

            async def tell(revision: int, leader: KeyValue, name: bytes = request.name) -> None:
                self._sessions.check_queue(name, call)
                await send(self._response(revision, leader))

            await self._candidates.tell_leaders(request.name + b"/", tell)

    async def resign(self, request: rpc.ResignRequest, call: Call) -> rpc.ResignResponse:
        """Delete the leader's key, if it is still the leader's. Cancellation is that of `proclaim`."""
        _check_leader(request)
        result = await self._candidates.leave(request.leader.key, request.leader.rev, call.actor)
        if not isinstance(result, TxnResult):
            fail(result)
        return rpc.ResignResponse(header=header_of(self._replicated, result.revision))

    async def _put(self, key: bytes, create_revision: int, lease_id: int, value: bytes, call: Call) -> int:
        """Put another value, and return its revision; raises RpcError if the key is not the leader's."""
        result = await self._candidates.put(key, create_revision, lease_id, value, call.actor)
        if not isinstance(result, TxnResult):
            fail(result)
        if not result.succeeded:
            raise unknown("election: not leader")
        return result.revision

    def _response(self, revision: int, leader: KeyValue) -> rpc.LeaderResponse:
        return rpc.LeaderResponse(header=header_of(self._replicated, revision), kv=key_value(leader))


def _check_leader(request: rpc.ProclaimRequest | rpc.ResignRequest) -> None:
    if not request.HasField("leader"):
        raise unknown('"leader" field must be provided')
