"""What the Lock and the Election service share: sessions, and how they fail."""

from typing import NoReturn

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.candidates import Candidate, Candidates
from raftkv_trio.access.leases import Lessor
from raftkv_trio.etcd.answers import raise_failed
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.capability import check_level
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.kv import Access, LeaseGranted, prefix_end
from raftkv_trio.payload.levels import LEASES

#: Of a lease that is granted because a request names none; nobody keeps it alive. As in etcd.
SESSION_TTL_S = 60


class Sessions:
    """Candidates by their leases."""

    def __init__(self, replicated: ReplicatedStore, candidates: Candidates, lessor: Lessor) -> None:
        self._replicated = replicated
        self._candidates = candidates
        self._lessor = lessor

    async def lease(self, lease_id: int, call: Call) -> int:
        """The lease of a request; 0 stands for a new one. Raises as `LeaseHandlers.lease_grant`."""
        check_level(self._replicated.node, LEASES)
        if lease_id < 0:
            raise unknown(Fault.LEASE_NOT_FOUND.error().text)
        if lease_id:
            return lease_id
        granted = await self._lessor.grant(0, SESSION_TTL_S, call.actor)
        if not isinstance(granted, LeaseGranted):
            fail(granted)
        return granted.id

    async def enter(self, name: bytes, lease_id: int, value: bytes, call: Call) -> Candidate:
        """Queue under a name. Raises RpcError and ProposalError; cancellation is that of `Candidates`."""
        candidate = await self._candidates.enter(name, lease_id, value, call.actor)
        if not isinstance(candidate, Candidate):
            fail(candidate)
        return candidate

    def check_queue(self, name: bytes, call: Call) -> None:
        """Raise AuthFailed unless who asks may read the keys of all who queue under a name."""
        prefix = name + b"/"
        self._replicated.store.auth.check_range(call.actor, Access.READ, prefix, prefix_end(prefix))

    async def wait_turn(self, candidate: Candidate, ended: RpcError, name: bytes, call: Call) -> None:
        """Wait for the turn of a candidate, whose key is deleted if the wait does not end so.

        Raises NoLeader if the node stops, `ended` if the candidate's lease, or somebody, ends it, and
        AuthFailed if who asks may not read the keys of the queue any more.
        """
        has_turn = None
        try:
            is_first = await self._candidates.wait_turn(candidate)
            self.check_queue(name, call)
            has_turn = is_first
        finally:
            if has_turn is None:
                self._candidates.abandon(candidate)
        if not has_turn:
            raise ended


def fail(result: object) -> NoReturn:
    """Raise RpcError for what the store refuses, under the code that these services have in etcd."""
    try:
        raise_failed(result)
    except RpcError as error:
        raise unknown(error.text) from None


def unknown(text: str) -> RpcError:
    """An error of these services, which etcd gives no code of its own."""
    return RpcError(Code.UNKNOWN, text)
