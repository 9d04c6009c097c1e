"""The KV service: ranges, puts, deletes, txns and compactions, on one replicated store.

A write is one command in the log. A read waits for a quorum, unless it is serializable, and then reads what
is applied on this node. So does a txn that only reads: no log entry is made for it.
"""

import trio

from raftkv_trio.access import ReplicatedStore, large_reads
from raftkv_trio.access.compacting import compact
from raftkv_trio.errors import TooLarge
from raftkv_trio.etcd.answers import (
    delete_response,
    put_response,
    raise_failed,
    range_response,
    succeeded,
    txn_response,
)
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.capability import check_level, check_whole
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.etcd.headers import EncodedHeaders, header_of
from raftkv_trio.etcd.operations import (
    delete_of,
    get_of,
    is_serializable,
    put_of,
    shown_by,
    txn_of,
    wants_previous,
)
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.kv import (
    Access,
    CompactResult,
    DeleteResult,
    Failed,
    Failure,
    PutResult,
    Txn,
    TxnResult,
    check_txn,
    encode_command,
    is_read_only,
)
from raftkv_trio.payload.levels import HISTORY
from raftkv_trio.schema import rpc_pb2

#: Etcd's default for `--max-request-bytes`: of a write, as the client has sent it.
MAX_REQUEST_BYTES = 1536 * 1024
_Write = rpc_pb2.PutRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.TxnRequest


class KvHandlers:
    """Answers the calls of the KV service.

    Every method raises RpcError, and errors for which `errors.rpc_error_of` knows etcd's text. Cancellation
    gives a write up; it may or may not be applied.
    """

    def __init__(self, replicated: ReplicatedStore) -> None:
        self._replicated = replicated
        self._node = replicated.node
        self._store = replicated.store
        self._headers = EncodedHeaders(replicated)
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def range(self, request: rpc_pb2.RangeRequest, call: Call) -> rpc_pb2.RangeResponse | bytes:
        """The key-values of a range, at the present or at a past revision."""
        if not request.key:
            raise Fault.EMPTY_KEY.error()
        await self._wait_readable(is_serializable=request.serializable)
        self._check_read(request, call)
        try:
            result = await large_reads.read(self._store, get_of(request))
        except TooLarge as error:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"etcdserver: {error}") from error
        self._check_read(request, call)  # reading in pages takes a while
        header = header_of(self._replicated, result.revision)
        if len(result.key_values) <= large_reads.PAGE_KEYS:
            return range_response(request, result, header)
        # To sort and encode so many in one go would hold up the node.
        return await trio.to_thread.run_sync(
            lambda: range_response(request, result, header).SerializeToString(), limiter=self._one_at_a_time
        )

    def _check_read(self, request: rpc_pb2.RangeRequest, call: Call) -> None:
        self._store.auth.check_range(call.actor, Access.READ, request.key, request.range_end or None)

    async def put(self, request: rpc_pb2.PutRequest, call: Call) -> rpc_pb2.PutResponse | bytes:
        """Put one key."""
        _check_size(request)
        txn = Txn((), (put_of(request),), (), self._replicated.quota_bytes)
        outcome = await self._apply(request, txn, call)
        if outcome == Failed(Failure.KEY_NOT_FOUND) and self._lacks_lease(request):
            # The store looks for the key of `ignore_value` first, as etcd does in a txn. For a put alone etcd
            # looks for the lease first.
            raise Fault.LEASE_NOT_FOUND.error()
        result = succeeded(outcome)
        [put] = result.results
        assert isinstance(put, PutResult)
        if not request.prev_kv:
            return self._headers.of(result.revision)  # which is all that the response has
        return put_response(request, put, header_of(self._replicated, result.revision))

    def _lacks_lease(self, request: rpc_pb2.PutRequest) -> bool:
        return request.lease != 0 and request.lease not in self._store.leases

    async def delete_range(
        self, request: rpc_pb2.DeleteRangeRequest, call: Call
    ) -> rpc_pb2.DeleteRangeResponse:
        """Delete the keys of a range."""
        _check_size(request)
        result = await self._run(request, Txn((), (delete_of(request),), ()), call)
        [delete] = result.results
        assert isinstance(delete, DeleteResult)
        return delete_response(request, delete, header_of(self._replicated, result.revision))

    async def txn(self, request: rpc_pb2.TxnRequest, call: Call) -> rpc_pb2.TxnResponse:
        """Run one of two lists of operations, at one revision."""
        txn = txn_of(request, self._replicated.quota_bytes)
        if is_read_only(txn):
            check_txn(txn)
            await self._wait_readable(is_serializable=is_serializable(request))
            self._store.auth.check_txn(call.actor, txn, self._store.leases)
            result = self._store.read_txn(txn)
        else:
            _check_size(request)
            result = await self._run(request, txn, call)
        return txn_response(request, result, header_of(self._replicated, result.revision))

    async def compact(self, request: rpc_pb2.CompactionRequest, call: Call) -> rpc_pb2.CompactionResponse:
        """Forget what no read at this revision, or a later one, can see."""
        check_level(self._node, HISTORY)
        if request.revision < 0:
            raise Fault.COMPACTED.error()
        result = await compact(self._replicated, request.revision, call.actor)
        if not isinstance(result, CompactResult):
            raise_failed(result)
        return rpc_pb2.CompactionResponse(header=header_of(self._replicated, result.revision))

    async def _wait_readable(self, *, is_serializable: bool) -> None:
        if not is_serializable:
            await self._replicated.wait_readable()
        else:
            check_whole(self._node)

    async def _run(self, request: _Write, txn: Txn, call: Call) -> TxnResult:
        """Put the txn of a request into the log, and return the result; raises RpcError if it was not run."""
        return succeeded(await self._apply(request, txn, call))

    async def _apply(self, request: _Write, txn: Txn, call: Call) -> object:
        """Put the txn of a request into the log, and return its result."""
        check_level(self._node, HISTORY)
        reads = () if call.actor is None else tuple(shown_by(request))
        if call.request_id is None:
            command = encode_command(txn, call.actor, reads=reads)
        else:
            remembers = wants_previous(request)
            command = encode_command(
                txn, call.actor, reads=reads, request_id=call.request_id, remembers_previous=remembers
            )
        return (await self._replicated.write(command)).result


def _check_size(request: _Write) -> None:
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise Fault.TOO_LARGE.error()
