"""The Maintenance service: what an operator asks of one member."""

from collections.abc import AsyncIterator
from hashlib import sha256

import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import TransferFailed
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.capability import check_whole
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.grpc import Code, RpcError, Send
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.storage.backup_trailer import trailer_of

#: The version of etcd whose API this is. Clients read three numbers in it.
ETCD_VERSION = "3.4.23"
BLOB_BYTES = 32 * 1024
#: So many changes are looked at at once for a hash of the past: that takes some milliseconds.
HASH_CHANGES = 500


class MaintenanceHandlers:
    """Answers the calls of the Maintenance service, each about this member.

    Every method raises RpcError, and errors that `errors.rpc_error_of` knows a text for.
    """

    def __init__(self, replicated: ReplicatedStore, config: RestConfig) -> None:
        self._replicated = replicated
        self._node = replicated.node
        self._store = replicated.store
        self._config = config

    async def status(self, request: rpc_pb2.StatusRequest, call: Call) -> rpc_pb2.StatusResponse:
        """How far this member is, and who leads; sizes are of keys and values, with their history.

        While a snapshot is being restored, there is neither a revision nor a size.
        """
        seen = self._node.status()
        members = {member.id: member for member in self._node.members()}
        size, revision, errors = 0, None, []
        if self._node.is_restoring:
            errors.append(Fault.UNHEALTHY.error().text)
        else:
            size, revision = self._store.size_bytes + self._store.history_bytes, self._store.revision
        if seen.leader_id is None:
            errors.append(Fault.NO_LEADER.error().text)
        return rpc_pb2.StatusResponse(
            header=header_of(self._replicated, revision),
            version=ETCD_VERSION,
            dbSize=size,
            dbSizeInUse=size,
            leader=seen.leader_id or 0,
            raftIndex=seen.commit_index,
            raftTerm=seen.term,
            raftAppliedIndex=seen.applied_index,
            errors=errors,
            isLearner=seen.id in members and members[seen.id].role == "learner",
        )

    async def alarm(self, request: rpc_pb2.AlarmRequest, call: Call) -> rpc_pb2.AlarmResponse:
        """No alarm is ever active: a full store refuses puts, and takes them again, by itself."""
        self._store.auth.check_user(call.actor)
        if request.action != rpc_pb2.AlarmRequest.GET:
            self._store.auth.check_root(call.actor)
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE:
            raise RpcError(Code.UNIMPLEMENTED, "raftkv-trio has no alarms: a full store heals by itself")
        return rpc_pb2.AlarmResponse()

    async def defragment(self, request: rpc_pb2.DefragmentRequest, call: Call) -> rpc_pb2.DefragmentResponse:
        """Nothing to do: the store is in memory, and snapshots have no gaps."""
        self._store.auth.check_root(call.actor)
        return rpc_pb2.DefragmentResponse()

    async def hash(self, request: rpc_pb2.HashRequest, call: Call) -> rpc_pb2.HashResponse:
        """A hash of all that the store holds, equal on all members that have applied as much."""
        check_whole(self._node)
        self._store.auth.check_root(call.actor)
        return rpc_pb2.HashResponse(
            header=header_of(self._replicated, self._store.revision), hash=self._store.hash_at(None)
        )

    async def hash_kv(self, request: rpc_pb2.HashKVRequest, call: Call) -> rpc_pb2.HashKVResponse:
        """A hash of the key-values up to a revision, equal on all members that have it."""
        check_whole(self._node)
        self._store.auth.check_root(call.actor)
        value = await self._hash_at(request.revision if request.revision > 0 else None)
        return rpc_pb2.HashKVResponse(
            header=header_of(self._replicated, self._store.revision),
            hash=value,
            compact_revision=self._store.compacted_revision,
        )

    async def _hash_at(self, revision: int | None) -> int:
        check_whole(self._node)
        for value in self._store.hash_steps(revision, HASH_CHANGES):
            if value is not None:
                return value
            await trio.lowlevel.checkpoint()  # the node's other tasks must not wait for all of it
            check_whole(self._node)
        raise AssertionError("a hash has an end")

    async def move_leader(self, request: rpc_pb2.MoveLeaderRequest, call: Call) -> rpc_pb2.MoveLeaderResponse:
        """Transfer leadership to a voter; only the leader can."""
        if self._node.is_leader:
            await self._replicated.wait_readable()  # a new one may not know yet that users are checked
        self._store.auth.check_root(call.actor)
        if not self._node.is_leader:
            raise Fault.NOT_LEADER.error()
        voters = {member.id for member in self._node.members() if member.role == "voter"}
        if request.targetID not in voters:
            raise Fault.BAD_TRANSFEREE.error()
        if request.targetID != self._node.id:
            with trio.move_on_after(self._config.request_timeout_s) as scope:
                try:
                    await self._node.transfer_leadership(request.targetID)
                except TransferFailed:
                    raise Fault.TRANSFER_TIMED_OUT.error() from None
            if scope.cancelled_caught:
                raise Fault.TRANSFER_TIMED_OUT.error()
        return rpc_pb2.MoveLeaderResponse(header=header_of(self._replicated, self._store.revision))

    async def snapshot(
        self, requests: AsyncIterator[rpc_pb2.SnapshotRequest], call: Call, send: Send
    ) -> None:
        """Stream a backup, which `raftkv-trio restore` takes, in parts.

        Cancellation closes the backup.
        """
        async for _ in requests:
            break
        await self._replicated.wait_readable()
        self._store.auth.check_root(call.actor)
        with await self._node.open_snapshot() as backup:
            offset, so_far = 0, sha256()
            while blob := await backup.read_at(offset, BLOB_BYTES):
                offset += len(blob)
                so_far.update(blob)
                # Never 0 here, which means the end: the trailer follows.
                remaining = max(1, backup.size_bytes - offset)
                await send(rpc_pb2.SnapshotResponse(remaining_bytes=remaining, blob=blob))
            await send(rpc_pb2.SnapshotResponse(blob=trailer_of(offset, so_far)))
