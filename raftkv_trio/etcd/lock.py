"""The Lock service: who holds a lock has the oldest key under its name (`access/candidates.py`)."""

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.etcd.answers import succeeded
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.etcd.sessions import Sessions, unknown
from raftkv_trio.kv import Delete, Txn, encode_command
from raftkv_trio.schema import v3lock_pb2


class LockHandlers:
    """Answers the calls of the Lock service.

    Every method raises RpcError, and errors for which `errors.rpc_error_of` knows etcd's text.
    """

    def __init__(self, replicated: ReplicatedStore, sessions: Sessions) -> None:
        self._replicated = replicated
        self._sessions = sessions

    async def lock(self, request: v3lock_pb2.LockRequest, call: Call) -> v3lock_pb2.LockResponse:
        """Wait for a lock; the response has the key that holds it.

        If the lease ends while the client waits, that is an error, and not a lock without a key as in etcd
        3.4. Cancellation leaves the queue, except if it comes before the request is applied: then the lease
        may hold the lock.
        """
        lease_id = await self._sessions.lease(request.lease, call)
        candidate = await self._sessions.enter(request.name, lease_id, b"", call)
        await self._sessions.wait_turn(candidate, unknown("mutex: session is expired"), request.name, call)
        header = header_of(self._replicated, self._replicated.store.revision)
        return v3lock_pb2.LockResponse(header=header, key=candidate.key)

    async def unlock(self, request: v3lock_pb2.UnlockRequest, call: Call) -> v3lock_pb2.UnlockResponse:
        """Give a lock back, by its key. Cancellation gives that up; it may or may not be applied."""
        if not request.key:
            raise unknown("etcdserver: key is not provided")
        command = encode_command(Txn((), (Delete(request.key),), ()), call.actor)
        result = succeeded((await self._replicated.write(command)).result)
        return v3lock_pb2.UnlockResponse(header=header_of(self._replicated, result.revision))
